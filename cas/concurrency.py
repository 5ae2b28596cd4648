"""Many requests on their way at once, where each is one to another machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from cas.backends import Backend, SupportsLocalFiles

_AT_ONCE = 16
_WAITING = 256
"""Results that may wait to be asked for: there may be a million to come, each of some size."""

T = TypeVar("T")
R = TypeVar("R")


def at_once(backend: Backend, function: Callable[[T], R], arguments: Iterable[T]) -> Iterator[R]:
    """``function`` of each argument, in their order. On a local disk one by one: what it does there is computing,
    which threads only make slower."""
    if isinstance(backend, SupportsLocalFiles):
        yield from map(function, arguments)
        return
    remaining = iter(arguments)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="cas-at-once") as pool:
        while some := list(islice(remaining, _WAITING)):
            yield from pool.map(function, some)
