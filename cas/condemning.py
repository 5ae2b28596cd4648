"""The condemned lists of a store: reading all of them, publishing new ones, dropping spent ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from cas.backends import Backend, SupportsTimes
from cas.concurrency import at_once
from cas.condemned import CondemnedList, condemned_key, condemned_ulid, encode_condemned
from cas.errors import KeyNotFound
from cas.inventory import pack, unpack
from cas.keys import CONDEMNED
from cas.ulid import milliseconds_of, new_ulid

_KEYS = 4096
"""Of one list: every writer that relies on an old blob reads all lists."""
_READ_AT_ONCE = 16
"""A full list takes a megabyte of memory."""
NEVER = float("inf")


@dataclass(slots=True)
class Condemned:
    """``since`` says of each packed key that is condemned since when it is known to be unneeded, in seconds since
    1970, or NEVER."""

    lists: list[str] = field(default_factory=list)
    since: dict[bytes, float] = field(default_factory=dict)

    @classmethod
    def read(cls, backend: Backend) -> Condemned:
        """Read every list. Raises :class:`MalformedRecord` for one that cannot be read."""
        found = cls()
        stored = dict(backend.modified(CONDEMNED)) if isinstance(backend, SupportsTimes) else {}
        for key, listed in _lists(backend, backend.keys(CONDEMNED)):
            when = stored.get(key, milliseconds_of(condemned_ulid(key)) / 1000) if listed.unneeded else NEVER
            found.lists.append(key)
            for each in listed.keys:
                packed = pack(each)
                found.since[packed] = min(when, found.since.get(packed, NEVER))
        return found


def publish(backend: Backend, keys: Sequence[bytes], *, unneeded: bool) -> list[str]:
    """Put lists of these keys; returns theirs. All are visible when it returns."""
    published = []
    for start in range(0, len(keys), _KEYS):
        key = condemned_key(new_ulid())
        listed = map(unpack, keys[start : start + _KEYS])
        backend.put(key, [encode_condemned(listed, unneeded=unneeded)], create=True)
        published.append(key)
    return published


def spent(backend: Backend, lists: Iterable[str], present: set[bytes]) -> list[str]:
    """Those of the lists of which no key is ``present``."""
    return [key for key, listed in _lists(backend, lists) if present.isdisjoint(pack(each) for each in listed.keys)]


def _lists(backend: Backend, keys: Iterable[str]) -> Iterator[tuple[str, CondemnedList]]:
    def read(key: str) -> CondemnedList | None:
        try:
            return CondemnedList.decode(key, backend.read(key))
        except KeyNotFound:
            return None  # spent, and dropped by another collector

    every = list(keys)
    for key, listed in zip(every, at_once(backend, read, every, waiting=_READ_AT_ONCE), strict=True):
        if listed is not None:
            yield key, listed
