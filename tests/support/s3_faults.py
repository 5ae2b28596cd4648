"""A proxy in front of an S3 server that does what networks and servers do on a bad day, and counts."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit


@dataclass
class Exchange:
    """One request and its answer. A fault may change it before it is forwarded, and before it is answered."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int = 0
    answer: bytes = b""
    answer_headers: list[tuple[str, str]] = field(default_factory=list)
    send: int | None = None
    """How many bytes of the answer are sent before the connection is cut; None for all of them."""
    rate: int | None = None
    """Bytes per second of the answer."""
    stall: float = 0.0
    """Seconds of silence after the first half of the answer."""

    @property
    def is_upload(self) -> bool:
        return self.method == "PUT" and len(self.body) > 0

    @property
    def is_download(self) -> bool:
        return self.method == "GET" and "list-type" not in self.path and "/blobs/" in self.path

    def refuse(self, status: int, code: str) -> None:
        """Answer in the server's place, as S3 words its errors."""
        self.status = status
        self.answer = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        self.answer_headers = [("Content-Type", "application/xml")]


Fault = Callable[[Exchange], object]


class FaultProxy:
    """Forwards everything to ``endpoint``. ``before`` sees each request before it is forwarded, and may refuse or
    spoil it; ``after`` sees the answer. Both are called from many threads."""

    def __init__(self, endpoint: str) -> None:
        self._target = urlsplit(endpoint).netloc
        self.before: Fault | None = None
        self.after: Fault | None = None
        self.log: list[Exchange] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _handle(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                exchange = Exchange(self.command, self.path, dict(self.headers.items()), body)
                proxy.log.append(exchange)
                self.close_connection = not proxy._exchange(exchange, self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def downloaded(self) -> int:
        """Bytes of blobs that were sent."""
        return sum(len(each.answer) for each in self.log if each.is_download and each.status in (200, 206))

    def uploaded(self) -> int:
        """Bytes of blobs that were received."""
        return sum(len(each.body) for each in self.log if each.is_upload and "/blobs/" in each.path)

    def _exchange(self, exchange: Exchange, handler: Any) -> bool:
        """Whether the connection can be used again."""
        if self.before:
            self.before(exchange)
        if exchange.send == 0:
            return False
        if not exchange.status:
            self._forward(exchange)
            if self.after:
                self.after(exchange)
        with suppress(ConnectionError):
            return self._answer(exchange, handler)
        return False

    def _forward(self, exchange: Exchange) -> None:
        connection = http.client.HTTPConnection(self._target, timeout=60)
        try:
            # The Host header is the proxy's own: it is what the client has signed.
            with suppress(ConnectionError):  # it may refuse a request, and hang up, before it has read all of it
                connection.request(exchange.method, exchange.path, exchange.body or None, exchange.headers)
            response = connection.getresponse()
            exchange.answer = response.read()
            exchange.status = response.status
            exchange.answer_headers = response.getheaders()
        finally:
            connection.close()

    def _answer(self, exchange: Exchange, handler: Any) -> bool:
        if exchange.send == 0:
            return False
        handler.send_response(exchange.status)
        for name, value in exchange.answer_headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "server", "date"):
                handler.send_header(name, value)
        length = {name.lower(): value for name, value in exchange.answer_headers}.get("content-length")
        is_head = exchange.method == "HEAD" and length is not None
        handler.send_header("Content-Length", length if is_head else str(len(exchange.answer)))
        handler.end_headers()
        whole = exchange.answer if exchange.method != "HEAD" else b""
        body = whole if exchange.send is None else whole[: exchange.send]
        self._send(body, exchange, handler)
        return len(body) == len(whole)

    def _send(self, body: bytes, exchange: Exchange, handler: Any) -> None:
        if exchange.stall:
            handler.wfile.write(body[: len(body) // 2])
            handler.wfile.flush()
            time.sleep(exchange.stall)
            body = body[len(body) // 2 :]
        step = exchange.rate // 10 if exchange.rate else max(1, len(body))
        for start in range(0, len(body), step):
            handler.wfile.write(body[start : start + step])
            if exchange.rate:
                time.sleep(0.1)


class Times:
    """A fault of the first ``count`` exchanges that ``applies`` to."""

    def __init__(self, count: int, fault: Fault, applies: Callable[[Exchange], bool]) -> None:
        self._left = count
        self._fault = fault
        self._applies = applies
        self._lock = threading.Lock()

    def __call__(self, exchange: Exchange) -> None:
        if not self._applies(exchange):
            return
        with self._lock:
            if self._left == 0:
                return
            self._left -= 1
        self._fault(exchange)


def flipped(data: bytes) -> bytes:
    """One bit in the middle is another."""
    changed = bytearray(data)
    changed[len(changed) // 2] ^= 1
    return bytes(changed)
