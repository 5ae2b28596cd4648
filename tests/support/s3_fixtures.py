"""Fixtures for tests that need S3."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from cas import Store
from cas.backends.bucket import Bucket
from cas.backends.opening import open_bucket
from cas.keys import STORE
from cas.roots import parse_uri
from cas.settings import Settings

from .s3_server import S3Server, s3_server, why_not


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server, for all tests of a session."""
    reason = why_not()
    if reason is not None:
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    directory: Path = tmp_path_factory.mktemp("s3")
    with s3_server(directory / "server") as server:
        yield server


@pytest.fixture
def s3_environment(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """This process's settings name the server."""
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    return s3


def new_store(uri: str, *, aliases: tuple[str, ...] = ()) -> Store:
    """An empty store in a bucket, which is no more than its settings. :meth:`Store.create` would first look, for
    half a second, whether the server is fit for one: that has its own tests."""
    place = parse_uri(uri)
    assert isinstance(place, Bucket)
    settings = Settings(str(uuid.uuid4()), aliases=aliases)
    open_bucket(place).put(STORE, [settings.encode()], create=True)
    return Store.open(uri)


@pytest.fixture
def bucket(s3_environment: S3Server) -> Iterator[str]:
    """A new bucket on the server that this process's settings name."""
    name = s3_environment.make_bucket(f"test-{uuid.uuid4().hex[:16]}")
    yield name
    s3_environment.empty(name)  # the server keeps all in memory
