"""Getting bytes from a file or a stream into a private file, hashed on the way."""

from __future__ import annotations

import mmap
import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cas import links
from cas.atomic import remove, seal, start_writeback, write_private
from cas.digest import Digest, Hasher
from cas.userfile import UserFile

# What is copied, and then hashed from the page cache by another thread. It bounds the memory mapped at once.
_WINDOW = 16 << 20
SMALL = 1 << 20
"""Files up to this many bytes cost less to hash than to look up."""
_PARALLEL = -1  # blake3's AUTO: all cores


@dataclass(frozen=True, slots=True)
class Ingested:
    """Bytes that were hashed: in a private file if ``temporary`` is set, else where they came from."""

    size: int
    digests: dict[str, Digest]
    temporary: Path | None = None
    linked: bool = False
    """Whether the private file shares its bytes with where they came from."""

    @property
    def digest(self) -> Digest:
        """The store's own, unless only another one is known."""
        return self.digests.get("blake3") or next(iter(self.digests.values()))

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Afterwards the private file is gone, unless it was published."""
        try:
            yield
        finally:
            if self.temporary is not None:
                remove([self.temporary])


def stage_file(source: Path, temporary: Path, algorithms: tuple[str, ...]) -> Ingested:
    """Take a private copy of ``source`` and hash the copy, so that no writer can come between.

    A reflink where the file system has them, else copied and hashed in one pass. Raises
    :class:`FileChanged` if the file changed meanwhile: the copy may then be torn.
    """
    with UserFile(source) as reading:
        if reading.stamp()[0] <= SMALL:
            return _stage_small(reading, temporary, algorithms)
        staged = _stage(reading, temporary, algorithms, copies=True)
    assert staged is not None
    return staged


def clone_file(source: Path, temporary: Path, algorithms: tuple[str, ...]) -> Ingested | None:
    """As :func:`stage_file`, by a reflink or not at all: None where there is none."""
    with UserFile(source) as reading:
        return _stage(reading, temporary, algorithms, copies=False)


def share_file(source: Path, temporary: Path, algorithms: tuple[str, ...]) -> Ingested:
    """As :func:`stage_file`, but by a hardlink where there is no reflink: only for files that whoever made them
    never writes to again, such as those of another content-addressed cache.

    A file of somebody else's is copied: its owner could always write to it.
    """
    with UserFile(source) as reading:
        status = os.fstat(reading.descriptor)
        if status.st_uid != os.geteuid() or _can_clone(reading.descriptor, temporary):
            return stage_file(source, temporary, algorithms)
        try:
            # Given a directory, though it means nothing to an absolute path, os.link follows /proc's symlink.
            os.link(f"/proc/self/fd/{reading.descriptor}", temporary, src_dir_fd=reading.descriptor)
        except OSError as error:
            if not links.is_impossible(error):
                raise
            return stage_file(source, temporary, algorithms)
        try:
            # First: what is written through its other name from now on shows.
            seal(reading.descriptor)
            hasher = Hasher(algorithms, threads=_PARALLEL)
            before = reading.stamp()
            _hash_source(reading, hasher)
            reading.check(before, hasher.size)
        except BaseException:
            remove([temporary])
            raise
    return Ingested(hasher.size, hasher.digests(), temporary, linked=True)


def _can_clone(descriptor: int, beside: Path) -> bool:
    probe = beside.with_name(beside.name + "-probe")
    writing = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        return links.clone(descriptor, writing)
    finally:
        os.close(writing)
        remove([probe])


def hash_file(source: Path, algorithms: tuple[str, ...]) -> Ingested:
    """Hash a file that is not ours, where it lies."""
    hasher = Hasher(algorithms, threads=_PARALLEL)
    with UserFile(source) as reading:
        before = reading.stamp()
        _hash_source(reading, hasher)
        reading.check(before, hasher.size)
    return Ingested(hasher.size, hasher.digests())


def hash_sealed(
    path: Path, algorithms: tuple[str, ...] = ("blake3",), advance: Callable[[int], object] = lambda _: None
) -> Ingested:
    """Hash a file of the store: mapped, on all cores, in bounded memory. ``advance`` is told of bytes read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        hasher = Hasher(algorithms, threads=_PARALLEL)
        for window in _mapped(descriptor, os.fstat(descriptor).st_size):
            hasher.update(window)
            advance(len(window))
    finally:
        os.close(descriptor)
    return Ingested(hasher.size, hasher.digests())


