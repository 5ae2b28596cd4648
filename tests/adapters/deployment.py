"""A store behind a real MLflow server, and ways to reach it: as a client, and with requests nobody has tidied."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

import cas
from cas_mlflow.repository import CasArtifactRepository
from tests.support.servers import MlflowServer

ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
CLIENT = {
    # A request that fails is a failure: MLflow would try for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
}


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Deployment(NamedTuple):
    """A running server, and where its store and its temporary directory are."""

    server: MlflowServer
    store: Path
    temporary: Path

    def request(self, method: str, target: str, body: bytes | None = None) -> Answer:
        """Send a request whose target is exactly ``target``."""
        with self.connection() as connection:
            connection.putrequest(method, target)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
                connection.putheader("Content-Type", "application/json")
            connection.endheaders(body)
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())

    def connection(self) -> closing[HTTPConnection]:
        return closing(HTTPConnection("127.0.0.1", self.server.port, timeout=60))

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for what the server does in its own time. If it never does, the test's time runs out."""
        while not condition():
            time.sleep(0.01)

    def call(self, endpoint: str, **content: Any) -> Any:
        """Call MLflow's REST API, which must succeed."""
        answer = self.request("POST", f"/api/2.0/mlflow/{endpoint}", json.dumps(content).encode())
        assert answer.status == 200, answer.body
        return answer.json

    def get(self, endpoint: str, **query: str) -> Answer:
        return self.request("GET", f"{endpoint}?{urlencode(query)}")

    def create_run(self, experiment_id: str | None = None) -> tuple[str, str]:
        """Start a run, in an experiment of its own if none is named; returns its id and its artifact URI."""
        experiment_id = experiment_id or self.call("experiments/create", name=uuid.uuid4().hex)["experiment_id"]
        info = self.call("runs/create", experiment_id=experiment_id)["run"]["info"]
        return info["run_id"], info["artifact_uri"]

    def proxied(self, run: str) -> MlflowArtifactsRepository:
        """The repository of a place such as ``1/<run id>/artifacts`` as a client of the server has it."""
        return MlflowArtifactsRepository(f"mlflow-artifacts:/{run}", tracking_uri=self.server.uri)

    def direct(self, run: str) -> CasArtifactRepository:
        """The same, as a client that reaches the store itself."""
        return CasArtifactRepository(f"cas://{self.store}/{run}")


@contextmanager
def deployed(directory: Path, *, proxying: bool, workers: int, **environment: str) -> Iterator[Deployment]:
    """A new store with a server in front of it, or beside it."""
    store, temporary = directory / "store", directory / "temporary"
    cas.Store.create(store)
    temporary.mkdir()
    uri = f"cas://{store}"
    environment = {
        "TMPDIR": str(temporary),
        "CAS_STAT_CACHE": str(directory / "stat-cache.sqlite3"),
        **environment,
    }
    destination = {"artifacts_destination": uri} if proxying else {"default_artifact_root": uri}
    with MlflowServer(directory / "server", workers=workers, environment=environment, **destination) as server:
        yield Deployment(server, store, temporary)


def new_run() -> str:
    """The path of an artifact root nobody has used."""
    return f"1/{uuid.uuid4().hex}/artifacts"
