"""Whether a place does what a store relies on. Asked once, when a store is made there."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from cas.backends.interface import Backend
from cas.errors import InvalidInput, KeyExists, KeyNotFound
from cas.keys import SCRATCH
from cas.ulid import new_ulid

_ROUNDS, _WRITERS = 8, 8


def probe(backend: Backend) -> None:
    """Try, with keys of its own that are gone afterwards, what every guarantee stands on: what was put is read
    and listed at once, ranges are ranges, and of concurrent creators of a key exactly one wins.

    Raises :class:`InvalidInput` saying what the place does instead, and what any request may raise.
    """
    prefix = f"{SCRATCH}probe-{new_ulid()}/"
    keys = [f"{prefix}{number}" for number in range(_ROUNDS)]
    try:
        for key in keys:
            _race(backend, key)
        if sorted(backend.keys(prefix)) != sorted(keys):
            raise _unfit(backend, "a listing does not show at once what was put")
        if backend.read(keys[0], 1, 2) != backend.read(keys[0])[1:3]:
            raise _unfit(backend, "a ranged read gives other bytes than were asked for")
    finally:
        backend.delete(keys)
    try:
        backend.size(keys[0])
    except KeyNotFound:
        return
    raise _unfit(backend, "an object is still there after it was deleted")


def _race(backend: Backend, key: str) -> None:
    barrier = threading.Barrier(_WRITERS)

    def create(number: int) -> bool:
        barrier.wait()
        try:
            backend.put(key, [b"%d" % number * 100], create=True)
        except KeyExists:
            return False
        return True

    with ThreadPoolExecutor(_WRITERS) as pool:
        won = [number for number, is_winner in enumerate(pool.map(create, range(_WRITERS))) if is_winner]
    if len(won) != 1:
        raise _unfit(
            backend,
            f"of {_WRITERS} writers that created one key at once, {len(won)} were told that they had; a store needs"
            " create-only puts (If-None-Match: *) of which exactly one succeeds",
        )
    if backend.read(key) != b"%d" % won[0] * 100:
        raise _unfit(backend, "after a create-only put, another writer's bytes are under the key")


def _unfit(backend: Backend, reason: str) -> InvalidInput:
    return InvalidInput(f"{backend.name} cannot hold a store: {reason}. See docs/object-stores.md")
