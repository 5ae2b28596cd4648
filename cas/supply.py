"""Where the bytes of entries can be fetched from: their origins, or the object store they are kept in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from cas.backends import Backend, SupportsCopy
from cas.backends.remote import remote_of
from cas.blobs import Blobs
from cas.digest import Digest
from cas.errors import Damaged, InvalidInput, NotFound
from cas.keys import BLOBS, parse_blob_key
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

    def copy_to(self, backend: Backend, key: str, entry: Entry) -> dict[str, Digest] | None:
        """Have the server that keeps an entry's bytes copy them to ``key``, so that none of them passes here.

        Returns every digest that is known of them: one for each of :meth:`algorithms` at least. None if that
        cannot be; then nothing was done.
        """
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

    def copy_to(self, backend: Backend, key: str, entry: Entry) -> None:  # noqa: ARG002
        return None

    def algorithms(self, entry: Entry) -> tuple[str, ...]:
        """Both: the one that was promised, and the store's own, by which others will find these bytes."""
        return tuple({entry.digest.algorithm: None, "blake3": None})

    def is_stored(self, entry: Entry) -> bool:  # noqa: ARG002
        return False

    def progress(self, name: str, entry: Entry) -> Progress:
        return source_of(_origin(entry)).progress(name, entry.size)


class StoreSupply:
    """Fetches blobs of a store; what the store does not hold comes from its origin.

    ``algorithms`` are those a store that keeps the bytes needs to know them by, besides their digest's own;
    ``more_copies`` knows of files on this machine.
    """

    def __init__(
        self, blobs: Blobs, *, algorithms: tuple[str, ...] = (), more_copies: Copies = lambda _: ()
    ) -> None:
        self._blobs = blobs
        self._algorithms = algorithms
        self._more_copies = more_copies
        self._origins = Origins(more_copies)
        self._keys: dict[Digest, str] = {}
        self._aliases: dict[str, dict[Digest, Digest]] = {}

    def copies(self, entry: Entry) -> Sequence[Path]:
        if not self.is_stored(entry):
            return self._origins.copies(entry)
        if self._blobs.local is not None:
            return [self._blobs.local.path(self._keys[entry.digest])]
        return [*self._more_copies(entry)]

    def open(self, entry: Entry) -> Remote:
        if not self.is_stored(entry):
            if entry.origin is not None:
                return self._origins.open(entry)
            self._blobs.find(entry.digest, entry.size, entry.blob)  # raises what says why
        return remote_of(self._blobs.backend, self._keys[entry.digest], entry.size)

    def copy_to(self, backend: Backend, key: str, entry: Entry) -> dict[str, Digest] | None:
        if not isinstance(backend, SupportsCopy) or not self.is_stored(entry):
            return None
        known = self._known(entry.digest)
        if not set(self.algorithms(entry)) <= known.keys():
            return None  # only reading them tells
        copied = backend.copy_from(self._blobs.backend, self._keys[entry.digest], key, entry.size)
        return known if copied else None

    def algorithms(self, entry: Entry) -> tuple[str, ...]:
        own = self._origins.algorithms(entry) if not self.is_stored(entry) else (entry.digest.algorithm,)
        return tuple(dict.fromkeys((*own, *self._algorithms)))

    def is_stored(self, entry: Entry) -> bool:
        if entry.digest not in self._keys:
            try:
                self._keys[entry.digest] = self._blobs.find(entry.digest, entry.size, entry.blob)
            except (NotFound, Damaged):
                return False
        return True

    def progress(self, name: str, entry: Entry) -> Progress:
        return Quiet() if entry.origin is None else self._origins.progress(name, entry)

    def _known(self, digest: Digest) -> dict[str, Digest]:
        """A digest, and others of the same bytes that the store has recorded."""
        known = {digest.algorithm: digest}
        for algorithm in self._algorithms:
            if algorithm not in known and (other := self._others(algorithm).get(digest)) is not None:
                known[algorithm] = other
        return known

    def _others(self, algorithm: str) -> dict[Digest, Digest]:
        """The digests of an algorithm by the digests their aliases name; one listing for all of them."""
        if algorithm not in self._aliases:
            found: dict[Digest, Digest] = {}
            for key in self._blobs.backend.keys(f"{BLOBS}{algorithm}/"):
                digest, _, other = parse_blob_key(key)
                if other is not None:
                    found[other] = digest
            self._aliases[algorithm] = found
        return self._aliases[algorithm]


class Quiet:
    """No bar: nobody said how users of this store want theirs."""

    def update(self, count: int, /) -> None:
        pass

    def close(self) -> None:
        pass


def _origin(entry: Entry) -> str:
    if entry.origin is None:
        raise InvalidInput(f"{entry.path!r} has no origin to fetch it from")
    return entry.origin
