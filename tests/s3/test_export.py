"""`cas persist --to s3://…`: a plain MLflow model in a bucket."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cas import ArtifactRoot, Store
from cas.backends import Backend
from cas.backends.opening import open_bucket
from cas.roots import parse_uri
from cas_cli.main import main
from cas_mlflow.stock import is_reference
from tests.support.hub import LoopbackHub
from tests.support.processes import run_fresh
from tests.support.s3_faults import Exchange, FaultProxy
from tests.support.s3_server import S3Server

from . import stock_model
from .conftest import MB, PLACE

MLMODEL = b"flavors: {}\nmodel_uuid: m-1\n"


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> str:
    """One of the two: they share what is asked here, and tests/s3/test_copies.py asks both."""
    monkeypatch.setenv("CAS_CLIENT", "obstore")
    return "obstore"


@pytest.fixture(params=["bucket", "disk"])
def root(request: pytest.FixtureRequest, store: Store, tmp_path: Path, large: Path) -> ArtifactRoot:
    root = (store if request.param == "bucket" else Store.create(tmp_path / "disk")).artifact_root(PLACE)
    root.ingest_file(large, "model/weights/1")
    root.ingest_bytes(b"w" * 3 * MB, "model/weights/2")
    root.ingest_bytes(MLMODEL, "model/MLmodel")
    root.ingest_bytes(b"no part of the model", "notes")
    return root


@pytest.fixture
def destination(s3: S3Server, root: ArtifactRoot, bucket: str, proxy: FaultProxy) -> str:
    address = f"s3://{s3.make_bucket(f'{bucket}-plain')}/models/one"
    proxy.log.clear()
    return address


def backend_of(destination: str) -> Backend:
    bucket = parse_uri(destination)
    assert not isinstance(bucket, Path)
    return open_bucket(bucket)


def exported(root: ArtifactRoot, destination: str) -> Result:
    return CliRunner().invoke(main, ["persist", f"{root.store.uri}/{PLACE}/model", "--to", destination])


def test_the_model_lies_there_as_plain_files(root: ArtifactRoot, destination: str, large: Path) -> None:
    done = exported(root, destination)
    assert done.exit_code == 0, done.output
    found = {key: backend_of(destination).read(key) for key in backend_of(destination).keys("")}
    assert found == {"MLmodel": MLMODEL, "weights/1": large.read_bytes(), "weights/2": b"w" * 3 * MB}


def test_what_the_server_can_copy_does_not_pass_here(
    root: ArtifactRoot, destination: str, proxy: FaultProxy
) -> None:
    assert exported(root, destination).exit_code == 0
    sent = sum(len(each.body) for each in proxy.log if each.is_upload)
    if root.store.blobs.local is None:
        assert sum(len(each.body) + len(each.answer) for each in proxy.log) < MB // 8
    else:
        assert sent >= 43 * MB


@pytest.mark.parametrize("name", ["precious", "weights/1"])
def test_what_a_prefix_holds_already_is_left_alone(root: ArtifactRoot, destination: str, name: str) -> None:
    """Also under a name that the model has a file of: it may be somebody's only copy."""
    backend_of(destination).put(name, [b"the only copy"], create=False)
    done = exported(root, destination)
    assert done.exit_code == 1
    assert f"{name!r}" in done.output
    assert {key: backend_of(destination).read(key) for key in backend_of(destination).keys("")} == {
        name: b"the only copy"
    }


def test_a_prefix_in_a_store_is_refused(root: ArtifactRoot, store: Store, proxy: FaultProxy) -> None:
    done = exported(root, f"{store.name}/exports")
    assert done.exit_code == 1
    assert "cas mirror" in done.output
    assert not any(each.is_upload and "exports" in each.path for each in proxy.log)


def test_a_failure_leaves_nothing(
    root: ArtifactRoot, destination: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAS_PATIENCE", "0")

    def refuse(exchange: Exchange) -> None:
        if exchange.method == "PUT" and exchange.path.partition("?")[0].endswith("MLmodel"):
            exchange.refuse(500, "InternalError")

    proxy.before = refuse
    done = exported(root, destination)
    assert done.exit_code == 1
    assert "InternalError" in done.output
    proxy.before = None
    assert [*backend_of(destination).keys("")] == []


@pytest.mark.timeout(300)
def test_weights_that_are_still_on_the_hub_go_straight_into_the_bucket(
    store: Store, s3: S3Server, bucket: str, tmp_path: Path
) -> None:
    """Of a model that plain MLflow has logged by its name only. It loads from there without the Hub."""
    repo, logged, out = (tmp_path / name for name in ("repo", "logged", "out"))
    common = {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "DISABLE_SAFETENSORS_CONVERSION": "1"}
    common["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path}/mlflow.db"
    run_fresh(common, stock_model.make, repo)
    destination = f"s3://{s3.make_bucket(f'{bucket}-plain')}/models/one"
    with LoopbackHub() as hub:
        hub.add_repo("acme/tiny", repo)
        said = run_fresh(common | hub.environment(tmp_path / "one"), stock_model.log, "acme/tiny", logged)
        store.artifact_root(PLACE).ingest_tree(logged, "model")
        before = {*store.backend.keys("")}
        words = ["persist", f"{store.uri}/{PLACE}/model", "--to", destination]
        command = [sys.executable, "-c", "from cas_cli.main import main; main()", *words]
        environment = {**os.environ, **common, **hub.environment(tmp_path / "two")}
        subprocess.run(command, check=True, env=environment, timeout=120)
    assert {*store.backend.keys("")} == before
    assert sum(each.stat().st_size for each in (tmp_path / "two").rglob("*") if each.is_file()) < MB
    backend = backend_of(destination)
    for key in backend.keys(""):
        (out / key).parent.mkdir(parents=True, exist_ok=True)
        (out / key).write_bytes(backend.read(key))
    for shard in repo.glob("*.safetensors"):
        assert (out / "model" / shard.name).read_bytes() == shard.read_bytes()
    assert not is_reference((out / "MLmodel").read_text())
    nowhere = common | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "none")}
    assert run_fresh(nowhere, stock_model.say, out) == said
