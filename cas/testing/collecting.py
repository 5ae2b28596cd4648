"""What collection must do on every backend: give back what nobody needs, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from cas import pins
from cas.artifact_root import ArtifactRoot
from cas.errors import InvalidInput, PathNotFound
from cas.store import Store
from cas.testing.beside import BesideWriters
from cas.testing.collection import ELSEWHERE, OTHER, collected
from cas.testing.fixtures import LARGE, PLACE, SMALL, TREE, contents
from cas.testing.leftover import Leftover
from cas.testing.needed import Needed
from cas.ulid import new_ulid


class CollectionContract(Needed, BesideWriters, Leftover):
    """Subclass it, name the subclass ``Test…``, and give it the fixture ``store``: a new store."""

    # Pins

    def test_what_is_pinned_stays_readable_until_it_is_unpinned(
        self, store: Store, root: ArtifactRoot, tree: Path
    ) -> None:
        root.ingest_tree(tree)
        made = pins.pin(store, f"{PLACE}/model")
        root.remove()
        assert collected(store).blobs == 0
        pinned = self.again(store).artifact_root(made.place)
        assert contents(pinned) == {f"{PLACE}/{path}": data for path, data in TREE.items() if path != "empty"}
        assert pins.pins(store) == [made]
        assert pins.unpin(store, made.id) == made
        assert pins.pins(store) == []
        assert collected(store).blobs == 2

    def test_a_pin_of_everything_leaves_out_other_pins(
        self, store: Store, root: ArtifactRoot, other: ArtifactRoot
    ) -> None:
        root.ingest_bytes(LARGE, "file")
        other.ingest_bytes(OTHER, "file")
        store.artifact_root().ingest_bytes(SMALL, "own")
        for _ in range(2):
            assert set(pins.pin(store).paths) == {f"{PLACE}/file", f"{ELSEWHERE}/file", "own"}

    def test_what_is_not_there_cannot_be_pinned_or_unpinned(self, store: Store, root: ArtifactRoot) -> None:
        root.ingest_bytes(LARGE, "file")
        with pytest.raises(PathNotFound):
            pins.pin(store, f"{PLACE}/none")
        with pytest.raises(PathNotFound):
            pins.unpin(store, new_ulid())
        with pytest.raises(InvalidInput):
            pins.unpin(store, "../x")
        assert pins.pins(store) == []
