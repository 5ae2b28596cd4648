"""Listing, opening and checking out, on any backend."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from cas.artifact_root import ArtifactRoot
from cas.digest import Digest, digest_of
from cas.errors import BlobNotFound, InvalidPath, PathNotFound
from cas.store import Store
from cas.testing.fixtures import LARGE, PLACE, SMALL, TREE, StoreFixtures, contents, files_below


class Reading(StoreFixtures):
    """Part of :class:`cas.testing.StoreContract`."""

    # Listing

    def test_a_directory_lists_its_files_and_directories(self, root: ArtifactRoot, tree: Path) -> None:
        root.ingest_tree(tree)
        assert [(name, entry and entry.size) for name, entry in root.list()] == [("empty", 0), ("model", None)]
        assert [name for name, _ in root.list("model")] == ["model/MLmodel", "model/weights"]
        assert [(name, entry and entry.size) for name, entry in root.list("model/weights")] == [
            ("model/weights/copy of part 1", len(LARGE)),
            ("model/weights/part-1", len(LARGE)),
            ("model/weights/part-2", len(LARGE) - 1),
        ]

    @pytest.mark.parametrize("path", ["empty", "none", "mod", "model/weights/part"])
    def test_what_is_no_directory_lists_nothing(self, root: ArtifactRoot, tree: Path, path: str) -> None:
        root.ingest_tree(tree)
        assert root.list(path) == []

    def test_the_stores_roots_are_listed(self, store: Store) -> None:
        for path in ("", PLACE, "a/b", "a/b/c", "ab"):
            store.artifact_root(path).ingest_bytes(path.encode(), "file")
        assert [root.path for root in store.artifact_roots()] == ["", PLACE, "a/b", "a/b/c", "ab"]
        assert [root.path for root in store.artifact_roots("a")] == ["a/b", "a/b/c"]

    @pytest.mark.parametrize("other", ["a", "a/b", "a/b/c", "a/B", "a/b ", ".a", "@/a", "a/@"])
    def test_roots_are_apart(self, store: Store, other: str) -> None:
        paths = {"", "a/b/c/d", other}
        for path in paths:
            store.artifact_root(path).ingest_bytes(path.encode(), "file")
        for path in paths:
            assert contents(self.again(store).artifact_root(path)) == {"file": path.encode()}
        assert {root.path for root in store.artifact_roots()} == paths

    def test_the_stores_own_root_has_no_second_name(self, store: Store) -> None:
        """Its fragments are kept under "@", which would otherwise name it, too."""
        with pytest.raises(InvalidPath):
            store.artifact_root("@")

    # Reading

    @pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
    def test_an_open_file_seeks(self, root: ArtifactRoot, data: bytes) -> None:
        root.ingest_bytes(data, "file")
        with root.open("file") as file:
            assert file.seek(0, os.SEEK_END) == len(data)
            assert file.read() == b""
            assert file.seek(-4, os.SEEK_END) == len(data) - 4
            assert file.read() == data[-4:]
            assert file.seek(3) == 3
            assert file.read(5) == data[3:8]
            assert file.seek(-2, os.SEEK_CUR) == 6
            assert file.read(3) == data[6:9]
            assert file.tell() == 9

    @pytest.mark.parametrize("path", ["none", "model", "model/weights", "empty/below"])
    def test_what_is_no_file_cannot_be_opened(self, root: ArtifactRoot, tree: Path, path: str) -> None:
        root.ingest_tree(tree)
        with pytest.raises(PathNotFound):
            root.open(path)

    def test_an_open_file_outlives_its_replacement(self, root: ArtifactRoot) -> None:
        root.ingest_bytes(LARGE, "file")
        with root.open("file") as file:
            assert file.read(10) == LARGE[:10]
            root.ingest_bytes(SMALL, "file")
            root.fold()
            assert file.read() == LARGE[10:]

    def test_a_manifest_once_asked_for_does_not_change(self, root: ArtifactRoot) -> None:
        root.ingest_bytes(SMALL, "file")
        before = root.manifest()
        root.ingest_bytes(LARGE, "other")
        assert [entry.path for entry in before] == ["file"]

    def test_an_entry_of_before_a_fold_is_read_after_it(self, store: Store, root: ArtifactRoot) -> None:
        root.ingest_bytes(SMALL, "file")
        entry = root.entry("file")
        root.ingest_bytes(b"another", "other")
        self.again(store).artifact_root(PLACE).fold()
        with root.open_entry(entry) as file:
            assert file.read() == SMALL

    # Checkout

    @pytest.mark.parametrize("disposable", [True, False])
    def test_a_checkout_writes_everything_below_a_path(
        self, root: ArtifactRoot, tree: Path, tmp_path: Path, *, disposable: bool
    ) -> None:
        root.ingest_tree(tree)
        report = root.checkout("", tmp_path / "all", disposable=disposable)
        assert files_below(tmp_path / "all") == TREE
        assert sum(report.files.values()) == len(TREE)
        assert sum(report.bytes.values()) == sum(map(len, TREE.values()))
        root.checkout("model/weights", tmp_path / "some", disposable=disposable)
        assert files_below(tmp_path / "some") == {
            path: data for path, data in TREE.items() if path.startswith("model/weights/")
        }

    def test_a_checkout_of_a_file_writes_the_file(self, root: ArtifactRoot, tree: Path, tmp_path: Path) -> None:
        root.ingest_tree(tree)
        root.checkout("model/weights/part-2", tmp_path / "out", strip="model")
        assert files_below(tmp_path / "out") == {"weights/part-2": LARGE[:-1]}

    def test_a_checkout_of_nothing_is_an_error(self, root: ArtifactRoot, tree: Path, tmp_path: Path) -> None:
        root.ingest_tree(tree)
        with pytest.raises(PathNotFound):
            root.checkout("mod", tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_writing_to_a_checkout_does_not_reach_the_store(
        self, root: ArtifactRoot, tree: Path, tmp_path: Path
    ) -> None:
        root.ingest_tree(tree)
        root.checkout("", tmp_path / "out")
        for path in TREE:
            (tmp_path / "out" / path).write_bytes(b"changed by the user")
        assert contents(root) == TREE

    # Digests

    def test_a_blob_is_found_by_its_digest(self, store: Store, root: ArtifactRoot) -> None:
        root.ingest_bytes(LARGE, "file")
        with store.blobs.open(digest_of(LARGE), len(LARGE)) as file:
            assert file.read() == LARGE

    def test_a_digest_nobody_logged_is_not_found(self, store: Store, root: ArtifactRoot) -> None:
        root.ingest_bytes(LARGE, "file")
        with pytest.raises(BlobNotFound):
            store.blobs.open(digest_of(b"never logged"), 12)

    def test_aliases_are_kept_only_where_asked_for(self, store: Store, root: ArtifactRoot) -> None:
        root.ingest_bytes(LARGE, "file")
        assert list(store.backend.list("blobs/sha256/")) == []

    @pytest.mark.parametrize("source", ["bytes", "file", "stream"])
    def test_a_blob_is_found_by_its_alias(self, aliasing_store: Store, tmp_path: Path, source: str) -> None:
        root = aliasing_store.artifact_root(PLACE)
        if source == "bytes":
            root.ingest_bytes(LARGE, "file")
        elif source == "file":
            (tmp_path / "source").write_bytes(LARGE)
            root.ingest_file(tmp_path / "source", "file")
        else:
            root.ingest_stream([LARGE[:100], LARGE[100:]], "file")
        sha256 = Digest("sha256", hashlib.sha256(LARGE).hexdigest())
        with self.again(aliasing_store).blobs.open(sha256, len(LARGE)) as file:
            assert file.read() == LARGE
        assert aliasing_store.blobs.aliases(sha256) == [digest_of(LARGE)]
        assert root.entry("file").digest == digest_of(LARGE)
