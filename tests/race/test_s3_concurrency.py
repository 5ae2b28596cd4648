"""Many uploads at once through a server with several workers, and from another process, into one bucket."""

from __future__ import annotations

import os
import uuid
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

from cas import Store
from cas.testing.fixtures import contents
from cas.verify import verify
from tests.adapters.deployment import CLIENT, new_run
from tests.adapters.files import write_tree
from tests.support.s3_server import S3Server
from tests.support.servers import MlflowServer

from .test_proxied_concurrency import files_of_client, log_directly

PROXIED, DIRECT, THREADS = 400, 200, 16


def enter(environment: dict[str, str]) -> None:
    os.environ.update(environment)


def test_every_file_arrives_whole_in_a_bucket(
    s3_environment: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CLIENT.items():
        monkeypatch.setenv(name, value)
    uri = f"cas-s3://{s3_environment.make_bucket(f'test-{uuid.uuid4().hex[:16]}')}/team"
    store, run = Store.create(uri), new_run()
    through_server = files_of_client("proxied", PROXIED, seed=1)
    beside_it = files_of_client("direct", DIRECT, seed=2)
    source = write_tree(tmp_path / "source", through_server | beside_it)
    own = {"CAS_STAT_CACHE": str(tmp_path / "server-stat.sqlite3"), "CAS_CACHE": str(tmp_path / "server-cache")}
    with (
        MlflowServer(tmp_path / "server", workers=4, environment=own, artifacts_destination=uri) as server,
        ProcessPoolExecutor(1, get_context("spawn"), enter, (dict(os.environ),)) as other,
        ThreadPoolExecutor(THREADS) as threads,
    ):
        direct = other.submit(log_directly, f"{uri}/{run}", str(source), list(beside_it))
        repository = MlflowArtifactsRepository(f"mlflow-artifacts:/{run}", tracking_uri=server.uri)

        def upload(path: str) -> None:
            repository.log_artifact(str(source / path), path.rpartition("/")[0])

        list(threads.map(upload, through_server))
        direct.result()
        log = server.log.read_text(errors="replace")
    assert contents(store.artifact_root(run)) == through_server | beside_it
    assert verify(store).problems == []
    assert list(store.backend.keys("intents/")) == []
    for secret in ("testsecret", "X-Amz-Signature"):
        assert secret not in log
