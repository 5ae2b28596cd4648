"""A Hub on loopback that this process's own huggingface_hub, and so our source, is pointed at."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from cas import Store
from cas.fetch import Fetcher, FetchReport
from cas.manifest import Entry
from cas.sources import source
from cas.supply import Origins
from cas.ulid import new_ulid
from tests.support.hub import LoopbackHub

REPO = "acme/weights"
SIZE = 20_000_003  # several requests of each connection, and a last piece that is not whole


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        constants = huggingface_hub.constants
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf-cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        monkeypatch.setenv("CAS_CACHE", str(tmp_path / "cas-cache"))
        monkeypatch.setenv("CAS_PATIENCE", "3")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        yield hub


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the Hub serves: a file in whose every block is other than every other."""
    directory = tmp_path_factory.mktemp("weights")
    (directory / "model.safetensors").write_bytes(random.Random(7).randbytes(SIZE))
    return directory


@pytest.fixture
def entry(hub: LoopbackHub, weights: Path) -> Entry:
    """The large file of the repository, as a reference."""
    hub.add_repo(REPO, weights)
    (file,) = source("hf").snapshot(REPO).files
    assert file.digest is not None
    return Entry(file.path, file.size, file.digest, file.origin)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


def fetch(store: Store, entry: Entry, *, patience: float = 3) -> FetchReport:
    return Fetcher(store.blobs, Origins(), patience=patience).fetch([entry], new_ulid())


def held(store: Store, entry: Entry) -> bytes:
    """The bytes the store has for an entry."""
    with store.blobs.open(entry.digest, entry.size) as file:
        return file.read()
