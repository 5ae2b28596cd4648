"""What a store must do on every backend: logging, reading, removing, folding, sharing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cas.artifact_root import ArtifactRoot
from cas.store import Store
from cas.testing.fixtures import PLACE, TREE, contents
from cas.testing.reading import Reading
from cas.testing.writing import Writing


class StoreContract(Writing, Reading):
    """Subclass it, name the subclass ``Test…``, and give it the fixture ``store``: a new store as
    ``Store.create`` makes it without further arguments."""

    # Sharing

    def test_what_was_logged_is_there_when_the_store_is_opened_again(
        self, store: Store, root: ArtifactRoot, tree: Path
    ) -> None:
        root.ingest_tree(tree)
        again = self.again(store).artifact_root(PLACE)
        assert contents(again) == TREE
        assert again.manifest().digest == root.manifest().digest

    def test_two_stores_at_one_place_see_each_others_log_calls(self, store: Store, root: ArtifactRoot) -> None:
        other = self.again(store).artifact_root(PLACE)
        for number in range(4):
            one, two = (root, other) if number % 2 else (other, root)
            one.ingest_bytes(b"%d" % number, "file")
            assert contents(two) == {"file": b"%d" % number}
        other.remove("file")
        assert contents(root) == {}

    def test_threads_that_log_at_once_lose_nothing(self, store: Store) -> None:
        roots = [store.artifact_root(PLACE), self.again(store).artifact_root(PLACE)]
        barrier = threading.Barrier(8)

        def work(thread: int) -> None:
            barrier.wait()
            for number in range(10):
                data = b"%d" % number * (10_000 if number % 3 == 0 else 1)
                roots[thread % 2].ingest_bytes(data, f"{thread}/{number}")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        expected = {
            f"{thread}/{number}": b"%d" % number * (10_000 if number % 3 == 0 else 1)
            for thread in range(8)
            for number in range(10)
        }
        for root in (*roots, self.again(store).artifact_root(PLACE)):
            assert contents(root) == expected
