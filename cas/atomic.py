"""The one way bytes become durable files.

The order is the guarantee: write a private file, fsync it, make it read-only, give it its name, fsync the
directories the name depends on, and only then return. A name that is visible therefore always has its whole
content, through a crash of the process or of the machine, and a name that was acknowledged stays.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from cas.digest import Buffer
from cas.sharing import make_directory

# Published files carry this modification time: their seal. A write through a link changes it.
SEAL_NS = 946_684_800 * 1_000_000_000  # 2000-01-01T00:00:00Z
SEALED_MODE = 0o444
_BATCH = 32
"""From this many files on, one syncfs replaces an fsync for each file and directory. It also writes back what
others have dirty on this file system, which for a few files would cost more than it saves."""

_TRIES = 8

Naming = Literal["create", "replace", "unique"]


class Staged(NamedTuple):
    """A finished private file, and the name it is to have on the same file system."""

    temporary: Path
    final: Path


def write_private(path: Path, parts: Iterable[Buffer]) -> None:
    """Write a new file that nobody else can name, see or follow a link to. On any failure it is gone."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            for part in parts:
                write_all(descriptor, part)
        finally:
            os.close(descriptor)
    except BaseException:
        remove([path])
        raise


def write_all(descriptor: int, data: Buffer) -> None:
    """os.write may write less than it was given, for instance when the disk fills up."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_all_at(descriptor: int, data: Buffer, offset: int) -> None:
    """As :func:`write_all`, at a place of the file, and safe for several threads at once."""
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count


class Publisher:
    """Gives private files their names below ``root``, which must be durable itself."""

    def __init__(self, root: Path) -> None:
        self._root = root
        # Directories whose own name is known to be safe. Only the directories of single blobs are ever removed
        # from a store (FORMAT.md), so what is true of the others once stays true.
        self._safe = {root}

    def publish(self, staged: Sequence[Staged], naming: Naming, *, durable: bool = True) -> None:
        """Name private files, durably.

        ``create`` raises FileExistsError if a name is taken (of any number of racing creators one wins),
        ``replace`` replaces what is there, ``unique`` is for blobs, whose names nobody else can ask for. On
        failure, the private files that got no name are removed. ``durable=False`` is atomic against crashes of
        processes, but not of the machine.
        """
        batch = durable and len(staged) >= _BATCH
        try:
            for each in staged:
                _settle(each.temporary, sync=durable and not batch)
            if batch:
                sync_file_system(self._root)
            for each in staged:
                _name(each, naming)
        except BaseException:
            remove(each.temporary for each in staged)
            raise
        if batch:
            sync_file_system(self._root)
        elif durable:
            for directory in {each.final.parent for each in staged}:
                self._make_safe(directory, removable=naming == "unique")

    def settle(self, paths: Sequence[Path]) -> None:
        """Make names durable that others gave to blobs: whoever did may be about to sync them, or have died before.
        Their bytes are: those are synced before they are named."""
        if len(paths) >= _BATCH:
            sync_file_system(self._root)
            return
        for directory in {path.parent for path in paths}:
            self._make_safe(directory, removable=True)

    def _make_safe(self, directory: Path, *, removable: bool) -> None:
        """Sync a directory, and those above it whose names may be unsafe, whoever made them: the process that
        did may have died before it synced them itself."""
        sync_directory(directory)
        if directory not in self._safe:
            self._make_safe(directory.parent, removable=False)
            if not removable:
                self._safe.add(directory)


def remove(paths: Iterable[Path]) -> None:
    """Unlink what is there of ``paths``."""
    for path in paths:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(path)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def seal(descriptor: int) -> None:
    """Make an open file read-only, with the time that shows whether it was written to since."""
    os.fchmod(descriptor, SEALED_MODE)
    os.utime(descriptor, ns=(SEAL_NS, SEAL_NS))


def _settle(path: Path, *, sync: bool) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        seal(descriptor)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _name(staged: Staged, naming: Naming) -> None:
    if naming == "unique":
        make_directory(staged.final.parent)  # a new blob most often has none yet
    for is_last in (*(False,) * _TRIES, True):
        try:
            _link_or_rename(staged, naming)
            return
        except FileNotFoundError:
            if is_last:
                raise
            # The directory is made only when it is missing: most often it is there already. A collector may take
            # it away again, as long as it is empty.
            make_directory(staged.final.parent)


def _link_or_rename(staged: Staged, naming: Naming) -> None:
    if naming == "create":
        # link, unlike rename, fails if the name is taken
        os.link(staged.temporary, staged.final, follow_symlinks=False)
        os.unlink(staged.temporary)
    else:
        os.rename(staged.temporary, staged.final)


def sync_file_system(path: Path) -> None:
    """syncfs(2): everything of the file system that holds ``path``. Reports write-back errors since Linux 5.8."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(descriptor)


def start_writeback(descriptor: int, start: int, length: int) -> None:
    """Let the disk write one part while the next is made. Advice only: the fsync to come reports what fails."""
    _libc.sync_file_range(descriptor, start, length, _SYNC_FILE_RANGE_WRITE)


_SYNC_FILE_RANGE_WRITE = 2  # <linux/fs.h>: start, do not wait
_libc = ctypes.CDLL(None, use_errno=True)
_libc.sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
