"""Many log calls stay cheap to read: fragments are folded."""

import os
from pathlib import Path

import cas
from cas.history import _FOLD_FROM
from tests.support.reading import read


def fragments(root: cas.ArtifactRoot) -> list[str]:
    return [key for key, _ in root.store.backend.list(f"manifests/{root.path}/")]


def test_fragments_of_many_log_calls_are_folded(root: cas.ArtifactRoot):
    contents = {f"file-{number}": os.urandom(100) for number in range(3 * _FOLD_FROM)}
    for path, data in contents.items():
        root.ingest_bytes(data, path)
    assert len(fragments(root)) < 2 * _FOLD_FROM
    again = cas.Store.open(root.store.name).artifact_root(root.path)
    assert {entry.path: read(again, entry.path) for entry in again.manifest()} == contents


def test_a_fold_says_what_its_fragments_said(root: cas.ArtifactRoot):
    for number in range(5):
        root.ingest_bytes(b"%d" % number, f"dir/{number}")
    root.ingest_bytes(b"new", "dir/1")
    root.remove("dir/2")
    before = root.manifest().digest
    root.fold()
    root.ingest_bytes(b"new", "dir/1")  # what the fold replaced goes with the next log call
    assert len(fragments(root)) == 2
    for reader in (root, cas.Store.open(root.store.name).artifact_root(root.path)):
        assert reader.manifest().digest == before
        assert read(reader, "dir/1") == b"new"


def test_what_a_fold_replaced_goes_with_the_next_log_call(root: cas.ArtifactRoot):
    """Not at once: a listing in no order might then show neither. A fold that dies leaves nothing else either."""
    for number in range(3):
        root.ingest_bytes(b"%d" % number, f"{number}")
    root.fold()
    assert len(fragments(root)) == 4
    again = cas.Store.open(root.store.name).artifact_root(root.path)
    again.ingest_bytes(b"next", "next")
    assert len(fragments(root)) == 2
    assert [entry.path for entry in again.manifest()] == ["0", "1", "2", "next"]


def test_a_reader_that_knew_the_fragments_reads_small_files_from_their_fold(root: cas.ArtifactRoot):
    root.ingest_bytes(b"one", "one")
    root.ingest_bytes(b"two", "two")
    entry = root.entry("one")
    cas.Store.open(root.store.name).artifact_root(root.path).fold()
    with root.open_entry(entry) as file:
        assert file.read() == b"one"


def test_a_later_call_wins_whatever_the_clock_says(root: cas.ArtifactRoot):
    from cas.fragment import Fragment, Record, encode
    from cas.keys import fragment_key

    future = "7" + "0" * 25  # some machine's clock runs centuries ahead
    entry = cas.Entry("file", 3, cas.Digest.parse("blake3:" + "0" * 64))
    parts = encode(Fragment(future, {"file": Record(future, "file", entry)}), {"file": b"old"})
    root.store.backend.put(fragment_key(root.path, future), parts, create=True)
    root.ingest_bytes(b"new", "file")
    assert read(root, "file") == b"new"


def test_a_directory_is_visible_whole_or_not_at_all(root: cas.ArtifactRoot, tmp_path: Path):
    """The files of one log call stand in one fragment."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(50):
        (tree / f"{number}").write_bytes(os.urandom(500 * number))
    root.ingest_tree(tree, "dir")
    assert len(fragments(root)) == 1
