"""MLflow on a store in a bucket: directly, and through a server that has the keys."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from cas import Store
from cas.roots import locate
from cas.verify import verify
from tests.support.hub import LoopbackHub
from tests.support.processes import run_fresh
from tests.support.s3_faults import FaultProxy
from tests.support.s3_server import S3Server
from tests.support.servers import MlflowServer

from . import clients
from .conftest import LLAMA, Checkpoint, Site, environment


class OnS3:
    """A server, its store in a bucket behind a counting proxy, and its clients."""

    def __init__(
        self, server: MlflowServer, store: Store, proxy: FaultProxy, keys: dict[str, str], hub: LoopbackHub
    ):
        self.server, self.store, self.proxy, self.keys, self.hub = server, store, proxy, keys, hub
        self.server_cache = server.log.parent.parent / "server-cas"

    def call(self, home: Path, function, *args):
        """In a process of its own, which has the keys only if it needs them."""
        return run_fresh({**environment(self.server, self.hub, home), **self.keys}, function, *args)


@pytest.fixture(scope="module", params=["direct", "proxied"])
def site(
    request: pytest.FixtureRequest, s3: S3Server, sites: dict[str, Site], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OnS3]:
    directory = tmp_path_factory.mktemp("on-s3")
    bucket = s3.make_bucket(f"test-{uuid.uuid4().hex[:16]}")
    uri = f"cas-s3://{bucket}/team"
    hub = sites["direct"].hub
    with FaultProxy(s3.endpoint) as proxy, pytest.MonkeyPatch.context() as patch:
        keys = {**s3.environment(), "AWS_ENDPOINT_URL": proxy.endpoint, "MLFLOW_S3_ENDPOINT_URL": proxy.endpoint}
        for name, value in keys.items():
            patch.setenv(name, value)
        store = Store.create(uri)
        place = {"default_artifact_root" if request.param == "direct" else "artifacts_destination": uri}
        own = {**hub.environment(directory / "hub"), "CAS_CACHE": str(directory / "server-cas"), **keys}
        with MlflowServer(directory / "server", environment=own, **place) as server:
            for name in keys:
                if request.param == "proxied":
                    patch.delenv(name)
            yield OnS3(server, store, proxy, keys=keys if request.param == "direct" else {}, hub=hub)


def test_a_model_is_logged_once_and_loaded_from_the_bucket(site: OnS3, llama: Checkpoint, tmp_path: Path) -> None:
    site.proxy.log.clear()
    logged = site.call(tmp_path / "one", clients.log_by_path, llama.directory)
    assert llama.size <= site.proxy.uploaded() <= llama.size * 1.1
    before = site.proxy.uploaded()
    again = site.call(tmp_path / "two", clients.log_by_path, llama.directory)
    assert site.proxy.uploaded() - before < llama.size * 0.02
    uris = (again.by_id, logged.by_run)
    outputs = site.call(tmp_path / "three", clients.load_and_generate, *uris)
    assert outputs == dict.fromkeys(uris, llama.output)
    if site.keys:  # both loads, by one machine, fetched every blob once
        assert site.proxy.downloaded() <= llama.size * 1.02
    else:  # each load, straight from the bucket: nothing passed through the server
        assert llama.size * 2 <= site.proxy.downloaded() <= llama.size * 2.04
        assert not [
            path for path in site.server_cache.rglob("*") if path.is_file() and path.stat().st_size > 100_000
        ]
    assert verify(site.store).problems == []
    if site.keys:  # MLflow's own client of a server leaves what it downloads in TMPDIR
        assert [path for path in (tmp_path / "three" / "tmp").rglob("*") if path.is_file()] == []


def test_a_reference_is_persisted_into_the_bucket(site: OnS3, llama: Checkpoint, tmp_path: Path) -> None:
    if not site.keys:
        pytest.skip("persisting needs the store at hand, which a client of a server does not have")
    logged = site.call(tmp_path / "one", clients.log_hub_model, LLAMA)
    site.call(tmp_path / "one", clients.persist_ours, logged.by_id)
    root = site.store.artifact_root(locate(logged.location.partition("/team/")[2]).root)
    assert all(entry.blob or entry.inline for entry in root.manifest())
    # Nothing of it lies on this machine's disk, neither in a cache nor in a temporary file.
    kept = [path for path in (tmp_path / "one").rglob("*") if path.is_file() and path.stat().st_size > 1_000_000]
    assert kept == []
