"""Fixtures for every test: nothing outside the test's own directory is used."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import cas
from tests.support.tools import require, require_root

pytest_plugins = ["tests.support.s3_fixtures"]


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's stat cache and settings are neither used nor changed."""
    monkeypatch.setenv("CAS_STAT_CACHE", str(tmp_path / "stat-cache.sqlite3"))
    monkeypatch.setenv("CAS_CACHE", str(tmp_path / "cas-cache"))
    for name in (
        "CAS_CACHE_LOGGED",
        "CAS_CACHE_SIZE",
        "CAS_CLIENT",
        "CAS_LINK",
        "CAS_PATIENCE",
        "CAS_STORES",
        "_MLFLOW_SERVER_ARTIFACT_ROOT",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def store(tmp_path: Path) -> cas.Store:
    """An empty local store."""
    return cas.Store.create(tmp_path / "store")


@pytest.fixture
def root(store: cas.Store) -> cas.ArtifactRoot:
    """An artifact root of an empty local store."""
    return store.artifact_root("7/" + "a" * 32 + "/artifacts")


@pytest.fixture(scope="session")
def xfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A mounted file system with reflinks."""
    require_root()
    require("mkfs.xfs", "xfsprogs")
    directory = tmp_path_factory.mktemp("xfs")
    image, mount = directory / "image", directory / "mount"
    mount.mkdir()
    with open(image, "wb") as file:
        file.truncate(400 << 20)
    subprocess.run(["mkfs.xfs", "-q", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(mount)], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=True)
