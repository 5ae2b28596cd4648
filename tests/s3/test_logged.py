"""With CAS_CACHE_LOGGED, what is logged to a bucket from this machine is loaded on it without fetching a weight."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cas import Store
from cas.cache import Cache
from cas.errors import InvalidInput
from cas.ingest import hash_sealed
from cas.keys import parse_blob_key
from tests.support.s3_faults import FaultProxy

from .conftest import MB, PLACE


@pytest.fixture
def client() -> str:
    """Whichever it is: this happens before anything is sent."""
    return "obstore"


@pytest.fixture
def tree(tmp_path: Path, large: Path) -> Path:
    """A model: a small file, one of middle size, and a large one."""
    directory = tmp_path / "model"
    directory.mkdir()
    large.rename(directory / "weights")
    (directory / "tokenizer").write_bytes(os.urandom(300_000))
    (directory / "config").write_bytes(b"{}")
    return directory


def load(store: Store, tree: Path, destination: Path) -> None:
    store.artifact_root(PLACE).checkout("", destination, disposable=True)
    for each in tree.iterdir():
        assert (destination / each.name).read_bytes() == each.read_bytes()


def blobs(cache: Cache) -> list[Path]:
    return [cache.root / each.key for each in cache.contents()]


def test_by_default_nothing_is_kept(store: Store, tree: Path) -> None:
    store.artifact_root(PLACE).ingest_tree(tree)
    assert not store.cache.root.exists()


def test_a_copy_is_loaded_without_fetching(
    store: Store, tree: Path, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAS_CACHE_LOGGED", "copy")
    store.artifact_root(PLACE).ingest_tree(tree)
    proxy.log.clear()
    load(store, tree, tmp_path / "out")
    assert proxy.downloaded() == 0
    assert len(blobs(store.cache)) == 2  # the small file lies in its record
    assert list(store.cache.scratch.directory.glob("*-*")) == []


def test_logged_again_it_is_kept_once(store: Store, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAS_CACHE_LOGGED", "copy")
    monkeypatch.setenv("CAS_STAT_CACHE", "off")
    for run in ("1", "2"):
        Store.open(store.name).artifact_root(f"{run}/{'a' * 32}/artifacts").ingest_tree(tree)
    assert len(blobs(store.cache)) == 2


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A directory on another file system."""
    directory = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield directory
    shutil.rmtree(directory)


def test_what_cannot_be_cloned_is_not_copied(
    store: Store, tree: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAS_CACHE_LOGGED", "reflink")
    monkeypatch.setenv("CAS_CACHE", str(elsewhere / "cache"))
    store.artifact_root(PLACE).ingest_tree(tree)
    assert blobs(store.cache) == []
    assert [each for each in elsewhere.rglob("*") if each.is_file() and each.stat().st_size > 1000] == []


def test_a_reflink_is_loaded_without_fetching(
    store: Store, tree: Path, proxy: FaultProxy, xfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    xfs = Path(tempfile.mkdtemp(dir=xfs))
    monkeypatch.setenv("CAS_CACHE_LOGGED", "reflink")
    monkeypatch.setenv("CAS_CACHE", str(xfs / "cache"))
    monkeypatch.setenv("CAS_CACHE_SIZE", "200MB")
    near = xfs / "model"
    shutil.copytree(tree, near)
    os.sync()
    free = os.statvfs(xfs).f_bavail * os.statvfs(xfs).f_frsize
    store.artifact_root(PLACE).ingest_tree(near)
    assert len(blobs(store.cache)) == 2
    assert free - os.statvfs(xfs).f_bavail * os.statvfs(xfs).f_frsize < 4 * MB  # its extents are the user's
    proxy.log.clear()
    load(store, near, xfs / "out")
    assert proxy.downloaded() == 0


def test_what_is_kept_are_the_bytes_of_its_digest(
    store: Store, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAS_CACHE_LOGGED", "copy")
    store.artifact_root(PLACE).ingest_tree(tree)
    for each in store.cache.contents():
        assert hash_sealed(store.cache.root / each.key).digest == parse_blob_key(each.key)[0]
    (tree / "weights").write_bytes(b"the user goes on")
    load_again = store.artifact_root(PLACE)
    with load_again.open("weights") as file:
        assert file.read(16) != b"the user goes on"


def test_what_was_used_longest_ago_makes_room(store: Store, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAS_CACHE_LOGGED", "copy")
    monkeypatch.setenv("CAS_CACHE_SIZE", "50MB")
    store.artifact_root(PLACE).ingest_tree(tree)
    (tree / "weights").write_bytes(os.urandom(30 * MB))
    store.artifact_root(PLACE).ingest_tree(tree, "later")
    held = store.cache.contents()
    assert sum(each.size for each in held) < 50_000_000
    assert store.artifact_root(PLACE).entry("later/weights").digest in {each.digest for each in held}


def test_one_log_call_may_not_pass_the_bound(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAS_CACHE_LOGGED", "copy")
    monkeypatch.setenv("CAS_CACHE_SIZE", "10MB")
    files = {f"{number}": tmp_path / f"{number}" for number in range(6)}
    for path in files.values():
        path.write_bytes(os.urandom(4_000_000))
    store.artifact_root(PLACE).ingest_files(files)
    assert sum(each.size for each in store.cache.contents()) == 8_000_000
    assert len(store.artifact_root(PLACE).manifest()) == 6


def test_a_cache_that_cannot_be_written_to_stops_no_log_call(
    store: Store, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"no directory")
    monkeypatch.setenv("CAS_CACHE_LOGGED", "copy")
    monkeypatch.setenv("CAS_CACHE", str(tmp_path / "file/cache"))
    with caplog.at_level(logging.WARNING):
        store.artifact_root(PLACE).ingest_tree(tree)
    assert "weights is logged, and not cached" in caplog.text
    monkeypatch.setenv("CAS_CACHE", str(tmp_path / "fresh"))
    load(store, tree, tmp_path / "out")


def test_what_fails_in_the_end_stops_no_log_call(
    store: Store, tree: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CAS_CACHE_LOGGED", "copy")
    store.cache.scratch.directory.mkdir(parents=True, exist_ok=True)
    (store.cache.root / "blobs").write_bytes(b"in the way of every blob")
    with caplog.at_level(logging.WARNING):
        store.artifact_root(PLACE).ingest_tree(tree)
    assert "2 files were logged, and not cached" in caplog.text
    assert len(store.artifact_root(PLACE).manifest()) == 3


def test_other_words_are_refused(store: Store, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAS_CACHE_LOGGED", "hardlink")
    with pytest.raises(InvalidInput, match=r"CAS_CACHE_LOGGED may be reflink, copy or off, not 'hardlink'"):
        store.artifact_root(PLACE).ingest_tree(tree)
    assert len(store.artifact_root(PLACE).manifest()) == 0
