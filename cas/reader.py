"""Reading an object of any backend as a file: seekable, ranged, and no larger in memory than its buffer."""

from __future__ import annotations

import io
from typing import BinaryIO, cast

from cas.backends.interface import Backend

_BUFFER = 1 << 20


def open_object(backend: Backend, key: str, size: int) -> BinaryIO:
    """A buffered, seekable reader of the object under ``key``."""
    return cast("BinaryIO", io.BufferedReader(_ObjectReader(backend, key, size), _BUFFER))


class _ObjectReader(io.RawIOBase):
    def __init__(self, backend: Backend, key: str, size: int) -> None:
        self._backend, self._key, self._size, self._position = backend, key, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset} in {self._key}")
        self._position = base + offset
        return self._position

    def readall(self) -> bytes:
        """With one request: Python's own would send one for each 8 KiB."""
        data = self._backend.read(self._key, self._position)
        self._position += len(data)
        return data

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed: any buffer
        count = self._backend.read_into(self._key, self._position, memoryview(buffer).cast("B"))
        self._position += count
        return count
