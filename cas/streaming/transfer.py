"""One file streamed into an unfinished download, and verified.

Several connections write ranges to the data file, each range in pieces that are recorded as they are complete. One
thread hashes behind them, in order, from the page cache, and holds them back if they get too far ahead: memory
does not grow with the file, and no byte is read from the disk again.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

import xxhash

from cas.atomic import start_writeback, write_all_at
from cas.digest import Digest, Hasher
from cas.errors import CasError, OriginChanged
from cas.sources import Body, Remote
from cas.streaming.journal import PIECE, Journal
from cas.streaming.patience import Patience
from cas.streaming.plan import Plan, Span

_logger = logging.getLogger(__name__)

CONNECTIONS = 8
_EAGER = 2
"""So many connections keep a hash busy where the network is fast; the others take work only if it is not."""
SPAN = (8 << 20) // PIECE
"""Pieces of one request, so many that asking takes little of the time."""
WINDOW = (128 << 20) // PIECE
"""Pieces the connections may be ahead of the hash: 128 MiB, surely still in the page cache."""
_READ = 1 << 20
_HASHED_AT_ONCE = (1 << 20) // PIECE
_WRITEBACK = 16 << 20


def stream(
    remote: Remote,
    journal: Journal,
    digest: Digest,
    *,
    algorithms: tuple[str, ...] = ("sha256", "blake3"),
    advance: Callable[[int], object] = lambda _: None,
    patience: Patience | None = None,
    connections: int = CONNECTIONS,
) -> dict[str, Digest]:
    """Complete ``journal`` from ``remote``; returns the digests of all its bytes, by algorithm, of which
    ``digest``'s has to be one.

    ``advance`` is told of bytes that are done. Raises :class:`OriginChanged` if the bytes are not those of
    ``digest``; the unfinished download is then worth nothing. After any other error, and after a crash, it can
    be gone on with.
    """
    transfer = _Transfer(remote, journal, advance, patience or Patience())
    hasher = transfer.run(connections, algorithms)
    found = hasher.digests()
    if found[digest.algorithm] != digest:
        raise OriginChanged(
            f"{remote.name} sent other bytes than were promised: expected {digest}, found"
            f" {found[digest.algorithm]} ({hasher.size} bytes). Nothing was stored"
        )
    return found


@dataclass
class _Transfer:
    remote: Remote
    journal: Journal
    advance: Callable[[int], object]
    patience: Patience
    plan: Plan = field(init=False)
    bodies: set[Body] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.plan = Plan(self.journal.pieces, set(self.journal.marks), window=WINDOW, span=SPAN)

    def run(self, connections: int, algorithms: tuple[str, ...]) -> Hasher:
        count = max(1, min(connections, -(-self.journal.pieces // SPAN)))
        threads = [
            threading.Thread(target=self._work, args=(number >= _EAGER,), name="cas-stream", daemon=True)
            for number in range(count)
        ]
        for thread in threads:
            thread.start()
        try:
            return self._hash(algorithms)
        except BaseException as error:
            self.plan.fail(error)
            for body in list(self.bodies):
                body.abort()
            raise
        finally:
            # They write to the journal's descriptors, which the caller will close.
            for thread in threads:
                thread.join()

    def _hash(self, algorithms: tuple[str, ...]) -> Hasher:
        """In order, whatever order the pieces come in."""
        hasher, position, written = Hasher(algorithms), 0, 0
        buffer = memoryview(bytearray(_HASHED_AT_ONCE * PIECE))
        while (stop := self.plan.hashed(position, _HASHED_AT_ONCE)) != position:
            begin, end = position * PIECE, min(stop * PIECE, self.journal.size)
            chunk = buffer[: end - begin]
            if os.preadv(self.journal.descriptor, [chunk], begin) != len(chunk):
                raise CasError(f"{self.journal.data} was cut short by somebody else while it was being written")
            hasher.update(chunk)
            position = stop
            if end - written >= _WRITEBACK:
                start_writeback(self.journal.descriptor, written, end - written)
                written = end
        return hasher

    def _work(self, reserve: bool) -> None:
        try:
            while (span := self._claim(reserve)) is not None:
                if span.recorded:
                    self._check(span)
                else:
                    self._fetch(span)
        except BaseException as error:
            self.plan.fail(error)

    def _claim(self, reserve: bool) -> Span | None:
        # Where each range costs all the bytes before it, one connection had better do all the rest.
        return self.plan.claim(reserve=reserve, endless=not self.remote.ranged)

    def _check(self, span: Span) -> None:
        """Believe no recorded piece before its bytes were looked at."""
        for index in range(span.first, span.stop):
            begin = index * PIECE
            data = os.pread(self.journal.descriptor, min(PIECE, self.journal.size - begin), begin)
            if self.journal.matches(index, data):
                self._finish(index, len(data))
            else:
                _logger.info("piece %d of %s is not what was recorded; fetching it again", index, self.remote.name)
                self.plan.missing(index)

    def _fetch(self, span: Span) -> None:
        receiving = _Receiving(span, self)
        self.patience.persist(receiving.go_on, self.plan.sleep)

    def _finish(self, index: int, count: int) -> None:
        self.plan.done(index)
        self.advance(count)


class _Receiving:
    """A span on its way, from wherever the last connection broke off."""

    def __init__(self, span: Span, transfer: _Transfer) -> None:
        self._transfer = transfer
        self._journal = transfer.journal
        self._position = span.first * PIECE
        self._stop = min(span.stop * PIECE, self._journal.size)
        self._endless = span.stop - span.first > SPAN
        self._mark = xxhash.xxh3_128()

    def go_on(self) -> None:
        """Receive what is left. Raises SourceUnavailable, after which it can be called again."""
        transfer = self._transfer
        if transfer.plan.failed or self._position == self._stop:
            return
        with closing(transfer.remote.open_range(self._position, self._stop)) as body:
            transfer.bodies.add(body)
            try:
                while self._position < self._stop and not transfer.plan.failed:
                    if self._endless and not transfer.plan.wait_for_window(self._position // PIECE):
                        return
                    self._put(body.read(min(_READ, self._stop - self._position)))
                    transfer.patience.progress()
            finally:
                transfer.bodies.discard(body)

    def _put(self, data: bytes) -> None:
        write_all_at(self._journal.descriptor, data, self._position)
        view, marks = memoryview(data), {}
        while view:
            index = self._position // PIECE
            end = min((index + 1) * PIECE, self._journal.size)
            part = view[: end - self._position]
            self._mark.update(part)
            self._position += len(part)
            view = view[len(part) :]
            if self._position == end:
                marks[index] = self._mark.hexdigest()
                self._mark = xxhash.xxh3_128()
        if marks:
            self._journal.record(marks)
        for index in marks:
            self._transfer._finish(index, min(PIECE, self._journal.size - index * PIECE))
