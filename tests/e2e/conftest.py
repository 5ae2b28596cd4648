"""Two real servers, a client process for each, and a Hub on loopback: made once for all tests here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from cas import Store
from tests.support.hub import LoopbackHub
from tests.support.processes import run_fresh
from tests.support.servers import MlflowServer

from . import clients

P = ParamSpec("P")
R = TypeVar("R")

LLAMA = "acme/tiny-llama"


@dataclass(frozen=True)
class Site:
    """A server, its store, and those who use them.

    Its client is one process for all tests, because such a process takes ten seconds to start.
    """

    name: str
    server: MlflowServer
    store: Path
    hub: LoopbackHub
    client: ProcessPoolExecutor

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call ``function`` in the client's process."""
        return self.client.submit(function, *args, **kwargs).result()

    def call_fresh(self, home: Path, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call ``function`` in a new process, that has ended when this returns."""
        return run_fresh(environment(self.server, self.hub, home), function, *args, **kwargs)

    def environment(self, home: Path) -> dict[str, str]:
        return environment(self.server, self.hub, home)


def environment(server: MlflowServer, hub: LoopbackHub, home: Path) -> dict[str, str]:
    """For a process whose caches and temporary files lie below ``home``; they are its own."""
    temporary = home / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    return {
        **hub.environment(home / "hub-cache"),
        "MLFLOW_TRACKING_URI": server.uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "CAS_CACHE": str(home / "cas-cache"),
        "CAS_PATIENCE": "10",
        "CAS_STAT_CACHE": str(home / "stat-cache.sqlite3"),
        "OMP_NUM_THREADS": "1",  # threads that wait for each other in a spin slow down whatever else runs here
        "TMPDIR": str(temporary),
        "TORCHINDUCTOR_CACHE_DIR": str(home / "torch"),  # else torch leaves a directory in TMPDIR
    }


def _enter(environment: Mapping[str, str]) -> None:
    os.environ.update(environment)


@dataclass(frozen=True)
class Checkpoint:
    """A model as it was before any store saw it."""

    directory: Path
    output: str

    @property
    def shards(self) -> list[Path]:
        return sorted(self.directory.glob("*.safetensors"))

    @property
    def size(self) -> int:
        return sum(shard.stat().st_size for shard in self.shards)


@pytest.fixture(scope="session")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Site]]:
    """A server whose clients reach the store themselves, and one that stores what they send it."""
    with ExitStack() as stack:
        hub = stack.enter_context(LoopbackHub())
        made = {}
        for name in ("direct", "proxied"):
            directory = tmp_path_factory.mktemp(name)
            # A server that stores for others asks the Hub itself whether what they point to is there.
            own = {**hub.environment(directory / "server-hub"), "CAS_CACHE": str(directory / "server-cas")}
            uri = f"cas://{Store.create(directory / 'store').name}"
            if name == "direct":
                server = MlflowServer(directory / "server", default_artifact_root=uri, environment=own)
            else:
                server = MlflowServer(directory / "server", artifacts_destination=uri, environment=own)
            start = (environment(server, hub, directory / "client"),)
            client = stack.enter_context(ProcessPoolExecutor(1, get_context("spawn"), _enter, start))
            client.submit(clients.warm_up)  # while the servers start
            made[name] = Site(name, server, directory / "store", hub, client)
        for site in made.values():
            stack.enter_context(site.server)
        yield made


@pytest.fixture(params=["direct", "proxied"])
def site(request: pytest.FixtureRequest, sites: dict[str, Site]) -> Site:
    return sites[request.param]


@pytest.fixture
def direct(sites: dict[str, Site]) -> Site:
    return sites["direct"]


@pytest.fixture(scope="session")
def make_checkpoint(
    sites: dict[str, Site], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], Checkpoint]:
    """Makes checkpoints of 16 MB in 8 shards; other seeds, other bytes."""

    def make(seed: int) -> Checkpoint:
        directory = tmp_path_factory.mktemp("checkpoint")
        # Nine are asked for: that small a model is not cut evenly.
        output = sites["direct"].call(clients.make_checkpoint, directory, megabytes=16, shards=9, seed=seed)
        made = Checkpoint(directory, output)
        assert len(made.shards) == 8
        return made

    return make


@pytest.fixture(scope="session")
def llama(sites: dict[str, Site], make_checkpoint: Callable[[int], Checkpoint]) -> Checkpoint:
    """The checkpoint that the Hub serves."""
    made = make_checkpoint(0)
    sites["direct"].hub.add_repo(LLAMA, made.directory)
    return made
