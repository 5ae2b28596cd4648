"""Directories that several users of a machine share, and what is made in them: it is shared alike.

As in git's shared repositories, the mode of the directory says it: writable to its group and set-group-ID, or, as
/tmp is, writable to all and sticky. Whatever umask a process has, what it makes there is open to the others.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path


def sharing(directory: Path) -> int:
    """The mode of a directory that is shared; 0 for any other."""
    mode = stat.S_IMODE(os.stat(directory).st_mode)
    by_group = mode & stat.S_ISGID and mode & stat.S_IWGRP
    by_all = mode & stat.S_ISVTX and mode & stat.S_IWOTH
    return mode if by_group or by_all else 0


def make_directory(path: Path, mode: int = 0o777) -> None:
    """Have a directory at ``path``, and those above it: shared where the one above is, else with ``mode``."""
    try:
        shared = sharing(path.parent)
    except FileNotFoundError:
        make_directory(path.parent, mode)
        shared = sharing(path.parent)
    if not shared:
        with suppress(FileExistsError):
            os.mkdir(path, mode)
    elif not path.is_dir():
        _make_shared(path, shared)


def open_lock(path: Path) -> int:
    """Open a lock file, made if it is missing, that everybody who shares its directory can lock."""
    while True:
        # Not O_CREAT on what is there: kernels refuse that for files of others in sticky directories.
        with suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        shared = sharing(path.parent)
        descriptor, beside = tempfile.mkstemp(prefix=".new-", dir=path.parent)
        try:
            os.fchmod(descriptor, 0o600 | shared & 0o066)
            with suppress(FileExistsError):
                os.link(beside, path)
        finally:
            os.close(descriptor)
            os.unlink(beside)


def _make_shared(path: Path, mode: int) -> None:
    """It has its mode before it has its name: another user may want to write into it at once."""
    beside = tempfile.mkdtemp(prefix=".new-", dir=path.parent)
    os.chmod(beside, mode)
    try:
        os.rename(beside, path)
    except OSError:
        os.rmdir(beside)
        if not path.is_dir():  # else somebody else was quicker
            raise
