"""Bringing the bytes of entries to keys of an object store, from the nearest place that has them.

What lies at the store's own endpoint is copied there by its server. Everything else passes through this process,
hashed on the way, and never touches its disk; the upload is completed only after the hash was seen to be right, so
what is not as promised never becomes visible.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from pathlib import Path
from typing import NamedTuple, TypeVar

from cas.backends import Backend
from cas.digest import Digest, Hasher
from cas.errors import BlobDamaged, FileChanged, OriginChanged
from cas.fetch import How
from cas.manifest import Entry
from cas.streaming.patience import Patience
from cas.streaming.pipe import piped
from cas.supply import Supply
from cas.userfile import UserFile

_logger = logging.getLogger(__name__)

_AT_ONCE = 8
_SMALL = 2 << 20

T = TypeVar("T")
R = TypeVar("R")


class Carried(NamedTuple):
    """How the bytes came, and every digest of them that is known."""

    how: How
    digests: dict[str, Digest]


class Carrier:
    """Brings what ``supply`` has to ``backend``. Safe to share among threads.

    ``patience`` is in seconds without progress.
    """

    def __init__(self, backend: Backend, supply: Supply, *, patience: float | None = None) -> None:
        self._backend = backend
        self._supply = supply
        self._patience = patience
        self._line = threading.Lock()

    def carry(self, entry: Entry, key: str) -> Carried:
        """Have the bytes of ``entry`` under ``key``.

        Raises what the supply's remotes raise, :class:`OriginChanged` and :class:`BlobDamaged` for other bytes than
        were promised; then nothing is under the key.
        """
        known = self._supply.copy_to(self._backend, key, entry)
        if known is not None:
            return Carried(How.COPIED_THERE, known)
        # A large file uses the whole line, and as much memory as there shall be.
        with self._line if entry.size > _SMALL else nullcontext():
            for path in self._supply.copies(entry):
                try:
                    return Carried(How.COPIED, self._put(entry, key, _chunks(path), str(path)))
                except (OSError, FileChanged, OriginChanged) as error:
                    _logger.info("%s is not used: %s", path, error)
            return Carried(How.STREAMED, self._stream(entry, key))

    def at_once(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """``work`` of each item, which may :meth:`carry` something; many requests at once. When it raises, nothing
        is on its way any more, and what had not begun never will."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="cas-carry") as pool:
            try:
                yield from pool.map(work, items)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _stream(self, entry: Entry, key: str) -> dict[str, Digest]:
        with closing(self._supply.open(entry)) as remote:
            for is_last in (False, True):
                bar = self._supply.progress(os.path.basename(entry.path), entry)
                patience = Patience(self._patience)
                with closing(bar):
                    try:
                        chunks = piped(remote, entry.size, patience, advance=bar.update)
                        return self._put(entry, key, chunks, remote.name)
                    except OriginChanged as error:
                        # A store's bytes never change: a bit fell over on the way, or where they are kept.
                        if not self._supply.is_stored(entry):
                            raise
                        if is_last:
                            raise BlobDamaged(f"a blob is damaged where it is stored: {error}") from None
        raise AssertionError

    def _put(self, entry: Entry, key: str, chunks: Iterator[bytes], name: str) -> dict[str, Digest]:
        hasher = Hasher(self._supply.algorithms(entry))
        with closing(_Verified(entry, chunks, hasher, name)) as verified:
            self._backend.put(key, verified, create=False, size=entry.size)
        return hasher.digests()


class _Verified:
    """Chunks that pass, and an error in the place of their end if they were not what was promised."""

    def __init__(self, entry: Entry, chunks: Iterator[bytes], hasher: Hasher, name: str) -> None:
        self._entry, self._chunks, self._hasher, self._name = entry, chunks, hasher, name

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._hasher.update(chunk)
            yield chunk
        found = self._hasher.digests()[self._entry.digest.algorithm]
        if found != self._entry.digest:
            raise OriginChanged(
                f"{self._name} sent other bytes than were promised: expected {self._entry.digest}, found {found}"
                f" ({self._hasher.size} bytes). Nothing was stored"
            )

    def close(self) -> None:
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()


def _chunks(path: Path) -> Iterator[bytes]:
    with UserFile(path) as reading, closing(reading.chunks()) as chunks:
        for chunk in chunks:
            yield bytes(chunk)
