"""Locks among processes. They only save work: where a file system has none, what they guard is still right."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cas.directories import make_directory


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``, waiting for whoever holds it; a process that dies lets go of it."""
    descriptor = _locked(path)
    try:
        yield
    finally:
        # While it is held, so that nobody can be given a lock on a file that has no name any more.
        with suppress(FileNotFoundError):
            os.unlink(path)
        os.close(descriptor)


def _locked(path: Path) -> int:
    while True:
        make_directory(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
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
