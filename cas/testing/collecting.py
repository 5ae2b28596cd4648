"""What collection must do on every backend: give back what nobody needs, and nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from cas import pins
from cas.artifact_root import ArtifactRoot
from cas.backends import SupportsTimes
from cas.collect import Collected, execute, plan
from cas.condemned import condemned_key, encode_condemned
from cas.digest import digest_of
from cas.errors import IntentAborted, InvalidInput, MalformedRecord, PathNotFound
from cas.history import read_fragment
from cas.keys import (
    BLOBS,
    CONDEMNED,
    INTENTS,
    MANIFESTS,
    UPLOADS,
    blob_key,
    fragment_key,
    intent_key,
    parse_blob_key,
)
from cas.store import Store
from cas.testing.fixtures import LARGE, PLACE, SMALL, TREE, StoreFixtures, contents
from cas.ulid import new_ulid
from cas.writer import Writer

OTHER = LARGE[::-1]
ELSEWHERE = "7/models/m-2/artifacts"
_HOUR, _DAY = 3600.0, 24 * 3600.0


class CollectionContract(StoreFixtures):
    """Subclass it, name the subclass ``Test…``, and give it the fixture ``store``: a new store."""

    @pytest.fixture
    def stack(self) -> Iterator[ExitStack]:
        with ExitStack() as stack:
            yield stack

    @pytest.fixture
    def other(self, store: Store) -> ArtifactRoot:
        return self.again(store).artifact_root(ELSEWHERE)

    # What goes, and what stays

    def test_what_was_removed_goes(self, store: Store, root: ArtifactRoot, other: ArtifactRoot) -> None:
        root.ingest_bytes(LARGE, "removed")
        other.ingest_bytes(OTHER, "kept")
        root.remove()
        done = collected(store)
        assert (done.blobs, done.bytes) == (1, len(LARGE))
        assert sizes(store) == [len(OTHER)]
        assert contents(other) == {"kept": OTHER}

    def test_what_was_replaced_goes(self, store: Store, root: ArtifactRoot) -> None:
        root.ingest_bytes(LARGE, "file")
        root.ingest_bytes(OTHER, "file")
        assert collected(store).blobs == 1
        assert contents(root) == {"file": OTHER}

    def test_what_a_manifest_names_stays(self, store: Store, root: ArtifactRoot, tree: Path) -> None:
        root.ingest_tree(tree)
        before = keys(store)
        assert collected(store) == Collected()
        assert keys(store) == before
        assert contents(root) == TREE

    def test_what_models_share_stays_until_the_last_is_removed(
        self, store: Store, root: ArtifactRoot, other: ArtifactRoot
    ) -> None:
        for each in (root, other):
            each.ingest_bytes(LARGE, "file")
        root.remove()
        assert collected(store).blobs == 0
        assert contents(other) == {"file": LARGE}
        other.remove()
        assert collected(store).blobs == 1
        assert sizes(store) == []

    def test_a_key_nobody_names_goes_though_its_bytes_are_needed(self, store: Store, root: ArtifactRoot) -> None:
        root.ingest_bytes(LARGE, "file")
        store.backend.put(blob_key(digest_of(LARGE), new_ulid()), [LARGE], create=True)
        assert collected(store).blobs == 1
        assert contents(root) == {"file": LARGE}

    def test_a_folded_record_keeps_its_blob(self, store: Store, root: ArtifactRoot, tree: Path) -> None:
        root.ingest_tree(tree)
        root.ingest_bytes(SMALL, "more")
        root.fold()
        root.ingest_bytes(SMALL, "and more")
        assert collected(store).blobs == 0
        assert contents(self.again(store).artifact_root(PLACE)) == TREE | {"more": SMALL, "and more": SMALL}

    def test_aliases_go_with_their_blob_and_stay_with_it(self, aliasing_store: Store) -> None:
        removed, kept = aliasing_store.artifact_root(PLACE), aliasing_store.artifact_root(ELSEWHERE)
        removed.ingest_bytes(LARGE, "file")
        kept.ingest_bytes(OTHER, "file")
        expected = [key for key in keys(aliasing_store, BLOBS) if digest_of(LARGE).hex not in key]
        assert len(keys(aliasing_store, BLOBS)) == 4
        removed.remove()
        collected(aliasing_store)
        assert keys(aliasing_store, BLOBS) == expected
        assert len(expected) == 2

    def test_where_the_named_key_is_gone_another_of_the_digest_stays(
        self, store: Store, root: ArtifactRoot, other: ArtifactRoot
    ) -> None:
        """It was damaged, and the same bytes were logged again: that healed both models."""
        root.ingest_bytes(LARGE, "file")
        damaged = root.entry("file").blob
        assert damaged is not None
        store.backend.delete([damaged])
        other.ingest_bytes(LARGE, "again")
        other.remove()
        assert collected(store).blobs == 0
        assert contents(root) == {"file": LARGE}

    def test_a_reference_holds_no_blob(self, store: Store, root: ArtifactRoot, other: ArtifactRoot) -> None:
        other.ingest_bytes(LARGE, "file")
        other.remove()
        with root.log_call(["reference"]) as writer:
            writer.put_known("reference", digest_of(OTHER), len(OTHER), "hf://models/a/b@" + "0" * 40 + "/file")
            writer.commit()
        assert collected(store).blobs == 1
        assert root.entry("reference").blob is None

    # Grace

    def test_nothing_is_deleted_before_the_grace_period_is_over(self, store: Store, root: ArtifactRoot) -> None:
        root.ingest_bytes(LARGE, "file")
        root.remove()
        for hours in (0, 0, 23):
            assert collected(store, grace=_DAY, after=hours * _HOUR).blobs == 0
            assert sizes(store) == [len(LARGE)]
        assert collected(store, grace=_DAY, after=25 * _HOUR).blobs == 1
        assert sizes(store) == []

    def test_the_grace_period_begins_when_nobody_can_need_it_any_more(
        self, store: Store, root: ArtifactRoot, stack: ExitStack
    ) -> None:
        """A writer relied on the blob before it was condemned; readers began long after."""
        root.ingest_bytes(LARGE, "before")
        writer = holding(stack, root, "file", LARGE)
        root.remove("before")
        condemn(store, keys(store, BLOBS))
        writer.commit()
        assert collected(store, grace=_DAY, after=25 * _HOUR).blobs == 0
        root.remove("file")
        for _ in range(2):
            assert sizes(store) == [len(LARGE)]
            collected(store, grace=_DAY, after=25 * _HOUR)  # the first finds out that it is unneeded
        assert sizes(store) == []

    def test_what_was_folded_stays_for_the_grace_period(self, store: Store, root: ArtifactRoot) -> None:
        root.ingest_bytes(SMALL, "one")
        root.ingest_bytes(SMALL, "two")
        root.fold()
        collected(store, grace=_DAY)
        assert len(keys(store, MANIFESTS)) == 3
        collected(store, grace=_DAY, after=25 * _HOUR)
        assert len(keys(store, MANIFESTS)) == 1
        assert contents(self.again(store).artifact_root(PLACE)) == {"one": SMALL, "two": SMALL}

    # Plans

    def test_a_plan_changes_nothing(self, store: Store, root: ArtifactRoot, tree: Path) -> None:
        root.ingest_tree(tree)
        root.remove("model/weights")
        before = keys(store)
        assert [(step.number, step.bytes) for step in plan(store, grace=0).steps()] == [(2, 2 * len(LARGE) - 1)]
        assert keys(store) == before

    def test_what_is_planned_is_done(self, store: Store, root: ArtifactRoot, tree: Path) -> None:
        root.ingest_tree(tree)
        root.remove("model/weights/part-2")
        made = plan(store, grace=0)
        root.remove("model/weights/part-1")
        root.remove("model/weights/copy of part 1")
        done = execute(store, made)
        assert (done.blobs, done.bytes) == (made.blobs, made.bytes) == (1, len(LARGE) - 1)
        assert sizes(store) == [len(LARGE)]

    def test_what_is_needed_since_it_was_planned_stays(
        self, store: Store, root: ArtifactRoot, other: ArtifactRoot
    ) -> None:
        root.ingest_bytes(LARGE, "file")
        root.remove()
        made = plan(store, grace=0)
        other.ingest_bytes(LARGE, "again")
        assert execute(store, made) == Collected(condemned=1, kept=1)
        assert contents(other) == {"again": LARGE}
        assert sizes(store) == [len(LARGE)]

    def test_a_stale_plan_takes_nothing_that_was_stored_since(
        self, store: Store, root: ArtifactRoot, other: ArtifactRoot
    ) -> None:
        root.ingest_bytes(LARGE, "file")
        root.remove()
        stale = plan(store, grace=0)
        collected(store)
        other.ingest_bytes(LARGE, "again")
        execute(store, stale)
        assert contents(other) == {"again": LARGE}

    def test_collectors_that_cross_are_as_one(self, store: Store, root: ArtifactRoot, other: ArtifactRoot) -> None:
        for each in (root, other):
            each.ingest_bytes(OTHER, "file")
        root.ingest_bytes(LARGE, "removed")
        root.remove()
        plans = [plan(store, grace=0), plan(self.again(store), grace=0)]
        for made in plans:
            execute(store, made)
        assert sizes(store) == [len(OTHER)]
        assert keys(store, CONDEMNED) == []
        assert contents(other) == {"file": OTHER}

    # Writers

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
        assert collected(store, after=23 * _HOUR).blobs == 0
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
        assert collected(store, after=25 * _HOUR).blobs == 1
        assert sizes(store) == []
        assert keys(store, INTENTS) == []

    def test_a_writer_that_was_taken_for_dead_commits_nothing(
        self, store: Store, root: ArtifactRoot, other: ArtifactRoot, stack: ExitStack
    ) -> None:
        root.ingest_bytes(LARGE, "file")
        writer = holding(stack, other, "again", LARGE)
        root.remove()
        collected(store, after=25 * _HOUR)
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
        assert collected(store, after=25 * _HOUR).blobs == 0
        assert keys(store, INTENTS) == []
        assert contents(root) == {"file": LARGE}

    def test_an_intent_a_power_cut_left_empty_goes(self, store: Store, root: ArtifactRoot) -> None:
        root.ingest_bytes(LARGE, "file")
        store.backend.put(intent_key(new_ulid()), [], create=True)
        collected(store, after=23 * _HOUR)
        assert len(keys(store, INTENTS)) == 1
        collected(store, after=25 * _HOUR)
        assert keys(store, INTENTS) == []

    def test_bytes_that_are_condemned_are_stored_anew(
        self, store: Store, root: ArtifactRoot, other: ArtifactRoot
    ) -> None:
        root.ingest_bytes(LARGE, "file")
        root.remove()
        collected(store, grace=_DAY)
        other.ingest_bytes(LARGE, "again")
        assert sizes(store) == [len(LARGE)] * 2
        assert collected(store, grace=_DAY, after=25 * _HOUR).blobs == 1
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

    # What else goes

    def test_much_is_listed_by_prefix(
        self, store: Store, root: ArtifactRoot, tree: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("cas.shards._FEW", 0)
        root.ingest_tree(tree)
        root.remove("model/weights/part-2")
        assert collected(store).blobs == 1
        assert sizes(store) == [len(LARGE)]

    def test_lists_go_when_all_they_name_is_gone(
        self, store: Store, root: ArtifactRoot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("cas.condemning._KEYS", 2)
        for number in range(5):
            root.ingest_bytes(LARGE[number:], f"{number}")
        root.remove()
        collected(store, grace=_DAY)
        assert len(keys(store, CONDEMNED)) == 6  # three that condemn, three that say unneeded
        collected(store, grace=_DAY, after=25 * _HOUR)
        assert sizes(store) == []
        assert keys(store, CONDEMNED) == []

    def test_what_was_folded_goes(self, store: Store, root: ArtifactRoot) -> None:
        root.ingest_bytes(SMALL, "one")
        root.ingest_bytes(SMALL, "two")
        root.fold()
        collected(store)
        assert len(keys(store, MANIFESTS)) == 1
        assert contents(self.again(store).artifact_root(PLACE)) == {"one": SMALL, "two": SMALL}

    def test_small_files_go_too(self, store: Store, root: ArtifactRoot) -> None:
        root.ingest_bytes(b"a secret", "small")
        root.ingest_bytes(LARGE, "large")
        root.remove()
        for _ in range(2):
            collected(store)
        assert not any(b"a secret" in store.backend.read(key) for key in keys(store, MANIFESTS))
        assert list(plan(store, grace=0).steps()) == []
        assert contents(root) == {}

    def test_what_uploads_left_goes_after_two_days(self, store: Store, root: ArtifactRoot) -> None:
        if not isinstance(store.backend, SupportsTimes):
            pytest.skip("this backend does not know when it stored what")
        root.ingest_bytes(SMALL, "file")
        staged = f"{UPLOADS}{digest_of(b'path').hex}/{new_ulid()}"
        store.backend.put(staged, [LARGE], create=True)
        collected(store, after=47 * _HOUR)
        assert keys(store, UPLOADS) == [staged]
        collected(store, after=49 * _HOUR)
        assert keys(store, UPLOADS) == []

    # What cannot be judged

    @pytest.mark.parametrize(
        ("key", "data"),
        [
            (fragment_key(PLACE, "0" * 26), b"garbage"),
            (fragment_key(PLACE, "0" * 26), b"cas-fragment 2 2 " + digest_of(b"{}").hex.encode() + b"\n{}"),
            (intent_key("0" * 26), b"garbage"),
            (f"{INTENTS}unknown", b"{}"),
            (condemned_key("0" * 26), b"garbage"),
            (f"{CONDEMNED}unknown", b'{"keys": []}'),
            (f"{BLOBS}blake3/00/unknown", b""),
        ],
        ids=["fragment", "newer fragment", "intent", "name of an intent", "list", "name of a list", "blob"],
    )
    def test_nothing_is_deleted_where_a_record_cannot_be_read(
        self, store: Store, root: ArtifactRoot, key: str, data: bytes
    ) -> None:
        root.ingest_bytes(LARGE, "file")
        root.remove()
        made = plan(store, grace=0)
        store.backend.put(key, [data], create=True)
        before = keys(store, BLOBS)
        with pytest.raises(MalformedRecord) as caught:
            plan(store, grace=0)
        assert caught.value.key == key
        if key.startswith((MANIFESTS, INTENTS)):
            with pytest.raises(MalformedRecord):
                execute(store, made)
            assert keys(store, BLOBS) == before
        store.backend.delete([key])
        assert collected(store).blobs == 1

    def test_blobs_without_any_manifest_are_not_judged(self, store: Store, root: ArtifactRoot) -> None:
        """Such is a cache; or the manifests were lost, and can be restored."""
        root.ingest_bytes(LARGE, "file")
        store.backend.delete(keys(store, MANIFESTS))
        with pytest.raises(InvalidInput, match="no manifest"):
            plan(store)
        assert sizes(store) == [len(LARGE)]

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


def collected(store: Store, *, grace: float = 0, after: float = 0) -> Collected:
    """Collect as if so many seconds had passed."""
    return execute(store, plan(store, grace=grace, now=time.time() + after))


def keys(store: Store, prefix: str = "") -> list[str]:
    """The keys below a prefix, or every key of records and blobs."""
    prefixes = [prefix] if prefix else [BLOBS, MANIFESTS, INTENTS, CONDEMNED]
    return sorted(key for each in prefixes for key in store.backend.keys(each))


def sizes(store: Store) -> list[int]:
    """Of all blobs."""
    return sorted(size for key, size in store.backend.list(BLOBS) if parse_blob_key(key)[2] is None)


def holding(stack: ExitStack, root: ArtifactRoot, path: str, data: bytes) -> Writer:
    """A writer that has its blobs and has not committed; it leaves when the stack is closed."""
    writer = stack.enter_context(root.log_call([path]))
    writer.put_bytes(path, data)
    writer.hold()
    return writer


def condemn(store: Store, blobs: list[str]) -> None:
    """As a collector does that found them unneeded some time ago."""
    store.backend.put(condemned_key(new_ulid()), [encode_condemned(blobs, unneeded=False)], create=True)
