"""A large file of a client of a real server goes to the bucket, and comes from it, past the server."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

from cas import Store
from cas.testing.fixtures import contents
from tests.adapters.deployment import CLIENT, new_run
from tests.support.s3_server import S3Server
from tests.support.servers import MlflowServer

MB = 1 << 20
SIZE = int(os.environ.get("CAS_TEST_PROXIED_MB", "256")) * MB


def processes_of(server: MlflowServer) -> list[psutil.Process]:
    """Those of the process group that the server is."""
    leader = next(each for each in psutil.process_iter() if f"--port {server.port}" in " ".join(_command(each)))
    return [leader, *leader.children(recursive=True)]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def written(server: MlflowServer) -> int:
    return sum(each.io_counters().write_bytes for each in processes_of(server))


def peak(server: MlflowServer) -> int:
    """The largest resident memory that any process of the server ever had."""
    statuses = [Path(f"/proc/{each.pid}/status").read_text() for each in processes_of(server)]
    return max(int(text.partition("VmHWM:")[2].split()[0]) * 1024 for text in statuses if "VmHWM:" in text)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    with path.open("wb") as file:
        for _ in range(SIZE // MB):
            file.write(os.urandom(MB))
    return path


def test_it_passes_the_server_by_in_both_directions(
    s3_environment: S3Server, bucket: str, tmp_path: Path, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"cas-s3://{bucket}/team"
    store, run = Store.create(uri), new_run()
    own = {
        "CAS_STAT_CACHE": str(tmp_path / "server-stat.sqlite3"),
        "CAS_CACHE": str(tmp_path / "server-cache"),
        "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "true",
    }
    with MlflowServer(tmp_path / "server", environment=own, artifacts_destination=uri) as server:
        client = {
            **CLIENT,
            "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "true",
            "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "true",
            "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": str(8 * MB),
            "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE": str(8 * MB),
        }
        for name, value in client.items():
            monkeypatch.setenv(name, value)
        for name in s3_environment.environment():
            monkeypatch.delenv(name)  # a client has no keys
        repository = MlflowArtifactsRepository(f"mlflow-artifacts:/{run}", tracking_uri=server.uri)
        small = tmp_path / "small"
        small.write_bytes(b"first, so that everything is imported")
        repository.log_artifact(str(small))
        disk, memory = written(server), peak(server)
        repository.log_artifact(str(large), "model")
        (tmp_path / "out").mkdir()
        back = repository.download_artifacts("model/weights.safetensors", str(tmp_path / "out"))
        assert written(server) - disk < MB
        assert peak(server) - memory < 200 * MB
        log = server.log.read_text(errors="replace")
    assert Path(back).read_bytes() == large.read_bytes()
    for secret in ("testsecret", "X-Amz-Signature"):
        assert secret not in log
    for name, value in s3_environment.environment().items():
        monkeypatch.setenv(name, value)
    assert contents(store.artifact_root(run))["model/weights.safetensors"] == large.read_bytes()
    assert list(store.backend.keys("intents/")) == []
    assert [key for key in store.backend.keys("tmp/") if not key.endswith(".done")] == []
