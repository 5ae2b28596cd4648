"""What the parts of the store's conformance suite share: fixtures, a tree to log, and ways to look."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cas.artifact_root import ArtifactRoot
from cas.keys import INTENTS
from cas.store import Store
from cas.verify import verify

SMALL = b"a few bytes"  # these stay inside the fragment
LARGE = bytes(range(256)) * 300  # and these, above every default inline limit, become a blob
PLACE = "7/0123456789abcdef0123456789abcdef/artifacts"
TREE = {
    "model/MLmodel": SMALL,
    "model/weights/part-1": LARGE,
    "model/weights/part-2": LARGE[:-1],
    "model/weights/copy of part 1": LARGE,
    "empty": b"",
}


class StoreFixtures:
    """A store, an artifact root, a tree, and what must hold after every test."""

    @pytest.fixture
    def store(self) -> Store:
        raise NotImplementedError("a subclass's fixture returns an empty store")

    @pytest.fixture
    def aliasing_store(self) -> Store:
        """Optional: a new store made with ``aliases=("sha256",)``."""
        pytest.skip("no store with aliases is made here")

    def again(self, store: Store) -> Store:
        """Another store object over the same bytes. Optional: override it to use another backend, too."""
        return Store.open(store.backend)

    @pytest.fixture
    def root(self, store: Store) -> ArtifactRoot:
        return store.artifact_root(PLACE)

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        """A directory that holds TREE."""
        for name, data in TREE.items():
            file = tmp_path / "tree" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        return tmp_path / "tree"

    @pytest.fixture(autouse=True)
    def _own_settings(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CAS_STAT_CACHE", str(tmp_path / "stat-cache.sqlite3"))
        monkeypatch.delenv("CAS_LINK", raising=False)

    @pytest.fixture(autouse=True)
    def _left_in_order(self, store: Store, _own_settings: None) -> Iterator[None]:
        """After every test: all bytes are right, no intent is left, and no unfinished file."""
        before = set(store.scratch.directory.iterdir())
        yield
        assert verify(store).problems == []
        assert list(store.backend.list(INTENTS)) == []
        assert set(store.scratch.directory.iterdir()) == before


class SourceError(BaseException):
    """What a source of bytes may raise; no Exception, as KeyboardInterrupt is none."""


def contents(root: ArtifactRoot) -> dict[str, bytes]:
    """Every file of an artifact root, read whole."""
    found = {}
    for entry in root.manifest():
        with root.open(entry.path) as file:
            found[entry.path] = file.read()
    return found


def files_below(directory: Path) -> dict[str, bytes]:
    """Every file below a directory."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}
