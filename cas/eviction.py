"""Keeping a cache from filling its disk: what was used longest ago goes first, what is in use stays.

A process that is given a blob's path leaves a mark, an empty file in its own scratch directory, which goes when the
process does. Marking and looking for the blob happen under a shared lock, looking for marks and deleting under an
exclusive one: so a path that was handed out stays good (docs/decisions/0012).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cas.atomic import SEAL_NS
from cas.backends import LocalBackend
from cas.blobs import Blobs
from cas.digest import Digest
from cas.errors import InvalidDigest
from cas.keys import MANIFESTS, parse_blob_key
from cas.scratch import is_dead, sweep
from cas.sharing import make_directory, open_lock

_MARKS = "uses"
FREE = 0.10
"""Of the file system that a cache without a limit of its own leaves to others."""
ABANDONED = 7 * 24 * 3600.0
"""Seconds after which nobody is expected to go on with an unfinished download."""


class Cached(NamedTuple):
    """A blob of a cache. ``used`` is when it was last asked for, in seconds since 1970; ``freed`` how many bytes
    its deletion gives back: none while a tree has links to it."""

    key: str
    size: int
    used: float
    freed: int
    in_use: bool

    @property
    def digest(self) -> Digest:
        return parse_blob_key(self.key)[0]


@dataclass(slots=True)
class Evicted:
    """What was deleted. ``in_use`` are bytes that would have gone, had nobody been using them, ``foreign`` those
    that only the user who fetched them may delete."""

    blobs: int = 0
    bytes: int = 0
    in_use: int = 0
    foreign: int = 0
    keys: list[str] = field(default_factory=list)


class Uses:
    """Which blobs of a cache this process, and others, are using."""

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend
        self._lock = backend.scratch.parent / "eviction.lock"

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Nothing is evicted meanwhile. For moments, not for as long as something is used."""
        with self._locked(fcntl.LOCK_SH):
            yield

    @contextmanager
    def evicting(self) -> Iterator[set[Digest]]:
        """Nobody is given anything meanwhile; yields what is in use."""
        with self._locked(fcntl.LOCK_EX):
            sweep(self._backend.scratch.parent)  # marks of the dead
            yield self.all()

    def all(self) -> set[Digest]:
        """Digests that living processes have marked, and those of processes of other machines."""
        found = set()
        for path in self._backend.scratch.parent.glob(f"*/{_MARKS}/*"):
            if is_dead(path.parts[-3]):
                continue  # of another user, whose directories are not ours to sweep
            with suppress(InvalidDigest):
                algorithm, _, digits = path.name.partition("-")
                found.add(Digest(algorithm, digits))
        return found

    def mark(self, digest: Digest) -> None:
        path = self._mark(digest)
        if not path.parent.exists():
            path.parent.mkdir(exist_ok=True)
            # Other users' processes have to see it, whatever umask this one has.
            os.chmod(path.parent, stat.S_IMODE(path.parent.parent.stat().st_mode))
        path.touch()

    def release(self, digest: Digest) -> None:
        """This process needs the path no more: it has a link, or a copy."""
        self._mark(digest).unlink(missing_ok=True)

    def _mark(self, digest: Digest) -> Path:
        return self._backend.scratch.directory / _MARKS / f"{digest.algorithm}-{digest.hex}"

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        make_directory(self._lock.parent, 0o700)
        descriptor = open_lock(self._lock)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)


def used_now(path: Path) -> None:
    """Remember that a blob was used: in its access time, which mounts are told not to keep by themselves."""
    with suppress(OSError):  # a cache of somebody else's; then recency is as its owner sees it
        os.utime(path, ns=(time.time_ns(), SEAL_NS), follow_symlinks=False)


def contents(blobs: Blobs, backend: LocalBackend, in_use: set[Digest]) -> list[Cached]:
    """Every blob of a cache, the one used longest ago first."""
    busy = in_use.union(*(blobs.aliases(digest) for digest in in_use))
    found = []
    for key, size in blobs.listing():
        with suppress(FileNotFoundError):
            status = os.lstat(backend.path(key))
            freed = size if status.st_nlink == 1 else 0
            found.append(Cached(key, size, status.st_atime, freed, parse_blob_key(key)[0] in busy))
    return sorted(found, key=lambda each: each.used)


def evict(
    blobs: Blobs,
    backend: LocalBackend,
    uses: Uses,
    *,
    room: int,
    older_than: float | None = None,
    links: bool = False,
) -> Evicted:
    """Delete blobs, the longest unused first, until ``room`` bytes are freed. ``older_than``: only those not used
    since that time. ``links``: also those whose bytes stay with a tree that is linked to them."""
    done = Evicted()
    with uses.evicting() as in_use:
        _forget_downloads(backend)
        for each in contents(blobs, backend, in_use):
            if done.bytes >= room or (older_than is not None and each.used >= older_than):
                break
            if each.in_use:
                done.in_use += each.size
            elif each.freed or links or not each.size:
                if not _delete(backend, each.key):
                    done.foreign += each.size
                    continue
                done.keys.append(each.key)
                done.bytes += each.freed
                done.blobs += 1
        _forget_aliases(backend, done.keys)
    return done


def overfull(backend: LocalBackend, used: int, limit: int | None, coming: int) -> int:
    """How many bytes have to go so that ``coming`` more fit: under ``limit``, or leaving others their share of
    the file system."""
    if limit is not None:
        return used + coming - limit
    usage = shutil.disk_usage(backend.root)
    return int(usage.total * FREE) + coming - usage.free


def is_cache(backend: LocalBackend) -> bool:
    """Whether a directory is a cache and no store: in a store, blobs may be the only copy."""
    return next(backend.keys(MANIFESTS), None) is None


def _delete(backend: LocalBackend, key: str) -> bool:
    """False if the blob is another user's, in a sticky directory."""
    try:
        backend.delete([key])
    except PermissionError:
        return False
    with suppress(OSError):  # something else is in it, or it is another user's
        backend.path(key).parent.rmdir()
    return True


def _forget_aliases(backend: LocalBackend, keys: Iterable[str]) -> None:
    gone = {parse_blob_key(key)[0] for key in keys}
    for key in backend.keys("blobs/") if gone else ():
        if parse_blob_key(key)[2] in gone:
            _delete(backend, key)


def _forget_downloads(backend: LocalBackend) -> None:
    for directory in backend.scratch.parent.glob("downloads/*"):
        journal = directory / "journal"
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):  # a lock, or another user's
            if time.time() - journal.stat().st_mtime > ABANDONED:
                shutil.rmtree(directory, ignore_errors=True)
