"""Ranged reads over HTTP that believe nothing: every answer is compared with what was asked for.

What a Hub does, and other servers like it: the address of a file redirects to another host, with a signature that
expires. The token goes to the file's own origin (scheme, host and port) and nowhere else.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from cas.errors import OriginChanged, OriginGated, OriginGone, SourceError, SourceUnavailable
from cas.streaming.addresses import is_private
from cas.streaming.connections import let_go, manager_for

TIMEOUT = 10.0
"""Seconds without a byte after which a connection is given up (huggingface_hub's own default)."""
TRICKLE_SECONDS = 30.0
TRICKLE_BYTES = 64 << 10
"""A connection that brings fewer bytes than this in that many seconds is given up, too."""
_HOPS = 5
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)\Z")

Explain = Callable[[int, Mapping[str, str]], SourceError | None]
"""A source's own reading of a refusal (status and headers); None for the usual one."""


class _Location(NamedTuple):
    """Where the last redirect led, and the ETag seen there."""

    url: str
    etag: str | None


class HttpRemote:
    """One file behind a URL; see :class:`cas.sources.Remote`.

    ``size`` is in bytes; ``linked_etag`` is what the server promises of the content on its redirect
    (``X-Linked-ETag``, for the Hub a sha256), checked if both are given. ``authorization`` is a header's value.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        size: int,
        linked_etag: str | None = None,
        authorization: str | None = None,
        explain: Explain | None = None,
        user_agent: str = "mlflow-cas",
        timeout: float = TIMEOUT,
    ) -> None:
        self.name = name
        self.ranged = True
        self._url = url
        self._size = size
        self._linked_etag = linked_etag
        self._authorization = authorization
        self._explain = explain
        self._user_agent = user_agent
        self._timeout = timeout
        self._location: _Location | None = None
        self._lock = threading.Lock()

    def open_range(self, start: int, stop: int) -> HttpBody:
        response, url = self._follow(start, stop)
        try:
            skip = self._check(response, start, stop)
            self._check_etag(response, url)
            return HttpBody(self.name, response, skip, stop - start)
        except BaseException:
            response.close()
            raise

    def close(self) -> None:
        """Connections belong to the process, and stay for the next file."""

    def _follow(self, start: int, stop: int) -> tuple[urllib3.BaseHTTPResponse, str]:
        """The first answer that is no redirect, and where it came from."""
        known = self._location
        url = known.url if known else self._url
        for _ in range(_HOPS):
            response = self._request(url, start, stop)
            if response.status not in _REDIRECTS:
                if response.status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
                    return response, url
                response.close()
                raise self._refusal(response, url)
            target = urljoin(url, response.headers.get("Location", ""))
            let_go(response)
            self._check_linked(response)
            self._check_target(target)
            url = target
        raise SourceUnavailable(f"{self.name}: redirected more than {_HOPS} times")

    def _request(self, url: str, start: int, stop: int) -> urllib3.BaseHTTPResponse:
        headers = {
            "Range": f"bytes={start}-{stop - 1}",
            "Accept-Encoding": "identity",
            "User-Agent": self._user_agent,
        }
        if self._authorization and _origin(url) == _origin(self._url):
            headers["Authorization"] = self._authorization
        try:
            return manager_for(url).request(
                "GET", url, headers=headers, preload_content=False, redirect=False, retries=False,
                timeout=urllib3.Timeout(connect=self._timeout, read=self._timeout),
            )  # fmt: skip
        except HTTPError as error:
            raise SourceUnavailable(f"{self.name}: {_reason(error)} (from {_host(url)})") from error

    def _check_linked(self, response: urllib3.BaseHTTPResponse) -> None:
        """What the file's own origin says of the content, on its way to somewhere else."""
        size, etag = response.headers.get("X-Linked-Size"), response.headers.get("X-Linked-ETag")
        if size is not None and size != str(self._size):
            raise OriginChanged(f"{self.name} has {size} bytes now; {self._size} were promised")
        if etag is not None and self._linked_etag is not None and etag.strip('"') != self._linked_etag:
            raise OriginChanged(f"{self.name} is {etag.strip(chr(34))} now; {self._linked_etag} was promised")

    def _check_target(self, target: str) -> None:
        parts = urlsplit(target)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SourceError(f"{self.name}: redirected to something that is no web address")
        if urlsplit(self._url).scheme == "https" and parts.scheme != "https":
            raise SourceError(f"{self.name}: redirected from https to plain http at {_host(target)}; refused")
        own = urlsplit(self._url).hostname or ""
        if is_private(parts.hostname) and not is_private(own):
            raise SourceError(f"{self.name}: redirected to the private address {_host(target)}; refused")

    def _check(self, response: urllib3.BaseHTTPResponse, start: int, stop: int) -> int:
        """Refuse an answer to another question; returns how many bytes come before the range."""
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise SourceUnavailable(f"{self.name}: sent in {encoding} encoding, which was not asked for")
        length = response.headers.get("Content-Length")
        if response.status == HTTPStatus.OK:
            if length is not None and int(length) != self._size:
                raise OriginChanged(f"{self.name} has {length} bytes now; {self._size} were promised")
            self.ranged = self.ranged and (start, stop) == (0, self._size)
            return start
        match = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
        if match is None or (int(match[1]), int(match[2])) != (start, stop - 1):
            said = response.headers.get("Content-Range")
            raise SourceUnavailable(f"{self.name}: asked for bytes {start}-{stop - 1}, got {said!r}")
        if match[3] not in ("*", str(self._size)):
            raise OriginChanged(f"{self.name} has {match[3]} bytes now; {self._size} were promised")
        return 0

    def _check_etag(self, response: urllib3.BaseHTTPResponse, url: str) -> None:
        """Another ETag than before at one address means another file: ask the file's origin again."""
        etag = response.headers.get("ETag")
        with self._lock:
            known = self._location
            if known is not None and known.url == url and known.etag != etag:
                self._location = None
                raise SourceUnavailable(f"{self.name}: its ETag changed from {known.etag} to {etag} meanwhile")
            self._location = _Location(url, etag)

    def _refusal(self, response: urllib3.BaseHTTPResponse, url: str) -> SourceError:
        status = response.status
        what = f"{self.name}: {status} {_phrase(status)} from {_host(url)}"
        with self._lock:
            elsewhere, self._location = _origin(url) != _origin(self._url), None
        if status in _PASSING:
            return SourceUnavailable(what, retry_after=retry_after(response.headers))
        if elsewhere and status in (400, 401, 403, 404, 410):
            return SourceUnavailable(f"{what}: the signature it redirected to has expired, or was refused")
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return OriginChanged(f"{what}: it is shorter now than the {self._size} bytes promised")
        explained = self._explain(status, response.headers) if self._explain else None
        if explained is not None:
            return explained
        if status in (401, 403):
            return OriginGated(what)
        return OriginGone(what) if status in (404, 410) else SourceError(what)


