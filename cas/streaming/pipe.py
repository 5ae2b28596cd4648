"""One file read in parallel ranges, and handed on in order, in bounded memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from cas.sources import Remote
from cas.streaming.patience import Patience

SPAN = 8 << 20
"""Bytes of one request."""
_AT_ONCE = 4
_READ = 1 << 20


def piped(
    remote: Remote, size: int, patience: Patience, *, advance: Callable[[int], object] = lambda _: None
) -> Iterator[bytes]:
    """The ``size`` bytes of ``remote``, in order. At most 6 spans of 8 MiB are in memory at once.

    Raises what the remote does; :class:`cas.errors.SourceUnavailable` only when ``patience`` has ended.
    """
    ahead: deque[Future[bytes]] = deque()
    # With a source that ignores ranges, each costs all the bytes before it: then one does all the rest.
    first = _Span(remote, 0, min(SPAN, size), patience).read()
    yield from _told([first], advance)
    position = len(first)
    if not remote.ranged:
        yield from _told(_whole(remote, position, size, patience), advance)
        return
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="cas-pipe") as pool:
        try:
            while position < size or ahead:
                while position < size and len(ahead) < _AT_ONCE + 1:
                    stop = min(position + SPAN, size)
                    ahead.append(pool.submit(_Span(remote, position, stop, patience).read))
                    position = stop
                yield from _told([ahead.popleft().result()], advance)
        finally:
            for each in ahead:
                each.cancel()


def _told(chunks: Iterator[bytes] | list[bytes], advance: Callable[[int], object]) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        advance(len(chunk))


def _whole(remote: Remote, position: int, size: int, patience: Patience) -> Iterator[bytes]:
    while position < size:
        span = _Span(remote, position, size, patience, most=SPAN)
        yield (data := span.read())
        position += len(data)


class _Span:
    """A range on its way, which goes on from wherever the last connection broke off."""

    def __init__(self, remote: Remote, start: int, stop: int, patience: Patience, most: int | None = None) -> None:
        self._remote, self._start, self._stop, self._patience = remote, start, stop, patience
        self._most = most or stop - start
        self._data = bytearray()

    def read(self) -> bytes:
        self._patience.persist(self._go_on, time.sleep)
        return bytes(self._data)

    def _go_on(self) -> None:
        wanted = min(self._most, self._stop - self._start)
        if len(self._data) == wanted:
            return
        with closing(self._remote.open_range(self._start + len(self._data), self._stop)) as body:
            while len(self._data) < wanted:
                self._data += body.read(min(_READ, wanted - len(self._data)))
                self._patience.progress()
