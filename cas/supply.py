"""Where the bytes of entries can be fetched from: their origins, or the object store they are kept in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from cas.backends.remote import remote_of
from cas.blobs import Blobs
from cas.digest import Digest
from cas.errors import Damaged, InvalidInput, NotFound
from cas.manifest import Entry
from cas.sources import Progress, Remote, source_of

Copies = Callable[[Entry], Iterable[Path]]
"""Where on this machine an entry's bytes may lie, besides where its source knows of."""


class Supply(Protocol):
    """What a fetcher asks for bytes it does not have. Every method may be called from any thread."""

    def copies(self, entry: Entry) -> Sequence[Path]:
        """Files of this machine that claim to be the entry's bytes. They are believed only after hashing."""
        ...

    def open(self, entry: Entry) -> Remote:
        """Open an entry for ranged reads. Raises what says why it cannot be had."""
        ...

    def algorithms(self, entry: Entry) -> tuple[str, ...]:
        """What to hash its bytes with: at least the algorithm of its digest."""
        ...

    def is_stored(self, entry: Entry) -> bool:
        """Whether it comes from a store, where bytes never change."""
        ...

    def progress(self, name: str, entry: Entry) -> Progress:
        """A bar for fetching an entry."""
        ...


class Origins:
    """Fetches entries from the origins they name. ``more_copies`` knows of files on this machine."""

    def __init__(self, more_copies: Copies = lambda _: ()) -> None:
        self._more_copies = more_copies

    def copies(self, entry: Entry) -> Sequence[Path]:
        if entry.origin is None:
            return [*self._more_copies(entry)]
        return [*self._more_copies(entry), *source_of(entry.origin).local_copies(entry.origin, entry.digest)]

    def open(self, entry: Entry) -> Remote:
        origin = _origin(entry)
        return source_of(origin).open(origin, entry.digest, entry.size)

    def algorithms(self, entry: Entry) -> tuple[str, ...]:
        """Both: the one that was promised, and the store's own, by which others will find these bytes."""
        return tuple({entry.digest.algorithm: None, "blake3": None})

    def is_stored(self, entry: Entry) -> bool:  # noqa: ARG002
        return False

    def progress(self, name: str, entry: Entry) -> Progress:
        return source_of(_origin(entry)).progress(name, entry.size)


class StoreSupply:
    """Fetches blobs of an object store; what the store does not hold comes from its origin."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._origins = Origins()
        self._keys: dict[Digest, str] = {}

    def copies(self, entry: Entry) -> Sequence[Path]:
        return () if self.is_stored(entry) or entry.origin is None else self._origins.copies(entry)

    def open(self, entry: Entry) -> Remote:
        if not self.is_stored(entry):
            if entry.origin is not None:
                return self._origins.open(entry)
            self._blobs.find(entry.digest, entry.size, entry.blob)  # raises what says why
        return remote_of(self._blobs.backend, self._keys[entry.digest], entry.size)

    def algorithms(self, entry: Entry) -> tuple[str, ...]:
        return (entry.digest.algorithm,) if self.is_stored(entry) else self._origins.algorithms(entry)

    def is_stored(self, entry: Entry) -> bool:
        if entry.digest not in self._keys:
            try:
                self._keys[entry.digest] = self._blobs.find(entry.digest, entry.size, entry.blob)
            except (NotFound, Damaged):
                return False
        return True

    def progress(self, name: str, entry: Entry) -> Progress:
        return _Quiet() if entry.origin is None else self._origins.progress(name, entry)


class _Quiet:
    """No bar: nobody said how users of this store want theirs."""

    def update(self, count: int, /) -> None:
        pass

    def close(self) -> None:
        pass


def _origin(entry: Entry) -> str:
    if entry.origin is None:
        raise InvalidInput(f"{entry.path!r} has no origin to fetch it from")
    return entry.origin
