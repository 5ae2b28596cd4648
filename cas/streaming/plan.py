"""Who does which part of a download, and how far it is."""

from __future__ import annotations

import threading
from typing import NamedTuple

_MISSING, _RECORDED, _CLAIMED, _DONE = range(4)


class Span(NamedTuple):
    """Pieces ``first`` up to ``stop``. ``recorded``: they are said to be here, and have to be checked."""

    first: int
    stop: int
    recorded: bool


class Plan:
    """Which pieces are missing, being worked on, and done; shared by the threads of one download.

    The lowest piece that needs work is always handed out first, and none that lies more than ``window`` pieces
    ahead of the hash: what it reads is then still in the page cache, and the piece it waits for is always
    somebody's.
    """

    def __init__(self, pieces: int, recorded: set[int], *, window: int, span: int) -> None:
        self._states = bytearray(_RECORDED if index in recorded else _MISSING for index in range(pieces))
        self._window = window
        self._span = span
        self._next = 0  # nothing below needs work
        self._hashed = 0
        self._starving = True
        self._error: BaseException | None = None
        # One lock, and who waits for what: workers for room in the window, or for the hash to run out of work;
        # the hash for pieces. A piece arrives every few hundred microseconds, and wakes only who can go on.
        self._lock = threading.Lock()
        self._room, self._starved, self._arrived, self._ended = (threading.Condition(self._lock) for _ in range(4))

    @property
    def failed(self) -> bool:
        return self._error is not None

    def claim(self, *, reserve: bool = False, endless: bool = False) -> Span | None:
        """Work to do, as soon as there is some; None when there never will be.

        A ``reserve`` gets some only while the hash has nothing to do: where the network is the limit. ``endless``
        spans are as long as the gap, for a source that sends from the start whatever one asks.
        """
        with self._lock:
            while True:
                if self._error is not None:
                    return None
                self._skip_claimed()
                if self._next == len(self._states):
                    self._starved.notify_all()  # reserves need not wait for work that will not come
                    return None
                # Whole spans: many short requests at the edge of the window would cost more than a short wait.
                end = min(self._next + self._span, len(self._states))
                if end <= self._hashed + self._window and (self._starving or not reserve):
                    return self._take(endless=endless)
                (self._starved if reserve else self._room).wait()

    def done(self, index: int) -> None:
        """A piece is on disk as it should be."""
        with self._lock:
            self._states[index] = _DONE
            if index == self._hashed:
                self._arrived.notify()

    def missing(self, index: int) -> None:
        """A piece that was claimed has to be fetched, by whoever comes next."""
        with self._lock:
            self._states[index] = _MISSING
            self._next = min(self._next, index)
            self._room.notify_all()
            self._starved.notify_all()

    def hashed(self, position: int, most: int) -> int:
        """All below ``position`` is hashed; waits for more, and returns up to where pieces are done, at most
        ``most`` of them. Returns ``position`` itself at the end, and raises what made the download fail."""
        with self._lock:
            self._hashed = position
            self._room.notify_all()
            if position == len(self._states):
                return position
            while self._states[position] != _DONE and self._error is None:
                self._starving = True
                self._starved.notify_all()
                self._arrived.wait()
            self._starving = False
            if self._error is not None:
                raise self._error
            stop = position
            while stop < min(len(self._states), position + most) and self._states[stop] == _DONE:
                stop += 1
            return stop

    def wait_for_window(self, index: int) -> bool:
        """For an endless span: wait until ``index`` is not too far ahead; False if the download failed."""
        with self._lock:
            while index >= self._hashed + self._window and self._error is None:
                self._room.wait()
            return self._error is None

    def fail(self, error: BaseException) -> None:
        """End it for all threads. The first error counts."""
        with self._lock:
            self._error = self._error or error
            for each in (self._room, self._starved, self._arrived, self._ended):
                each.notify_all()

    def sleep(self, seconds: float) -> None:
        """As time.sleep, less when the download fails meanwhile."""
        with self._lock:
            self._ended.wait_for(lambda: self._error is not None, timeout=seconds)

    def _skip_claimed(self) -> None:
        while self._next < len(self._states) and self._states[self._next] in (_CLAIMED, _DONE):
            self._next += 1

    def _take(self, *, endless: bool) -> Span:
        first, state = self._next, self._states[self._next]
        limit = len(self._states)
        if not endless:
            limit = min(limit, first + self._span)
        stop = first
        while stop < limit and self._states[stop] == state:
            self._states[stop] = _CLAIMED
            stop += 1
        self._next = stop
        return Span(first, stop, state == _RECORDED)
