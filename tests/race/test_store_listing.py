"""A listing takes time. Of what comes or goes meanwhile it may show all or nothing, and a reader must cope."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from cas import Store
from cas.backends import Listing, MemoryBackend

ROOT = "7/models/m-1/artifacts"


class SlowBackend(MemoryBackend):
    """Lists only what was there all the time, and lets others do something in the middle of it."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: list[Callable[[], object]] = []

    def list(self, prefix: str) -> Iterator[Listing]:
        before = set(super().list(prefix))
        if self.meanwhile:
            self.meanwhile.pop(0)()
        return iter(before & set(super().list(prefix)))

    def keys(self, prefix: str) -> Iterator[str]:
        return (key for key, _ in self.list(prefix))


@pytest.fixture
def backend() -> SlowBackend:
    backend = SlowBackend()
    root = Store.create(backend).artifact_root(ROOT)
    for number in range(3):
        root.ingest_bytes(b"old", f"old/{number}")
    return backend


def _fold_again(backend: SlowBackend) -> Callable[[], None]:
    """One more log call of another writer, and a fold of all there is."""
    other = Store.open(backend).artifact_root(ROOT)

    def fold() -> None:
        waiting, backend.meanwhile = backend.meanwhile, []
        other.ingest_bytes(b"new", "new")
        other.fold()
        backend.meanwhile = waiting

    return fold


@pytest.mark.parametrize("quiet", [0, 1, 2])
def test_a_reader_sees_everything_though_a_fold_comes_between(backend: SlowBackend, quiet: int) -> None:
    """In the first listing, the second, or the third."""
    backend.meanwhile = [lambda: None] * quiet + [_fold_again(backend)]
    paths = {entry.path for entry in Store.open(backend).artifact_root(ROOT).manifest()}
    assert {"old/0", "old/1", "old/2"} <= paths


@pytest.mark.parametrize("folds", [2, 3])
def test_a_reader_sees_everything_though_there_is_a_fold_in_every_listing(backend: SlowBackend, folds: int) -> None:
    """Two listings that agree may both have missed everything: the first fold, made during the first, was itself
    folded during the second."""
    backend.meanwhile = [_fold_again(backend) for _ in range(folds)]
    paths = {entry.path for entry in Store.open(backend).artifact_root(ROOT).manifest()}
    assert {"old/0", "old/1", "old/2"} <= paths


def test_a_writer_sees_a_conflict_though_a_fold_comes_between(backend: SlowBackend) -> None:
    root = Store.open(backend).artifact_root(ROOT)
    backend.meanwhile = [_fold_again(backend)]
    with pytest.raises(Exception, match="is a directory"):
        root.ingest_bytes(b"a file", "old")


def test_a_later_log_call_wins_though_a_fold_comes_between(backend: SlowBackend) -> None:
    root = Store.open(backend).artifact_root(ROOT)
    backend.meanwhile = [_fold_again(backend)]
    root.ingest_bytes(b"later", "new")
    with Store.open(backend).artifact_root(ROOT).open("new") as file:
        assert file.read() == b"later"
