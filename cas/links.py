"""Placing a file's bytes somewhere else without copying them, where that is possible and safe."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path

from cas.atomic import write_all

_FICLONE = 0x40049409  # <linux/fs.h>: share the extents of one file with another, copy on write
_WINDOW = 16 << 20
_COPY_BUFFER = 256 << 10  # larger buffers fall out of the processor's cache

# What a file system says when it cannot link, and another way should be tried. Anything else is an error.
_CANNOT = frozenset(
    {
        errno.EXDEV,
        errno.EOPNOTSUPP,
        errno.ENOTSUP,
        errno.ENOSYS,
        errno.ENOTTY,
        errno.EINVAL,
        errno.EMLINK,
        errno.EPERM,
        errno.EACCES,
    }
)


class Mode(StrEnum):
    """How bytes got to their place. ``reflink`` and ``copy`` make a file of its own; the others share one."""

    REFLINK = "reflink"
    HARDLINK = "hardlink"
    SYMLINK = "symlink"
    COPY = "copy"


OWN = (Mode.REFLINK, Mode.COPY)
"""For a place the user named: writing there must never reach the store."""
DISPOSABLE = (Mode.REFLINK, Mode.HARDLINK, Mode.SYMLINK, Mode.COPY)
"""For a place that is thrown away."""


def place(source: Path, name: str, modes: Sequence[Mode], *, directory: int) -> Mode:
    """Make ``name`` in the open ``directory`` hold the bytes of ``source``, by the first of ``modes`` that works.

    Raises FileExistsError if the name is taken: nothing is ever overwritten or written through. Returns the
    mode really used.
    """
    for mode in modes[:-1]:
        try:
            _PLACERS[mode](source, name, directory)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
        else:
            return mode
    _PLACERS[modes[-1]](source, name, directory)
    return modes[-1]


def is_impossible(error: OSError) -> bool:
    """Whether a file system said that it cannot link like that, so that another way should be tried."""
    return error.errno in _CANNOT


def clone(source: int, target: int) -> bool:
    """Reflink one open file to another; False if this pair of files cannot be."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        return False
    return True


def copy_range(source: int, target: int, start: int, length: int) -> int:
    """Copy within the kernel where it can; returns how many bytes, fewer only at the end of the source."""
    done = 0
    while done < length:
        try:
            count = os.copy_file_range(source, target, length - done, start + done, start + done)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            return done + _copy_by_hand(source, target, start + done, length - done)
        if count == 0:
            # Some pseudo file systems answer 0 where read gives bytes.
            return done + _copy_by_hand(source, target, start + done, length - done)
        done += count
    return done


def probe(source_directory: Path, target_directory: Path) -> dict[Mode, bool]:
    """Which modes really work from one directory to another, found by doing it."""
    source = source_directory / f".probe-{os.getpid()}-{os.urandom(4).hex()}"
    source.write_bytes(b"probe")
    found: dict[Mode, bool] = {}
    directory = os.open(target_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for mode in Mode:
            name = f"{source.name}-{mode}"
            try:
                _PLACERS[mode](source, name, directory)
                found[mode] = True
            except OSError as error:
                if error.errno not in _CANNOT:
                    raise
                found[mode] = False
            else:
                os.unlink(name, dir_fd=directory)
    finally:
        os.close(directory)
        source.unlink()
    return found


def _copy_by_hand(source: int, target: int, start: int, length: int) -> int:
    buffer = memoryview(bytearray(min(_COPY_BUFFER, length)))
    done = 0
    os.lseek(target, start, os.SEEK_SET)
    while done < length:
        count = os.preadv(source, [buffer[: length - done]], start + done)
        if count == 0:
            break
        write_all(target, buffer[:count])
        done += count
    return done


def _reflink(source: Path, name: str, directory: int) -> None:
    _fill(source, name, directory, _clone_or_raise)


def _copy(source: Path, name: str, directory: int) -> None:
    _fill(source, name, directory, _copy_whole)


def _hardlink(source: Path, name: str, directory: int) -> None:
    os.link(source, name, dst_dir_fd=directory, follow_symlinks=False)


def _symlink(source: Path, name: str, directory: int) -> None:
    os.symlink(os.path.abspath(source), name, dir_fd=directory)


def _fill(source: Path, name: str, directory: int, fill: Callable[[int, int], None]) -> None:
    """Make a new ordinary file and fill it; it is gone again if that fails."""
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        writing = os.open(name, flags, 0o666, dir_fd=directory)
        try:
            fill(reading, writing)
        except BaseException:
            os.unlink(name, dir_fd=directory)
            raise
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _clone_or_raise(source: int, target: int) -> None:
    if not clone(source, target):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def _copy_whole(source: int, target: int) -> None:
    size, done = os.fstat(source).st_size, 0
    while done < size:
        count = copy_range(source, target, done, min(_WINDOW, size - done))
        if count == 0:
            break
        done += count


_PLACERS: dict[Mode, Callable[[Path, str, int], None]] = {
    Mode.REFLINK: _reflink,
    Mode.HARDLINK: _hardlink,
    Mode.SYMLINK: _symlink,
    Mode.COPY: _copy,
}
