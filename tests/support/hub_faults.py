"""What a Hub, its CDN or the network between can do wrong. Each is a :data:`tests.support.hub.Fault`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import count

from .hub import Answer, Fault, Reply, Request

Rule = Callable[[Request], Fault | None]
"""What ``LoopbackHub.fault`` is: which fault, if any, a request meets."""


def on_bodies(fault: Fault, *, times: int | None = None, every: int = 1) -> Rule:
    """``fault`` for downloads of large files, which the CDN serves: the first ``times`` (None: all) of each
    ``every``-th request."""
    numbers, lock = count(), threading.Lock()

    def rule(request: Request) -> Fault | None:
        if not request.on_cdn:
            return None
        with lock:
            number = next(numbers)
        hit = number % every == 0 and (times is None or number // every < times)
        return fault if hit else None

    return rule


def status(code: int, headers: Mapping[str, str] | None = None) -> Fault:
    """Refuse with this status."""
    return lambda _request, _answer: Reply(code, headers or {}, [b"no"], 2)


def flipped_bit(offset: int) -> Fault:
    """Flip one bit of the file, at an offset in bytes, whichever range it is sent in."""

    def fault(request: Request, answer: Answer) -> Reply:
        reply = answer(request)
        start = _start(reply)

        def body() -> Iterator[bytes]:
            position = start
            for chunk in reply.body:
                if position <= offset < position + len(chunk):
                    changed = bytearray(chunk)
                    changed[offset - position] ^= 0x10
                    yield bytes(changed)
                else:
                    yield chunk
                position += len(chunk)

        return replace(reply, body=body())

    return fault


def other_bytes(request: Request, answer: Answer) -> Reply:
    """Another file of the same size."""
    reply = answer(request)
    return replace(reply, body=(bytes(len(chunk)) for chunk in reply.body))


def truncated(request: Request, answer: Answer) -> Reply:
    """Half a body, and a Content-Length that says so."""
    reply = answer(request)
    length = reply.length // 2
    return replace(reply, body=_take(reply.body, length), length=length)


def ranges_ignored(request: Request, answer: Answer) -> Reply:
    """The whole file, whatever was asked for."""
    headers = {name: value for name, value in request.headers.items() if name != "range"}
    return answer(replace(request, headers=headers))


def shifted(request: Request, answer: Answer) -> Reply:
    """Another range than was asked for, and an honest Content-Range."""
    first, _, last = request.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")
    if not last or int(first) == 0:
        return answer(request)
    moved = f"bytes={int(first) - 1}-{int(last) - 1}"
    return answer(replace(request, headers={**request.headers, "range": moved}))


def longer(request: Request, answer: Answer) -> Reply:
    """A Content-Range that says the file is longer than it was."""
    reply = answer(request)
    said = reply.headers.get("Content-Range", "")
    return replace(reply, headers={**reply.headers, "Content-Range": said.rpartition("/")[0] + "/999999999999"})


def compressed(request: Request, answer: Answer) -> Reply:
    """A content encoding nobody asked for."""
    reply = answer(request)
    return replace(reply, headers={**reply.headers, "Content-Encoding": "gzip"})


def changing_etag() -> Fault:
    """Another ETag each time."""
    numbers = count()

    def fault(request: Request, answer: Answer) -> Reply:
        reply = answer(request)
        return replace(reply, headers={**reply.headers, "ETag": f'"{next(numbers)}"'})

    return fault


def stalled(after: int, seconds: float) -> Fault:
    """Some bytes, then none for so long."""

    def fault(request: Request, answer: Answer) -> Reply:
        reply = answer(request)

        def body() -> Iterator[bytes]:
            yield from _take(reply.body, after)
            time.sleep(seconds)

        return replace(reply, body=body())

    return fault


def throttled(bytes_per_second: int) -> Fault:
    """Each connection at no more than this speed."""

    def fault(request: Request, answer: Answer) -> Reply:
        reply = answer(request)

        def body() -> Iterator[bytes]:
            for chunk in reply.body:
                for start in range(0, len(chunk), 16384):
                    piece = chunk[start : start + 16384]
                    yield piece
                    time.sleep(len(piece) / bytes_per_second)

        return replace(reply, body=body())

    return fault


class Counted:
    """Counts the bytes of large files that are given to be sent, through whatever other fault there is."""

    def __init__(self, rule: Rule | None = None) -> None:
        self.bytes = 0
        self._rule = rule
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Fault | None:
        if not request.on_cdn:
            return self._rule(request) if self._rule else None
        inner = self._rule(request) if self._rule else None

        def fault(request: Request, answer: Answer) -> Reply:
            reply = inner(request, answer) if inner else answer(request)
            return replace(reply, body=self._count(reply.body))

        return fault

    def _count(self, body: object) -> Iterator[bytes]:
        for chunk in body:  # type: ignore[attr-defined]
            with self._lock:
                self.bytes += len(chunk)  # before it is sent: whoever has it must find it counted
            yield chunk


def _start(reply: Reply) -> int:
    said = reply.headers.get("Content-Range", "bytes 0-")
    return int(said.removeprefix("bytes ").partition("-")[0])


def _take(chunks: object, count_: int) -> Iterator[bytes]:
    for chunk in chunks:  # type: ignore[attr-defined]
        yield chunk[:count_]
        count_ -= len(chunk)
        if count_ <= 0:
            return
