"""The stat cache believes only what cannot have changed."""

import logging
import os
import time
from pathlib import Path

import pytest

from cas.digest import digest_of
from cas.statcache import StatCache

OLD = time.time_ns() - 3600 * 1_000_000_000


@pytest.fixture
def cache(tmp_path: Path) -> StatCache:
    return StatCache(tmp_path / "cache" / "stat.sqlite3")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 1000)
    return path


def remember(cache: StatCache, file: Path, hashed_ns: int) -> None:
    cache.remember(file, file.stat(), {"blake3": digest_of(file.read_bytes())}, hashed_ns)


def later() -> int:
    """As if hashing began well after the file's last change."""
    return time.time_ns() + 10_000_000_000


def test_an_unchanged_file_is_known(cache: StatCache, file: Path):
    remember(cache, file, later())
    assert cache.lookup(file, file.stat()) == {"blake3": digest_of(file.read_bytes())}


def test_it_is_known_to_another_process_too(cache: StatCache, file: Path, tmp_path: Path):
    remember(cache, file, later())
    assert StatCache(tmp_path / "cache" / "stat.sqlite3").lookup(file, file.stat()) is not None


def test_a_file_hashed_in_the_tick_it_changed_in_is_not_believed(cache: StatCache, file: Path):
    remember(cache, file, file.stat().st_mtime_ns + 1)
    assert cache.lookup(file, file.stat()) is None


def test_a_new_size_time_or_inode_is_another_file(cache: StatCache, file: Path, tmp_path: Path):
    remember(cache, file, later())
    copy = tmp_path / "copy"
    copy.write_bytes(file.read_bytes())
    assert cache.lookup(copy, copy.stat()) is None
    os.utime(file, ns=(OLD, OLD))
    assert cache.lookup(file, file.stat()) is None


def test_changed_bytes_under_an_old_time_are_caught_by_ctime(cache: StatCache, file: Path):
    os.utime(file, ns=(OLD, OLD))
    remember(cache, file, later())
    file.write_bytes(bytes(256) * 1000)
    os.utime(file, ns=(OLD, OLD))
    assert cache.lookup(file, file.stat()) is None


def test_changed_bytes_under_an_unchanged_stat_are_caught_by_the_fingerprint(cache: StatCache, file: Path):
    """As on a file system that loses a change of the time."""
    before = file.stat()
    remember(cache, file, later())
    file.write_bytes(bytes(256) * 1000)
    assert cache.lookup(file, before) is None


def test_the_same_bytes_in_another_file_look_known(cache: StatCache, file: Path, tmp_path: Path):
    remember(cache, file, later())
    copy = tmp_path / "copy"
    copy.write_bytes(file.read_bytes())
    assert cache.looks_known(copy, copy.stat())
    copy.write_bytes(b"x" + file.read_bytes()[1:])
    assert not cache.looks_known(copy, copy.stat())


def test_a_cache_that_cannot_be_used_costs_a_warning_and_nothing_else(
    tmp_path: Path, file: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "blocked").write_bytes(b"not a directory")
    cache = StatCache(tmp_path / "blocked" / "stat.sqlite3")
    with caplog.at_level(logging.WARNING):
        remember(cache, file, later())
        assert cache.lookup(file, file.stat()) is None
    assert len(caplog.records) == 1


def test_a_damaged_cache_costs_a_warning_and_nothing_else(
    tmp_path: Path, file: Path, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "stat.sqlite3"
    path.write_bytes(b"this is not a database" * 100)
    with caplog.at_level(logging.WARNING):
        remember(StatCache(path), file, later())
    assert "not used" in caplog.text


def test_off_keeps_nothing(file: Path):
    cache = StatCache(None)
    remember(cache, file, later())
    assert cache.lookup(file, file.stat()) is None
    assert not cache.looks_known(file, file.stat())
