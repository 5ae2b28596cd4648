"""A small repository, and the real client pointed at a hub by argument, so that each test is one process."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import close_session, hf_hub_download

from tests.support.hub import LoopbackHub

MODEL = "acme/model"
WEIGHTS = "model.safetensors"


@pytest.fixture(autouse=True)
def _own_connections() -> Iterator[None]:
    """The client keeps connections for the whole process, open to hubs that are gone."""
    yield
    close_session()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    directory = tmp_path / "files"
    (directory / "deep").mkdir(parents=True)
    (directory / WEIGHTS).write_bytes(random.Random(0).randbytes(1 << 20))
    (directory / "config.json").write_text('{"a": 1}')
    (directory / "deep" / "notes.txt").write_text("deep")
    return directory


@pytest.fixture
def hub(files: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub() as running:
        running.add_repo(MODEL, files)
        yield running


@pytest.fixture
def download(hub: LoopbackHub, tmp_path: Path) -> Callable[..., bytes]:
    """``download(filename, token=..., repo_id=...)``: the file's bytes; without a token, none of the user's."""

    def download(filename: str, *, token: str | bool = False, repo_id: str = MODEL) -> bytes:
        cache = tmp_path / "cache"
        path = hf_hub_download(repo_id, filename, endpoint=hub.endpoint, cache_dir=cache, token=token)
        return Path(path).read_bytes()

    return download
