"""Collection: what goes besides blobs, and what nobody can judge."""

from __future__ import annotations

from pathlib import Path

import pytest

from cas.artifact_root import ArtifactRoot
from cas.backends import SupportsTimes
from cas.collect import execute, plan
from cas.condemned import condemned_key
from cas.digest import digest_of
from cas.errors import InvalidInput, MalformedRecord
from cas.keys import (
    BLOBS,
    CONDEMNED,
    INTENTS,
    MANIFESTS,
    UPLOADS,
    fragment_key,
    intent_key,
)
from cas.store import Store
from cas.testing.collection import DAY, HOUR, CollectionFixtures, collected, keys, sizes
from cas.testing.fixtures import LARGE, PLACE, SMALL, contents
from cas.ulid import new_ulid


class Leftover(CollectionFixtures):
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
        collected(store, grace=DAY)
        assert len(keys(store, CONDEMNED)) == 6  # three that condemn, three that say unneeded
        collected(store, grace=DAY, after=25 * HOUR)
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
        collected(store, after=47 * HOUR)
        assert keys(store, UPLOADS) == [staged]
        collected(store, after=49 * HOUR)
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
