"""A file of the user's, read while others may write it."""

from __future__ import annotations

import mmap
import os
import stat
import threading
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Self

from cas.errors import FileChanged, InvalidInput
from cas.statcache import TICK_NS

# Small enough to stay in the processor's cache between read and hash, large enough to be hashed on all cores.
_CHUNK = 4 << 20
_CHUNKS = 2


class UserFile:
    """A regular file, open for reading.

    Never mapped: truncating a mapped file kills the process that reads it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # O_NONBLOCK: opening a named pipe must not wait for somebody to write to it.
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(self.descriptor).st_mode):
            os.close(self.descriptor)
            raise InvalidInput(f"not a regular file: {path}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def stamp(self) -> tuple[int, int, int]:
        """Size, and the times in nanoseconds of the last change of the content and of the inode."""
        status = os.fstat(self.descriptor)
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def check(self, before: tuple[int, int, int], size: int) -> None:
        """Refuse what was read if the file is not as it was ``before``."""
        if self.stamp() != before or size != before[0]:
            raise FileChanged(f"{self._path} changed while it was being read; log it again")

    def is_settled(self, stamp: tuple[int, int, int]) -> bool:
        """Whether any change from now on must show in the stamp: the last one is more than a clock tick ago."""
        return max(stamp[1:]) + TICK_NS < time.time_ns()

    def whole(self) -> bytes:
        """All bytes, untorn; for small files."""
        before = self.stamp()
        data = os.read(self.descriptor, before[0] + 1)
        while len(data) < before[0] and (more := os.read(self.descriptor, before[0] + 1 - len(data))):
            data += more
        self.check(before, len(data))
        return data

    def chunks(self) -> Generator[memoryview]:
        """The bytes, read by another thread ahead of the caller. A chunk is good until the next one is asked for.

        Close the generator before the file: the other thread reads until then.
        """
        free: SimpleQueue[memoryview | None] = SimpleQueue()
        full: SimpleQueue[tuple[memoryview, int] | BaseException] = SimpleQueue()
        reader = threading.Thread(target=_read, args=(self.descriptor, free, full), name="cas-reader", daemon=True)
        reader.start()
        try:
            for buffer in _buffers():
                free.put(buffer)
            while True:
                chunk = full.get()
                if isinstance(chunk, BaseException):
                    raise chunk
                buffer, count = chunk
                if count == 0:
                    return
                yield buffer[:count]
                free.put(buffer)
        finally:
            free.put(None)
            reader.join()


def _buffers() -> list[memoryview]:
    """In huge pages where there are some. Anonymous memory is page-aligned at least; into a bytearray, which is
    not, some processors copy several times slower."""
    region = mmap.mmap(-1, _CHUNK * _CHUNKS)
    with suppress(OSError):  # a kernel without huge pages
        region.madvise(mmap.MADV_HUGEPAGE)
    whole = memoryview(region)
    return [whole[start : start + _CHUNK] for start in range(0, len(whole), _CHUNK)]


def _read(
    descriptor: int,
    free: SimpleQueue[memoryview | None],
    full: SimpleQueue[tuple[memoryview, int] | BaseException],
) -> None:
    try:
        while (buffer := free.get()) is not None:
            full.put((buffer, os.readv(descriptor, [buffer])))
    except BaseException as error:
        full.put(error)