def read_file(source: Path) -> bytes:
    """A small file, whole and untorn."""
    with UserFile(source) as reading:
        return reading.whole()


def hash_bytes(data: bytes, algorithms: tuple[str, ...]) -> Ingested:
    hasher = Hasher(algorithms)
    hasher.update(data)
    return Ingested(len(data), hasher.digests())


def stage_bytes(data: bytes, hashed: Ingested, temporary: Path) -> Ingested:
    """Write bytes that were hashed already to a private file."""
    write_private(temporary, [data])
    return Ingested(hashed.size, hashed.digests, temporary)


def _stage(reading: UserFile, temporary: Path, algorithms: tuple[str, ...], *, copies: bool) -> Ingested | None:
    before = reading.stamp()
    writing = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        settled = reading.is_settled(before)
        cloned = links.clone(reading.descriptor, writing)
        if cloned:
            hasher = _hash_cloned(reading, writing, algorithms, settled=settled)
        elif copies:
            hasher = _copy_and_hash(reading.descriptor, writing, before[0], algorithms)
        else:
            remove([temporary])
            return None
        reading.check(before, hasher.size)
    except BaseException:
        remove([temporary])
        raise
    finally:
        os.close(writing)
    return Ingested(hasher.size, hasher.digests(), temporary, linked=cloned)


def _stage_small(reading: UserFile, temporary: Path, algorithms: tuple[str, ...]) -> Ingested:
    """Through memory: for a small file, a thread and a mapping would cost more than they save."""
    data = reading.whole()
    return stage_bytes(data, hash_bytes(data, algorithms), temporary)


def _mapped(descriptor: int, size: int) -> Iterator[mmap.mmap]:
    """Windows of a private file. Mapping it whole would count as this process's memory."""
    for start in range(0, size, _WINDOW):
        with _map(descriptor, start, min(_WINDOW, size - start)) as window:
            yield window


def _map(descriptor: int, start: int, length: int) -> mmap.mmap:
    return mmap.mmap(descriptor, length, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ, offset=start)


def _hash_cloned(reading: UserFile, clone: int, algorithms: tuple[str, ...], *, settled: bool) -> Hasher:
    """Hash a clone by reading its source, whose pages are likely in the cache; the clone's never are.

    The caller checks that the source did not change from before it was cloned until after it was read, so its
    bytes are the clone's. Where a change might not show, the clone itself is read.
    """
    hasher = Hasher(algorithms, threads=_PARALLEL)
    if settled:
        _hash_source(reading, hasher)
    else:
        for window in _mapped(clone, os.fstat(clone).st_size):
            hasher.update(window)
    return hasher


def _hash_source(reading: UserFile, hasher: Hasher) -> None:
    with closing(reading.chunks()) as chunks:
        for chunk in chunks:
            hasher.update(chunk)


def _copy_and_hash(source: int, target: int, size: int, algorithms: tuple[str, ...]) -> Hasher:
    """Copy window by window in the kernel, while another thread hashes the windows already copied and the disk
    writes them. What is hashed are the bytes that were stored, not those that were read."""
    hasher = _WindowHasher(target, algorithms)
    try:
        start = 0
        while count := links.copy_range(source, target, start, min(_WINDOW, size - start)):
            hasher.put(start, count)
            start_writeback(target, start, count)
            start += count
    finally:
        hasher.join()
    return hasher.result()


class _WindowHasher(threading.Thread):
    """Hashes windows of a private file in the order they are put."""

    def __init__(self, descriptor: int, algorithms: tuple[str, ...]) -> None:
        super().__init__(name="cas-hasher", daemon=True)
        self._descriptor = descriptor
        self._hasher = Hasher(algorithms)
        # Short, so that a slow hash holds the copy back before its windows leave the page cache.
        self._windows: queue.Queue[tuple[int, int] | None] = queue.Queue(maxsize=4)
        self._error: BaseException | None = None
        self.start()

    def put(self, start: int, length: int) -> None:
        self._windows.put((start, length))

    def run(self) -> None:
        while (window := self._windows.get()) is not None:
            if self._error is None:
                try:
                    with _map(self._descriptor, *window) as mapped:
                        self._hasher.update(mapped)
                except BaseException as error:
                    self._error = error

    def join(self, timeout: float | None = None) -> None:
        self._windows.put(None)
        super().join(timeout)

    def result(self) -> Hasher:
        if self._error is not None:
            raise self._error
        return self._hasher
