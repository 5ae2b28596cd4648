"""Collection beside writers: those that live, died, or were taken for dead."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from cas.artifact_root import ArtifactRoot
from cas.collect import Collected
from cas.digest import digest_of
from cas.errors import IntentAborted
from cas.history import read_fragment
from cas.keys import (
    BLOBS,
    CONDEMNED,
    INTENTS,
    blob_key,
    fragment_key,
    intent_key,
)
from cas.store import Store
from cas.testing.collection import (
    DAY,
    ELSEWHERE,
    HOUR,
    CollectionFixtures,
    collected,
    condemn,
    holding,
    keys,
    sizes,
)
from cas.testing.fixtures import LARGE, SMALL, contents
from cas.ulid import new_ulid


class BesideWriters(CollectionFixtures):
    def test_what_a_living_writer_pinned_stays(
        self, store: Store, root: ArtifactRoot, other: ArtifactRoot, stack: ExitStack
    ) -> None:
        root.ingest_bytes(LARGE, "file")
        writer = holding(stack, other, "again", LARGE)
        root.remove()
        assert collected(store).blobs == 0
        writer.commit()
        assert contents(other) == {"again": LARGE}

    def test_what_a_living_writer_stored_stays(self, store: Store, root: ArtifactRoot, stack: ExitStack) -> None:
        store.artifact_root(ELSEWHERE).ingest_bytes(SMALL, "file")
        writer = holding(stack, root, "file", LARGE)
        assert collected(store, after=23 * HOUR).blobs == 0
        writer.commit()
        assert contents(root) == {"file": LARGE}

    def test_what_a_living_writer_stored_and_has_not_pinned_stays(self, store: Store, root: ArtifactRoot) -> None:
        root.ingest_bytes(SMALL, "file")
        with root.log_call() as writer:
            writer.announce()
            store.backend.put(blob_key(digest_of(LARGE), writer.intent), [LARGE], create=True)
            assert collected(store) == Collected()
        assert collected(store).blobs == 1

    def test_what_a_dead_writer_stored_goes_with_its_intent(
        self, store: Store, root: ArtifactRoot, stack: ExitStack
    ) -> None:
        holding(stack, root, "file", LARGE)
        assert collected(store, after=25 * HOUR).blobs == 1
        assert sizes(store) == []
        assert keys(store, INTENTS) == []

    def test_a_writer_that_was_taken_for_dead_commits_nothing(
        self, store: Store, root: ArtifactRoot, other: ArtifactRoot, stack: ExitStack
    ) -> None:
        root.ingest_bytes(LARGE, "file")
        writer = holding(stack, other, "again", LARGE)
        root.remove()
        collected(store, after=25 * HOUR)
        with pytest.raises(IntentAborted):
            writer.commit()
        assert read_fragment(store.backend, fragment_key(ELSEWHERE, writer.intent)).aborted
        assert contents(other) == {}

    def test_an_intent_that_was_left_after_the_commit_goes(self, store: Store, root: ArtifactRoot) -> None:
        """Its writer was killed between the two."""
        with root.log_call(["file"]) as writer:
            writer.put_bytes("file", LARGE)
            writer.hold()
            intent = store.backend.read(intent_key(writer.intent))
            writer.commit()
        store.backend.put(intent_key(writer.intent), [intent], create=True)
        assert collected(store, after=25 * HOUR).blobs == 0
        assert keys(store, INTENTS) == []
        assert contents(root) == {"file": LARGE}

    def test_an_intent_a_power_cut_left_empty_goes(self, store: Store, root: ArtifactRoot) -> None:
        root.ingest_bytes(LARGE, "file")
        store.backend.put(intent_key(new_ulid()), [], create=True)
        collected(store, after=23 * HOUR)
        assert len(keys(store, INTENTS)) == 1
        collected(store, after=25 * HOUR)
        assert keys(store, INTENTS) == []

    def test_bytes_that_are_condemned_are_stored_anew(
        self, store: Store, root: ArtifactRoot, other: ArtifactRoot
    ) -> None:
        root.ingest_bytes(LARGE, "file")
        root.remove()
        collected(store, grace=DAY)
        other.ingest_bytes(LARGE, "again")
        assert sizes(store) == [len(LARGE)] * 2
        assert collected(store, grace=DAY, after=25 * HOUR).blobs == 1
        assert contents(other) == {"again": LARGE}

    def test_a_key_that_was_relied_on_before_it_was_condemned_stays(
        self, store: Store, root: ArtifactRoot, other: ArtifactRoot, stack: ExitStack
    ) -> None:
        root.ingest_bytes(LARGE, "file")
        writer = holding(stack, other, "again", LARGE)
        condemn(store, keys(store, BLOBS))
        writer.commit()
        root.remove()
        for _ in range(2):
            assert collected(store).blobs == 0
        assert len(keys(store, CONDEMNED)) == 1
        assert contents(other) == {"again": LARGE}
        other.remove()
        assert collected(store).blobs == 1
        assert keys(store, CONDEMNED) == []

    def test_threads_that_log_while_others_collect_lose_nothing(self, store: Store) -> None:
        stores = [store, self.again(store)]
        barrier, logging = threading.Barrier(4), threading.Semaphore(0)

        def log(thread: int) -> None:
            root = stores[thread % 2].artifact_root(f"7/models/m-{thread}/artifacts")
            barrier.wait()
            try:
                for number in range(12):
                    root.ingest_bytes(b"%d" % (number % 3) * 20_000, "file")  # the others' bytes, too
                    assert contents(root) == {"file": b"%d" % (number % 3) * 20_000}
                    if number % 4 == 3:
                        root.remove()
                root.ingest_bytes(b"last" * 5_000, "file")
            finally:
                logging.release()

        def collect(thread: int) -> None:
            barrier.wait()
            while not logging.acquire(blocking=False):
                collected(stores[thread % 2])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda call: call[0](call[1]), [(log, 0), (log, 1), (collect, 0), (collect, 1)]))
        for thread in range(2):
            assert contents(store.artifact_root(f"7/models/m-{thread}/artifacts")) == {"file": b"last" * 5_000}
        collected(store)
        assert set(sizes(store)) == {20_000}
