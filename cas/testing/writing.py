"""Logging, removing and folding, on any backend."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cas.artifact_root import ArtifactRoot
from cas.digest import digest_of
from cas.errors import InvalidPath, PathConflict, PathNotFound, StoreExists
from cas.keys import BLOBS, CONDEMNED, MANIFESTS
from cas.manifest import Manifest
from cas.store import Store
from cas.testing.fixtures import LARGE, PLACE, SMALL, TREE, SourceError, StoreFixtures, contents
from cas.ulid import new_ulid


class Writing(StoreFixtures):
    """Part of :class:`cas.testing.StoreContract`."""

    # Logging

    @pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
    def test_bytes_are_logged_and_read(self, root: ArtifactRoot, data: bytes) -> None:
        root.ingest_bytes(data, "a/file")
        assert contents(root) == {"a/file": data}
        entry = root.entry("a/file")
        assert (entry.size, entry.digest, entry.origin) == (len(data), digest_of(data), None)

    @pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
    def test_a_file_is_logged_and_stays_the_users(self, root: ArtifactRoot, tmp_path: Path, data: bytes) -> None:
        source = tmp_path / "source"
        source.write_bytes(data)
        before = source.stat()
        root.ingest_file(source, "file")
        assert contents(root) == {"file": data}
        after = source.stat()
        assert (after.st_mode, after.st_mtime_ns, after.st_nlink) == (before.st_mode, before.st_mtime_ns, 1)

    @pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
    def test_a_stream_is_logged(self, root: ArtifactRoot, data: bytes) -> None:
        root.ingest_stream((data[start : start + 7000] for start in range(0, len(data), 7000)), "file")
        assert contents(root) == {"file": data}

    @pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
    def test_staged_bytes_are_logged(self, store: Store, root: ArtifactRoot, data: bytes) -> None:
        staging = store.staging()
        staging.write(data[:5])
        staging.write(data[5:])
        root.ingest_staged(staging.finish(), "file")
        assert contents(root) == {"file": data}

    def test_a_tree_is_logged_as_it_is(self, root: ArtifactRoot, tree: Path) -> None:
        root.ingest_tree(tree)
        assert contents(root) == TREE

    def test_a_tree_is_logged_below_a_path(self, root: ArtifactRoot, tree: Path) -> None:
        root.ingest_tree(tree, "some/where")
        assert contents(root) == {f"some/where/{path}": data for path, data in TREE.items()}

    def test_a_tree_is_one_log_call(self, store: Store, root: ArtifactRoot, tree: Path) -> None:
        root.ingest_tree(tree)
        assert len(list(store.backend.list(MANIFESTS))) == 1

    def test_a_later_log_call_replaces_an_earlier(self, root: ArtifactRoot) -> None:
        for data in (SMALL, LARGE, b"short", LARGE[1:]):
            root.ingest_bytes(data, "file")
            assert contents(root) == {"file": data}

    def test_the_same_bytes_are_one_blob(
        self, store: Store, root: ArtifactRoot, tmp_path: Path, tree: Path
    ) -> None:
        source = tmp_path / "source"
        source.write_bytes(LARGE)
        root.ingest_file(source, "one")
        root.ingest_file(source, "two")
        root.ingest_bytes(LARGE, "three")
        store.artifact_root("another").ingest_stream([LARGE], "four")
        self.again(store).artifact_root(PLACE).ingest_tree(tree, "five")
        assert sorted(size for _, size in store.backend.list(BLOBS)) == [len(LARGE) - 1, len(LARGE)]

    def test_a_condemned_blob_is_not_relied_on(self, store: Store, root: ArtifactRoot) -> None:
        """Somebody is about to delete it; the same bytes are stored again under a key of their own."""
        root.ingest_bytes(LARGE, "before")
        condemned = root.entry("before").blob
        store.backend.put(
            f"{CONDEMNED}{new_ulid()}.json", [json.dumps({"keys": [condemned]}).encode()], create=True
        )
        root.ingest_bytes(LARGE, "after")
        assert condemned is not None
        assert root.entry("after").blob not in {condemned, None}
        store.backend.delete([condemned])
        assert contents(root) == {"before": LARGE, "after": LARGE}

    def test_an_odd_name_is_a_name(self, root: ArtifactRoot) -> None:
        names = ["é", "e\u0301", " ", "%2e%2e", "#?&=", "~", "-rf", ".hidden/.x", "C:", "*", "\U0001f600" * 60]
        for name in names:
            root.ingest_bytes(name.encode(), name)
        assert contents(root) == {name: name.encode() for name in names}

    # What is refused, and what fails

    @pytest.mark.parametrize(
        "path", ["", "/abs", "a/../b", "..", ".", "a//b", "a/", "a\\b", "a\0b", "\udcff", "x" * 256]
    )
    def test_a_path_that_is_none_is_refused(self, root: ArtifactRoot, path: str) -> None:
        with pytest.raises(InvalidPath):
            root.ingest_bytes(SMALL, path)
        assert contents(root) == {}

    def test_a_file_cannot_be_where_a_directory_is(self, root: ArtifactRoot) -> None:
        root.ingest_bytes(SMALL, "a/b/file")
        for taken in ("a", "a/b"):
            with pytest.raises(PathConflict):
                root.ingest_bytes(LARGE, taken)
        assert contents(root) == {"a/b/file": SMALL}

    def test_nothing_can_be_below_a_file(self, root: ArtifactRoot, tree: Path) -> None:
        root.ingest_bytes(SMALL, "model")
        with pytest.raises(PathConflict):
            root.ingest_tree(tree)
        assert contents(root) == {"model": SMALL}

    def test_a_removed_file_is_in_nobodys_way(self, root: ArtifactRoot) -> None:
        root.ingest_bytes(SMALL, "a")
        root.remove("a")
        root.ingest_bytes(LARGE, "a/b")
        root.remove("a")
        root.ingest_bytes(SMALL, "a")
        assert contents(root) == {"a": SMALL}

    @pytest.mark.parametrize("before", [0, 1, len(LARGE)])
    def test_a_stream_that_raises_logs_nothing(self, root: ArtifactRoot, before: int) -> None:
        def stream() -> Iterator[bytes]:
            yield LARGE[:before]
            raise SourceError

        with pytest.raises(SourceError):
            root.ingest_stream(stream(), "file")
        assert contents(root) == {}

    def test_files_of_which_one_is_missing_are_not_logged(
        self, store: Store, root: ArtifactRoot, tree: Path
    ) -> None:
        files = {"first": tree / "model/weights/part-1", "missing": tree / "none", "third": tree / "empty"}
        with pytest.raises(FileNotFoundError):
            root.ingest_files(files)
        assert contents(root) == {}
        assert list(store.backend.list(MANIFESTS)) == []

    @pytest.mark.parametrize("path", ["", "taken/below"])
    def test_staged_bytes_that_are_refused_are_thrown_away(
        self, store: Store, root: ArtifactRoot, path: str
    ) -> None:
        root.ingest_bytes(SMALL, "taken")
        staging = store.staging()
        staging.write(LARGE)
        with pytest.raises((InvalidPath, PathConflict)):
            root.ingest_staged(staging.finish(), path)

    def test_a_store_is_made_once(self, store: Store, root: ArtifactRoot) -> None:
        root.ingest_bytes(SMALL, "file")
        with pytest.raises(StoreExists):
            Store.create(store.backend)
        assert self.again(store).settings == store.settings

    # Removing

    def test_a_removed_file_is_gone(self, root: ArtifactRoot, tree: Path) -> None:
        root.ingest_tree(tree)
        assert root.remove("model/MLmodel") == 1
        assert contents(root) == {path: data for path, data in TREE.items() if path != "model/MLmodel"}
        with pytest.raises(PathNotFound):
            root.open("model/MLmodel")

    def test_a_removed_directory_is_gone(self, root: ArtifactRoot, tree: Path) -> None:
        root.ingest_tree(tree)
        assert root.remove("model") == 4
        assert contents(root) == {"empty": b""}
        assert root.list() == [("empty", root.entry("empty"))]

    @pytest.mark.parametrize("path", ["none", "mod", "empty/below"])
    def test_what_is_not_there_needs_no_removing(
        self, store: Store, root: ArtifactRoot, tree: Path, path: str
    ) -> None:
        root.ingest_tree(tree)
        assert root.remove(path) == 0
        assert len(list(store.backend.list(MANIFESTS))) == 1

    def test_everything_can_be_removed_and_logged_again(self, root: ArtifactRoot, tree: Path) -> None:
        root.ingest_tree(tree)
        before = root.manifest().digest
        assert root.remove() == len(TREE)
        assert root.manifest().digest == Manifest().digest
        root.ingest_tree(tree)
        assert root.manifest().digest == before

    # Folding

    def test_a_fold_changes_nothing_but_the_number_of_fragments(
        self, store: Store, root: ArtifactRoot, tree: Path
    ) -> None:
        root.ingest_tree(tree)
        for number in range(5):
            root.ingest_bytes(b"%d" % number, "file")
        root.remove("model/weights/part-2")
        before = root.manifest().digest, contents(root)
        other = self.again(store).artifact_root(PLACE)
        other.fold()
        other.fold()  # a fold leaves what it replaced to the next
        assert len(list(store.backend.list(MANIFESTS))) == 1
        for each in (store, self.again(store)):
            again = each.artifact_root(PLACE)
            assert (again.manifest().digest, contents(again)) == before

    def test_many_log_calls_fold_by_themselves(self, store: Store, root: ArtifactRoot) -> None:
        for number in range(80):
            root.ingest_bytes(b"%d" % number, f"file-{number}")
        assert len(list(store.backend.list(MANIFESTS))) < 64
        expected = {f"file-{number}": b"%d" % number for number in range(80)}
        assert contents(root) == expected
        assert contents(self.again(store).artifact_root(PLACE)) == expected

    def test_what_is_logged_after_a_fold_counts(self, store: Store, root: ArtifactRoot) -> None:
        for data in (b"one", b"two"):
            root.ingest_bytes(data, "file")
        root.fold()
        root.ingest_bytes(b"three", "file")
        assert contents(self.again(store).artifact_root(PLACE)) == {"file": b"three"}
