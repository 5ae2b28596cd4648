"""Servers, which take ten seconds and more to start, are shared by all tests of this directory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import cas
from tests.adapters.deployment import CLIENT, Deployment, deployed


@pytest.fixture(autouse=True)
def _client_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CLIENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def system_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary directory, apart from the test's own: what lies there counts as disposable."""
    directory = tmp_path / "system-temporary"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


@pytest.fixture(scope="session")
def proxying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A server whose artifacts destination is a store, with four workers."""
    with deployed(tmp_path_factory.mktemp("proxying"), proxying=True, workers=4) as deployment:
        yield deployment


@pytest.fixture(scope="session")
def further_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store no server writes to by itself; the directing server may open it, the proxying one may not."""
    path = tmp_path_factory.mktemp("further") / "store"
    cas.Store.create(path)
    return path


@pytest.fixture(scope="session")
def directing(tmp_path_factory: pytest.TempPathFactory, further_store: Path) -> Iterator[Deployment]:
    """A server whose clients write to the store themselves."""
    directory = tmp_path_factory.mktemp("directing")
    with deployed(directory, proxying=False, workers=1, CAS_STORES=f"cas://{further_store}") as deployment:
        yield deployment


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An empty directory for what is to be logged."""
    directory = tmp_path / "source"
    directory.mkdir()
    return directory


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    """An empty directory for what is downloaded, not below the system's temporary one."""
    directory = tmp_path / "destination"
    directory.mkdir()
    return directory
