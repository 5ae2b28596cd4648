"""What is stored is what was hashed, and what was hashed is what was there."""

import hashlib
import os
import threading
import time
from pathlib import Path

import pytest
from blake3 import blake3

import cas
from cas import ingest, staging
from cas.digest import digest_of
from cas.errors import FileChanged, InvalidInput
from cas.userfile import UserFile
from tests.support.reading import bytes_read

SIZES = [0, 1, (16 << 20) - 1, 16 << 20, (16 << 20) + 1, 40 << 20]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "source"


@pytest.mark.parametrize("size", SIZES)
def test_a_staged_file_is_the_source_and_its_digests_are_right(source: Path, tmp_path: Path, size: int):
    data = os.urandom(size)
    source.write_bytes(data)
    staged = ingest.stage_file(source, tmp_path / "private", ("blake3", "sha256"))
    assert (tmp_path / "private").read_bytes() == data
    assert staged.size == size
    assert staged.digests["blake3"].hex == blake3(data).hexdigest()
    assert staged.digests["sha256"].hex == hashlib.sha256(data).hexdigest()
    assert ingest.hash_file(source, ("blake3",)).digest == staged.digest
    assert ingest.hash_sealed(tmp_path / "private").digest == staged.digest


@pytest.mark.root
def test_a_file_system_with_reflinks_shares_the_bytes(xfs: Path):
    source = xfs / "source"
    source.write_bytes(os.urandom(30 << 20))
    os.sync()
    free = os.statvfs(xfs).f_bfree
    staged = ingest.stage_file(source, xfs / "private", ("blake3",))
    os.sync()
    assert staged.digest.hex == blake3(source.read_bytes()).hexdigest()
    assert (free - os.statvfs(xfs).f_bfree) * os.statvfs(xfs).f_bsize < 1 << 20


def test_a_copy_to_another_file_system_is_hashed_likewise(source: Path):
    data = os.urandom(3 << 20)
    source.write_bytes(data)
    private = Path("/dev/shm") / f"cas-test-{os.getpid()}"
    try:
        assert ingest.stage_file(source, private, ("blake3",)).digest.hex == blake3(data).hexdigest()
        assert private.read_bytes() == data
    finally:
        private.unlink(missing_ok=True)


def test_a_file_that_is_being_written_is_refused_and_leaves_nothing(source: Path, tmp_path: Path):
    source.write_bytes(bytes(32 << 20))
    stop = threading.Event()

    def scribble() -> None:
        with open(source, "r+b", buffering=0) as file:
            while not stop.is_set():
                file.seek(0)
                file.write(os.urandom(4096))

    thread = threading.Thread(target=scribble)
    thread.start()
    try:
        with pytest.raises(FileChanged, match="source"):
            ingest.stage_file(source, tmp_path / "private", ("blake3",))
    finally:
        stop.set()
        thread.join()
    assert not (tmp_path / "private").exists()


def test_a_stream_that_fails_leaves_nothing(tmp_path: Path):
    def broken():
        yield b"some"
        raise ConnectionError("cut")

    with pytest.raises(ConnectionError):
        staging.stage_stream(broken(), tmp_path / "private", ("blake3",))
    assert not (tmp_path / "private").exists()


def test_a_private_file_is_never_opened_through_somebody_elses_link(source: Path, tmp_path: Path):
    source.write_bytes(b"bytes")
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "private").symlink_to(victim)
    with pytest.raises(FileExistsError):
        ingest.stage_file(source, tmp_path / "private", ("blake3",))
    assert victim.read_bytes() == b"precious"


def test_what_is_not_a_regular_file_is_refused(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(InvalidInput, match="not a regular file"):
            ingest.hash_file(path, ("blake3",))


def test_an_unchanged_file_is_logged_again_without_being_read(root: cas.ArtifactRoot, source: Path):
    source.write_bytes(os.urandom(4 << 20))
    time.sleep(0.05)  # past the tick in which it changed: before that, no stat can be believed
    root.ingest_file(source, "first")
    before = bytes_read()
    root.ingest_file(source, "again")
    assert bytes_read() - before < 256 << 10
    assert root.entry("first").blob == root.entry("again").blob


def test_equal_bytes_in_another_file_are_stored_once(root: cas.ArtifactRoot, tmp_path: Path, source: Path):
    data = os.urandom(2 << 20)
    source.write_bytes(data)
    (tmp_path / "copy").write_bytes(data)
    root.ingest_file(source, "one")
    root.ingest_file(tmp_path / "copy", "two")
    root.ingest_bytes(data, "three")
    assert len({root.entry(path).blob for path in ("one", "two", "three")}) == 1


def test_links_in_a_directory_are_followed_and_a_loop_ends(root: cas.ArtifactRoot, tmp_path: Path):
    tree = tmp_path / "tree"
    (tree / "real").mkdir(parents=True)
    (tree / "real" / "file").write_bytes(b"bytes")
    (tree / "linked").symlink_to("real")
    (tree / "file-link").symlink_to("real/file")
    (tree / "real" / "up").symlink_to("..")
    root.ingest_tree(tree)
    assert [entry.path for entry in root.manifest()] == ["file-link", "linked/file", "real/file"]


def test_a_broken_link_fails_the_whole_log_call(root: cas.ArtifactRoot, tmp_path: Path):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a").write_bytes(b"a")
    (tree / "b").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError):
        root.ingest_tree(tree)
    assert len(root.manifest()) == 0


@pytest.mark.parametrize("settled", [True, False])
def test_a_clone_is_hashed_itself_where_a_change_of_its_source_might_not_show(tmp_path: Path, settled: bool):
    original, clone = tmp_path / "source", tmp_path / "clone"
    original.write_bytes(b"s" * (1 << 20))
    clone.write_bytes(b"c" * (1 << 20))  # as if the source had been changed just after it was cloned
    with UserFile(original) as source, clone.open("rb") as file:
        hasher = ingest._hash_cloned(source, file.fileno(), ("blake3",), settled=settled)
    assert hasher.digest() == digest_of((b"s" if settled else b"c") * (1 << 20))
