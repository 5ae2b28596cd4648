"""Many requests on their way at once, where each is one to another machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from cas.backends import Backend, SupportsLocalFiles

_AT_ONCE = 16
_WAITING = 256

T = TypeVar("T")
R = TypeVar("R")


def at_once(
    backend: Backend, function: Callable[[T], R], arguments: Iterable[T], *, waiting: int = _WAITING
) -> Iterator[R]:
    """``function`` of each argument, in their order. On a local disk one by one: what it does there is computing,
    which threads only make slower. At most ``waiting`` results are in memory before they are asked for."""
    if isinstance(backend, SupportsLocalFiles):
        yield from map(function, arguments)
        return
    remaining = iter(arguments)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="cas-at-once") as pool:
        while some := list(islice(remaining, waiting)):
            yield from pool.map(function, some)
