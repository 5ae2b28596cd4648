"""Locks among processes. They only save work: where a file system has none, what they guard is still right."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cas.sharing import make_directory, open_lock


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``, waiting for whoever holds it; a process that dies lets go of it."""
    descriptor = _locked(path)
    try:
        yield
    finally:
        # While it is held, so that nobody can be given a lock on a file that has no name any more.
        # In a sticky directory one that another user has made stays.
        with suppress(FileNotFoundError, PermissionError):
            os.unlink(path)
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock file ``path`` right now."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _locked(path: Path) -> int:
    while True:
        make_directory(path.parent, 0o700)
        descriptor = open_lock(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_still(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last holder removed it: the next one is another file


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False
