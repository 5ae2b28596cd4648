"""Giving bytes a blob, safely from every collector: steps 2 to 5 of the protocol in :mod:`cas.writer`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from cas.backends import SupportsCopy
from cas.blobs import Blobs
from cas.digest import Digest, Hasher
from cas.errors import BlobNotFound, FileChanged, StoreRefused
from cas.ingest import Ingested, stage_file
from cas.keys import blob_key
from cas.lease import aborted
from cas.manifest import Entry
from cas.scratch import Scratch

_READ = 1 << 20
_REQUESTS = 8
_BESIDE = ((1 << 20, _REQUESTS), (8 << 20, 4))
"""Up to how many bytes, how many files are sent beside each other: clients hold each a few times in memory."""

T = TypeVar("T")
R = TypeVar("R")


class Stored(NamedTuple):
    """An object of the store's own backend that is no blob yet, and the ETag it was hashed under."""

    key: str
    etag: str


class Pending(NamedTuple):
    """A path that will have a blob: of bytes that are already private, still with the user, in the backend, or only
    known by digest. The last kind is a reference, if it has an origin, as long as the store has no such blob."""

    path: str
    ingested: Ingested
    source: Path | None = None
    origin: str | None = None
    stored: Stored | None = None

    @property
    def is_at_hand(self) -> bool:
        return self.ingested.temporary is not None or self.source is not None or self.stored is not None


class Placement:
    """Places the bytes of one intent. ``announce`` puts the intent with the pins it is given; private files that
    are made on the way are added to ``temporaries``."""

    def __init__(
        self,
        blobs: Blobs,
        intent: str,
        *,
        algorithms: tuple[str, ...],
        scratch: Scratch,
        announce: Callable[[tuple[str, ...]], None],
        temporaries: list[Path],
    ) -> None:
        self._blobs = blobs
        self._backend = blobs.backend
        self._local = blobs.local
        self._intent = intent
        self._algorithms = algorithms
        self._scratch = scratch
        self._announce = announce
        self._temporaries = temporaries
        self._own: set[str] = set()  # keys that this intent has written

    def place(self, all_pending: Sequence[Pending]) -> list[Entry]:
        """Give every pending path a blob, an old one that is safe or a new one; returns their entries.

        Raises :class:`BlobNotFound` for one that is only known by its digest, has no origin, and is not here.
        """
        by_digest: dict[Digest, Pending] = {}
        for pending in sorted(all_pending, key=_readiness):
            by_digest[pending.ingested.digest] = pending
        old = dict(zip(by_digest, self._at_once(self._blobs.candidates, by_digest), strict=True))
        pins = tuple(key for keys in old.values() for key in keys)
        if pins:
            self._announce(pins)
        condemned = self._blobs.condemned() if pins else frozenset()
        stored: dict[Digest, str] = {}
        fresh: list[Pending] = []
        for digest, pending in by_digest.items():
            key = self._choose(digest, pending.ingested.size, old[digest], condemned)
            if key is not None:
                stored[digest] = key
            elif pending.is_at_hand:
                fresh.append(pending)
                stored[digest] = blob_key(digest, self._intent)
            elif pending.origin is None:
                raise BlobNotFound(f"{self._backend.name} holds no blob {digest} for {pending.path!r} any more")
        anew = {pending.ingested.digest for pending in fresh}
        self._own.update(stored[digest] for digest in anew)
        self._store(fresh)
        if self._local is not None:
            # Seen is not durable: whoever stored these may still be about to sync their names, or died before it.
            self._local.settle([key for digest, key in stored.items() if digest not in anew])
        entries = []
        for pending in all_pending:
            digests, digest, size = pending.ingested.digests, pending.ingested.digest, pending.ingested.size
            for algorithm in self._algorithms[1:]:
                if pending.is_at_hand:
                    alias = self._blobs.add_alias if digest in anew else self._blobs.ensure_alias
                    alias(digests[algorithm], self._intent, digest)
            entries.append(Entry(pending.path, size, digest, pending.origin, stored.get(digest)))
        return entries

    def _choose(self, digest: Digest, size: int, keys: Iterable[str], condemned: frozenset[str]) -> str | None:
        """One of ``keys`` that holds the bytes and will stay.

        Raises :class:`IntentAborted` if this intent wrote one of them, and that will not: a collector took the
        writer for dead. To write it again would be to use a key again (docs/decisions/0016).
        """
        own = blob_key(digest, self._intent)
        for key in sorted({*keys, *self._own.intersection([own])}, key=lambda key: (key != own, key)):
            if key not in condemned and self._blobs.is_usable(key, size):
                return key
            if key == own:
                raise aborted(f"the log call {self._intent}")
        return None

    def _store(self, fresh: list[Pending]) -> None:
        if self._local is not None:
            staged = []
            for pending in fresh:
                temporary = pending.ingested.temporary or self._stage_again(pending)
                staged.append((temporary, blob_key(pending.ingested.digest, self._intent)))
            if staged:
                self._local.publish(staged)
            return
        # The parts of a large file are sent at once; smaller ones, which have none, are sent beside each other.
        for limit, requests in _BESIDE:
            list(self._at_once(self._send, [each for each in fresh if each.ingested.size <= limit], requests))
            fresh = [each for each in fresh if each.ingested.size > limit]
        for pending in fresh:
            self._send(pending)

    def _send(self, pending: Pending) -> None:
        key, size = blob_key(pending.ingested.digest, self._intent), pending.ingested.size
        if pending.stored is not None:
            self._copy(pending.stored, key, size)
            return
        self._backend.put(key, self._sent(pending), create=False, size=size)

    def _copy(self, stored: Stored, key: str, size: int) -> None:
        backend = self._backend
        if not isinstance(backend, SupportsCopy) or not backend.copy_from(
            backend, stored.key, key, size, etag=stored.etag
        ):
            raise StoreRefused(f"{backend.name} cannot copy {stored.key!r} to where it belongs")

    def _at_once(
        self, function: Callable[[T], R], arguments: Iterable[T], requests: int = _REQUESTS
    ) -> Iterator[R]:
        """``function`` of each argument; where each is a request to another machine, many at once."""
        if self._local is not None:
            yield from map(function, arguments)
            return
        with ThreadPoolExecutor(requests) as pool:
            yield from pool.map(function, arguments)

    def _stage_again(self, pending: Pending) -> Path:
        """The digest was known, but no blob of it is safe to use: the bytes are needed after all."""
        assert pending.source is not None
        again = stage_file(pending.source, self._scratch.file(), self._algorithms)
        assert again.temporary is not None
        self._temporaries.append(again.temporary)
        if again.digest != pending.ingested.digest:
            raise FileChanged(f"{pending.source} changed while it was being logged; log it again")
        return again.temporary

    def _sent(self, pending: Pending) -> Iterable[bytes]:
        """The bytes for an upload, hashed again while they are sent; a difference stops the upload."""
        source = pending.ingested.temporary or pending.source
        assert source is not None
        hasher = Hasher()
        with open(source, "rb") as file:
            while chunk := file.read(_READ):
                hasher.update(chunk)
                yield chunk
        if hasher.digest() != pending.ingested.digest:
            raise FileChanged(f"{source} changed while it was being logged; log it again")


def _readiness(pending: Pending) -> int:
    """Of several with one digest, the one that is easiest to store is best: staged, else to be read, else known."""
    return 2 if pending.ingested.temporary is not None else 1 if pending.is_at_hand else 0
