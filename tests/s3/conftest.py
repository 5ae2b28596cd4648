"""A store in a bucket, behind a proxy that can misbehave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cas import Store
from tests.support.s3_faults import FaultProxy
from tests.support.s3_fixtures import new_store
from tests.support.s3_server import S3Server

MB = 1 << 20
PLACE = "7/0123456789abcdef0123456789abcdef/artifacts"


@pytest.fixture
def proxy(s3_environment: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """What this process takes for the server."""
    with FaultProxy(s3_environment.endpoint) as proxy:
        for name in ("AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL"):
            monkeypatch.setenv(name, proxy.endpoint)
        yield proxy


@pytest.fixture(params=["obstore", "fsspec"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CAS_CLIENT", request.param)
    return str(request.param)


@pytest.fixture
def uri(bucket: str) -> str:
    return f"cas-s3://{bucket}/team/store"


@pytest.fixture
def store(uri: str, client: str, proxy: FaultProxy) -> Store:
    """A new store behind the proxy, with patience for a fault or two."""
    return new_store(uri)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Of several parts and ranges, and unlike any other test's."""
    path = tmp_path / "large"
    seed = str(tmp_path).encode()
    path.write_bytes(b"".join(seed + bytes([number]) * MB for number in range(40)))
    return path
