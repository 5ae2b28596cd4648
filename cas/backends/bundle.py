"""A store in one file, to be carried to a machine that no network reaches: a tar archive of its keys.

Any tar lists and unpacks it. Objects are read in place, by ranges. Writing appends: what a process that was killed
had written whole is found again, and gone on with.
"""

from __future__ import annotations

import os
import tarfile
import threading
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice, takewhile
from pathlib import Path
from typing import NamedTuple, Self

from cas.atomic import sync_directory, write_all_at
from cas.backends.interface import Listing
from cas.errors import DestinationExists, InvalidInput, KeyExists, KeyNotFound, StoreRefused
from cas.keys import INTENTS

_PART = ".cas-part"
_END = bytes(2 * tarfile.BLOCKSIZE)


class _Span(NamedTuple):
    start: int
    size: int


class BundleBackend:
    """Implements :class:`~cas.backends.interface.Backend` for one process. What was put stays; only intents,
    which are kept in memory, can be deleted.

    Raises :class:`InvalidInput` if the file is no whole bundle.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writable = False
        self._open(os.O_RDONLY)
        if not self._spans or os.pread(self._descriptor, len(_END) + 1, self._end) != _END:
            os.close(self._descriptor)
            raise InvalidInput(f"{path} is no bundle, or is cut short; make, or copy, it again")

    @classmethod
    def create(cls, path: Path) -> Self:
        """A bundle that will be at ``path`` when it is finished; what an earlier attempt had written is in it.

        Raises :class:`DestinationExists` if something is there.
        """
        if path.exists():
            raise DestinationExists(f"{path} exists; remove it, or choose another name")
        backend = cls.__new__(cls)
        backend._path = path.with_name(path.name + _PART)
        backend._writable = True
        backend._open(os.O_RDWR | os.O_CREAT)
        os.ftruncate(backend._descriptor, backend._end)
        return backend

    def _open(self, flags: int) -> None:
        self._lock = threading.RLock()
        self._volatile: dict[str, bytes] = {}
        self._descriptor = os.open(self._path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        self._spans, self._end = _scan(self._path)
        self._keys = sorted(self._spans)

    @property
    def name(self) -> str:
        return str(self._path)

    def clear(self) -> None:
        """Begin anew."""
        os.ftruncate(self._descriptor, 0)
        self._spans, self._keys, self._end = {}, [], 0

    def finish(self) -> Path:
        """Put what was written at its name, durably."""
        assert self._writable
        write_all_at(self._descriptor, _END, self._end)
        os.fsync(self._descriptor)
        target = self._path.with_name(self._path.name.removesuffix(_PART))
        os.link(self._path, target)  # never over somebody else's
        os.unlink(self._path)
        sync_directory(target.parent)
        return target

    def close(self) -> None:
        os.close(self._descriptor)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        if key in self._volatile:
            return self._volatile[key][start : None if length is None else start + length]
        span = self._span(key)
        wanted = max(0, span.size - start)
        data = bytearray(wanted if length is None else min(wanted, length))
        return bytes(data[: self.read_into(key, start, memoryview(data))])

    def read_into(self, key: str, start: int, buffer: memoryview) -> int:
        span, done = self._span(key), 0
        buffer = buffer[: max(0, span.size - start)]
        while done < len(buffer):
            count = os.preadv(self._descriptor, [buffer[done:]], span.start + start + done)
            if count == 0:
                raise StoreRefused(f"{self.name} is cut short; make, or copy, it again")
            done += count
        return done

    def size(self, key: str) -> int:
        return len(self._volatile[key]) if key in self._volatile else self._span(key).size

    def list(self, prefix: str) -> Iterator[Listing]:
        return (Listing(key, self.size(key)) for key in self.keys(prefix))

    def keys(self, prefix: str) -> Iterator[str]:
        with self._lock:
            first = bisect_left(self._keys, prefix)
            found = list(takewhile(lambda key: key.startswith(prefix), islice(self._keys, first, None)))
            found += [key for key in self._volatile if key.startswith(prefix)]
        return iter(found)

    def put(self, key: str, parts: Iterable[bytes], *, create: bool, size: int = 0) -> None:
        if not self._writable:
            raise StoreRefused(f"{self.name} is a finished bundle, and is never written to again")
        if not size:  # a record
            parts = [b"".join(parts)]
            size = len(parts[0])
        with self._lock:
            if key.startswith(INTENTS):
                self._volatile[key] = b"".join(parts)
                return
            if key in self._spans:
                if create:
                    raise KeyExists(key)
                raise StoreRefused(f"{self.name} has {key!r} already, and cannot replace it")
            self._append(key, parts, size)

    def _append(self, key: str, parts: Iterable[bytes], size: int) -> None:
        member = tarfile.TarInfo(key)
        member.size, member.mode = size, 0o444
        header = member.tobuf(tarfile.PAX_FORMAT)
        start = position = self._end + len(header)
        try:
            for part in parts:
                write_all_at(self._descriptor, part, position)
                position += len(part)
            if position - start != size:
                raise StoreRefused(f"{key!r} has {position - start} bytes, and {size} were announced")
            stop = position + -size % tarfile.BLOCKSIZE
            os.ftruncate(self._descriptor, stop)
            # Last: until it is there, nothing is.
            write_all_at(self._descriptor, header, self._end)
        except BaseException:
            os.ftruncate(self._descriptor, self._end)  # what is left here must never be taken for a header
            raise
        self._spans[key] = _Span(start, size)
        insort(self._keys, key)
        self._end = stop

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            if self._volatile.pop(key, None) is None and key in self._spans:
                raise StoreRefused(f"{self.name}: nothing is taken out of a bundle")

    def _span(self, key: str) -> _Span:
        try:
            return self._spans[key]
        except KeyError:
            raise KeyNotFound(key) from None


def _scan(path: Path) -> tuple[dict[str, _Span], int]:
    """Every whole object, and where the next one would begin."""
    spans: dict[str, _Span] = {}
    end, length = 0, path.stat().st_size
    # What cannot be read is the rest of an attempt that was broken off, or no bundle at all.
    # Sizes that are no file's make tarfile raise anything.
    unreadable = (tarfile.TarError, ValueError, OverflowError, MemoryError)
    with suppress(*unreadable), tarfile.open(path, "r:") as archive:
        while (member := archive.next()) is not None:
            stop = member.offset_data + member.size + -member.size % tarfile.BLOCKSIZE
            if not member.isreg() or member.size < 0 or stop > length:
                break
            spans[member.name], end = _Span(member.offset_data, member.size), stop
    return spans, end
