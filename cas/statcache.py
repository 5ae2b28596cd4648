"""Remembering the digest of an unchanged file, so that logging it again costs the same for any size.

A file is taken for unchanged if device, inode, size, mtime and ctime are, and if a fingerprint of a few windows
of its bytes is, too. A file that was modified in the very tick of the clock in which it was hashed might change
again without a new timestamp, so such an entry is not believed (git's rule for racy timestamps).

The cache is a hint: it lives outside the store, may be deleted at any time, and a failure to use it costs speed
only.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from pathlib import Path

import xxhash

from cas.digest import Digest

_logger = logging.getLogger(__name__)

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    device TEXT, inode TEXT, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER,
    fingerprint TEXT, digests TEXT, hashed_ns INTEGER,
    PRIMARY KEY (device, inode)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS contents (
    size INTEGER, fingerprint TEXT, hashed_ns INTEGER, PRIMARY KEY (size, fingerprint)
) WITHOUT ROWID;
"""
_KEPT_NS = 90 * 24 * 3600 * 1_000_000_000
TICK_NS = 20_000_000
"""Two changes of a file closer than this may carry one timestamp: the coarsest tick of a Linux kernel is 10 ms."""
_COARSE_TICK_NS = 2_000_000_000  # file systems that keep whole seconds, or pairs of them
_WINDOWS, _WINDOW = 8, 4096


class StatCache:
    """Digests by the identity of a file. ``path`` None keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._process = 0
        self._lock = threading.Lock()

    def lookup(self, file: Path, status: os.stat_result) -> dict[str, Digest] | None:
        """The digests of ``file`` by algorithm, if it is as it was when they were computed."""
        if self._path is None:
            return None
        row = self._execute(
            "SELECT fingerprint, digests, hashed_ns FROM files"
            " WHERE device=? AND inode=? AND size=? AND mtime_ns=? AND ctime_ns=?",
            _identity(status),
        )
        if row is None or _racy(status, int(str(row[2]))) or fingerprint(file, status.st_size) != row[0]:
            return None
        digests = [Digest.parse(text) for text in str(row[1]).split()]
        return {digest.algorithm: digest for digest in digests}

    def looks_known(self, file: Path, status: os.stat_result) -> bool:
        """Whether some file of this size and fingerprint was seen: hashing before copying may save the copy."""
        if self._path is None:
            return False
        known = (status.st_size, fingerprint(file, status.st_size))
        return self._execute("SELECT 1 FROM contents WHERE size=? AND fingerprint=?", known) is not None

    def remember(self, file: Path, status: os.stat_result, digests: dict[str, Digest], hashed_ns: int) -> None:
        """``status`` and ``hashed_ns`` (nanoseconds since 1970) are from before the bytes were read."""
        if self._path is None:
            return
        texts = " ".join(str(digest) for digest in digests.values())
        mark = fingerprint(file, status.st_size)
        self._execute(
            "INSERT OR REPLACE INTO files VALUES (?,?,?,?,?,?,?,?)",
            (*_identity(status), mark, texts, hashed_ns),
        )
        self._execute("INSERT OR REPLACE INTO contents VALUES (?,?,?)", (status.st_size, mark, hashed_ns))

    def _execute(self, query: str, values: tuple[object, ...]) -> tuple[object, ...] | None:
        """The first row, or None: also when the cache cannot be used, which is said once."""
        with self._lock:
            if self._path is None:
                return None
            try:
                rows: list[tuple[object, ...]] = self._connect(self._path).execute(query, values).fetchmany(1)
            except (sqlite3.Error, OSError) as error:
                _logger.warning("stat cache %s is not used: %s", self._path, error)
                self._path = self._connection = None
                return None
        return rows[0] if rows else None

    def _connect(self, path: Path) -> sqlite3.Connection:
        if self._connection is None or self._process != os.getpid():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Nothing here must survive a crash: durability would cost more than a rehash.
            self._connection = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
            self._process = os.getpid()
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=OFF")
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version != _SCHEMA_VERSION:
                self._connection.executescript(
                    "DROP TABLE IF EXISTS files; DROP TABLE IF EXISTS contents;"
                    f"{_SCHEMA} PRAGMA user_version={_SCHEMA_VERSION};"
                )
            for table in ("files", "contents"):
                self._connection.execute(
                    f"DELETE FROM {table} WHERE hashed_ns < ?",  # noqa: S608  (two names of our own)
                    (time.time_ns() - _KEPT_NS,),
                )
        return self._connection


def fingerprint(file: Path, size: int) -> str:
    """xxh3 of a few windows spread over the file: its cost does not grow with the size."""
    mark = xxhash.xxh3_128()
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for number in range(_WINDOWS):
            mark.update(os.pread(descriptor, _WINDOW, max(0, size - _WINDOW) * number // (_WINDOWS - 1)))
    finally:
        os.close(descriptor)
    return mark.hexdigest()


def _identity(status: os.stat_result) -> tuple[object, ...]:
    # As text: device and inode are unsigned, SQLite's integers are not.
    return str(status.st_dev), str(status.st_ino), status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _racy(status: os.stat_result, hashed_ns: int) -> bool:
    changed = max(status.st_mtime_ns, status.st_ctime_ns)
    coarse = status.st_mtime_ns % 1_000_000_000 == 0 and status.st_ctime_ns % 1_000_000_000 == 0
    return changed + (_COARSE_TICK_NS if coarse else TICK_NS) >= hashed_ns
