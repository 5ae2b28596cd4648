"""Collection: what goes, what stays, and when; what a plan is worth."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from cas.artifact_root import ArtifactRoot
from cas.collect import Collected, execute, plan
from cas.digest import digest_of
from cas.keys import (
    BLOBS,
    CONDEMNED,
    MANIFESTS,
    blob_key,
)
from cas.store import Store
from cas.testing.collection import (
    DAY,
    ELSEWHERE,
    HOUR,
    OTHER,
    CollectionFixtures,
    collected,
    condemn,
    holding,
    keys,
    sizes,
)
from cas.testing.fixtures import LARGE, PLACE, SMALL, TREE, contents
from cas.ulid import new_ulid


class Needed(CollectionFixtures):
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
            assert collected(store, grace=DAY, after=hours * HOUR).blobs == 0
            assert sizes(store) == [len(LARGE)]
        assert collected(store, grace=DAY, after=25 * HOUR).blobs == 1
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
        assert collected(store, grace=DAY, after=25 * HOUR).blobs == 0
        root.remove("file")
        for _ in range(2):
            assert sizes(store) == [len(LARGE)]
            collected(store, grace=DAY, after=25 * HOUR)  # the first finds out that it is unneeded
        assert sizes(store) == []

    def test_what_was_folded_stays_for_the_grace_period(self, store: Store, root: ArtifactRoot) -> None:
        root.ingest_bytes(SMALL, "one")
        root.ingest_bytes(SMALL, "two")
        root.fold()
        collected(store, grace=DAY)
        assert len(keys(store, MANIFESTS)) == 3
        collected(store, grace=DAY, after=25 * HOUR)
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