class HttpBody:
    """The bytes of one range; see :class:`cas.sources.Body`."""

    def __init__(self, name: str, response: urllib3.BaseHTTPResponse, skip: int, length: int) -> None:
        self._name = name
        self._response = response
        self._remaining = length
        self._mark = (time.monotonic(), 0)
        self._received = 0
        while skip:
            skip -= len(self._receive(min(skip, 1 << 20)))

    def read(self, limit: int) -> bytes:
        if not self._remaining:
            return b""
        data = self._receive(min(limit, self._remaining))
        self._remaining -= len(data)
        return data

    def close(self) -> None:
        # Whole bodies give their connection back; the rest of a broken one is not worth waiting for.
        let_go(self._response)

    def abort(self) -> None:
        with suppress(ValueError, OSError, RuntimeError):  # not possible, or over already: then its timeout ends it
            self._response.shutdown()

    def _receive(self, limit: int) -> bytes:
        try:
            data = self._response.read1(limit)
        except (HTTPError, OSError) as error:
            raise SourceUnavailable(f"{self._name}: {_reason(error)}") from error
        if not data:
            raise SourceUnavailable(f"{self._name}: the answer ended {self._remaining} bytes early")
        self._received += len(data)
        since, bytes_then = self._mark
        if (elapsed := time.monotonic() - since) > TRICKLE_SECONDS:
            if self._received - bytes_then < TRICKLE_BYTES:
                raise SourceUnavailable(f"{self._name}: {self._received - bytes_then} bytes in {elapsed:.0f} s")
            self._mark = (time.monotonic(), self._received)
        return data


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _host(url: str) -> str:
    """All of an address that may be shown: paths and queries can hold signatures."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _reason(error: Exception) -> str:
    """urllib3's messages quote the address, signature and all; the kind of error says enough."""
    cause = error.__cause__ or error
    number = cause.errno if isinstance(cause, OSError) else None
    return f"{type(cause).__name__}: {os.strerror(number)}" if number else type(cause).__name__


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, or a date, as RFC 9110 10.2.3 has it; what cannot be read is as if it were not there."""
    text = headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None
