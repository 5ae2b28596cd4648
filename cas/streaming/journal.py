"""What is already here of an unfinished download, for whoever goes on with it.

A directory with two files: ``data``, as large as the whole, and ``journal``, a line for each piece that was
received, with a checksum. Nothing in it is believed: a machine may have lost the bytes of a piece and kept its
line, so a piece counts only if its bytes match. Not synced, for that reason.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

import xxhash

from cas.digest import Buffer, Digest
from cas.errors import CasError

PIECE = 128 << 10
"""Bytes of a piece: what may be lost of each connection when a process is killed."""
_HEADER = "cas-download 1 {digest} {size} {piece}\n"
_LINE = re.compile(rb"(\d{1,12}) ([0-9a-f]{32})\Z")


class Journal:
    """The unfinished download of ``size`` bytes in ``directory``, which is made if it is missing.

    One process at a time (see :mod:`cas.fetch`); its threads may share it. A directory that somebody else could
    have a hand in, or that is of another download, is emptied first.
    """

    def __init__(self, directory: Path, digest: Digest, size: int) -> None:
        self.size = size
        self.pieces = -(-size // PIECE)
        self.data = directory / "data"
        self._journal = directory / "journal"
        self._header = _HEADER.format(digest=digest, size=size, piece=PIECE).encode()
        self._directory = directory
        self.marks = self._resume()
        """The checksums of pieces that claim to be here, by index."""
        flags = os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self.descriptor = os.open(self.data, os.O_RDWR | flags, 0o600)
        try:
            self._lines = os.open(self._journal, os.O_WRONLY | os.O_APPEND | flags, 0o600)
            if os.fstat(self._lines).st_size == 0:
                os.write(self._lines, self._header)
            os.ftruncate(self.descriptor, size)
        except BaseException:
            os.close(self.descriptor)
            raise

    def record(self, marks: Mapping[int, str]) -> None:
        """Pieces were written. One short write to a file opened for appending is never torn by other threads."""
        os.write(self._lines, "".join(f"{index} {mark}\n" for index, mark in marks.items()).encode())
        self.marks.update(marks)

    def matches(self, index: int, data: Buffer) -> bool:
        """Whether ``data`` are the bytes that were recorded for a piece."""
        return self.marks.get(index) == mark_of(data)

    def close(self) -> None:
        os.close(self.descriptor)
        os.close(self._lines)

    def discard(self) -> None:
        """Forget everything, when no descriptor is in use."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _resume(self) -> dict[int, str]:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (_is_own(self._directory, stat.S_ISDIR) and self._is_ours()):
            if self._directory.is_symlink():
                raise CasError(f"{self._directory} is a link; somebody put it there. Remove it")
            shutil.rmtree(self._directory)
            self._directory.mkdir(mode=0o700)
            return {}
        marks = {}
        for line in self._journal.read_bytes()[len(self._header) :].split(b"\n"):
            # A torn last line is no line; one that says nonsense is found out when its piece is read.
            match = _LINE.match(line)
            if match and int(match[1]) < self.pieces:
                marks[int(match[1])] = match[2].decode()
        return marks

    def _is_ours(self) -> bool:
        """Whether both files are this user's alone, whole enough to go on with, and of this download."""
        if not (_is_own(self.data, stat.S_ISREG) and _is_own(self._journal, stat.S_ISREG)):
            return False
        with self._journal.open("rb") as file:
            return file.read(len(self._header)) == self._header and self.data.stat().st_size == self.size


def _is_own(path: Path, is_kind: object) -> bool:
    """A file that another user owns, may write to, or has another name for could change after it was verified."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    kind = stat.S_ISDIR(status.st_mode) if is_kind is stat.S_ISDIR else stat.S_ISREG(status.st_mode)
    alone = stat.S_ISDIR(status.st_mode) or status.st_nlink == 1
    return kind and alone and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def mark_of(data: Buffer) -> str:
    return xxhash.xxh3_128_hexdigest(data)
