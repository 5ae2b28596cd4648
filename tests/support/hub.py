"""A Hugging Face Hub on loopback, faithful enough for the real clients.

The tests must exercise the real ``huggingface_hub``, ``transformers`` and ``mlflow`` code, and must do
so without the internet. So this speaks HTTP rather than patching anything in those packages.

Three properties of the real Hub shape the design, because the clients depend on them:

* Metadata of a large file travels on the redirect to the CDN. The client follows redirects that stay on
  the Hub's origin and then misses that metadata, so the CDN must be another origin. One socket serves
  both: ``http://127.0.0.1:PORT`` is the Hub and ``http://localhost:PORT`` is the CDN.
* Commits are immutable: an old one is still served after ``main`` has moved on.
* A 404 says in ``X-Error-Code`` what was missing; the client turns that into its exceptions.
"""

from __future__ import annotations

import json
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self, TypeAlias
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from .hub_access import Access
from .hub_content import MAIN, Commit, FileRange, Repo, StoredFile, model_info, store_file, tree


@dataclass(frozen=True)
class Request:
    """One request as received; header names are lower case."""

    method: str
    path: str
    query: Mapping[str, Sequence[str]]
    headers: Mapping[str, str]
    on_cdn: bool


@dataclass(frozen=True)
class Reply:
    """One response. ``length`` is what the client is promised; a fault may make ``body`` fall short of it."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Iterable[bytes] = ()
    length: int = 0


Answer: TypeAlias = Callable[[Request], Reply]

Fault: TypeAlias = Callable[[Request, Answer], Reply]
"""What to do instead of answering. It is handed the normal answer, so it can alter the request first, alter
the reply after, or not ask at all; that covers refusals, ignored ranges and stalls as well as bad bodies."""


def cut(after: int) -> Fault:
    """Close the connection once ``after`` bytes of the promised body are sent."""

    def fault(request: Request, answer: Answer) -> Reply:
        reply = answer(request)
        return replace(reply, body=_first(reply.body, after))

    return fault


def wrong_bytes(request: Request, answer: Answer) -> Reply:
    """Send a body of the right length in which every bit is flipped."""
    reply = answer(request)
    flip = bytes(255 - value for value in range(256))
    return replace(reply, body=(chunk.translate(flip) for chunk in reply.body))


class LoopbackHub:
    """Serves local directories as Hub repositories, from ``start`` (or ``with``) until ``stop``.

    ``log`` holds every request in order of arrival. ``fault``, when set, is asked about each request and
    may return a fault to apply to it; it runs on the server's threads.
    """

    def __init__(self, *, page_size: int = 1000) -> None:
        self.page_size = page_size
        self.log: list[Request] = []
        self.fault: Callable[[Request], Fault | None] | None = None
        self.access = Access()
        self._repos: dict[str, Repo] = {}
        self._on_cdn: dict[str, StoredFile] = {}
        self._storage = tempfile.TemporaryDirectory(prefix="loopback-hub-")
        self._server = _Server(self._reply, port=0)
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def endpoint(self) -> str:
        """The Hub's origin, for ``HF_ENDPOINT``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def cdn(self) -> str:
        """The origin large files are redirected to."""
        return f"http://localhost:{self.port}/cdn"

    @property
    def requests(self) -> list[tuple[str, str]]:
        """Method and path of every request so far, without query strings."""
        return [(request.method, request.path) for request in self.log]

    def environment(self, cache_dir: Path) -> dict[str, str]:
        """Variables that point a fresh process at this hub, with its cache in ``cache_dir``.

        They also undo what the developer's own environment may say: a cache elsewhere, offline mode, a
        proxy. Xet is off because its transfers leave HTTP, which is all that is emulated here.
        """
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(cache_dir),
            "HF_HUB_CACHE": str(cache_dir / "hub"),
            "HF_HUB_OFFLINE": "0",
            "TRANSFORMERS_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "DO_NOT_TRACK": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    def start(self) -> None:
        """Begin to listen on the port that was reserved at construction."""
        self._server.server_activate()
        # The interval bounds how long stopping takes; the default of half a second adds up over a test run.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and delete the hub's copies of all files."""
        self._close()
        self._storage.cleanup()

    def down(self) -> None:
        """Become unreachable: refuse new connections and break those in use.

        The port stays bound without listening, so nothing else can take it before :meth:`up`.
        """
        port = self.port
        self._close()
        self._server = _Server(self._reply, port=port)

    def up(self) -> None:
        """Become reachable again on the same port."""
        self.start()

    def _close(self) -> None:
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.sever()
        self._server.server_close()

    def add_repo(self, repo_id: str, directory: Path) -> str:
        """Commit the content of ``directory``, move ``main`` there, and return the commit id."""
        paths = sorted(path for path in directory.rglob("*") if path.is_file())
        store = Path(self._storage.name)
        files = [store_file(path, path.relative_to(directory).as_posix(), store) for path in paths]
        self._on_cdn |= {file.sha256: file for file in files if file.is_lfs}
        return self._repos.setdefault(repo_id, Repo(repo_id)).add(files).sha

    def remove_repo(self, repo_id: str) -> None:
        """The repository is gone; what the CDN has of it stays, as it does for a while."""
        del self._repos[repo_id]

    def tamper(self, repo_id: str, path: str, data: bytes) -> None:
        """Serve another file of this path, and list it, under every commit: what must never happen."""
        store = Path(self._storage.name)
        changed = store / "tampered"
        changed.write_bytes(data)
        file = store_file(changed, path, store)
        self._on_cdn[file.sha256] = file
        for commit in self._repos[repo_id].commits.values():
            commit.files[path] = file  # type: ignore[index]

    def _reply(self, request: Request) -> Reply:
        self.log.append(request)
        fault = self.fault(request) if self.fault else None
        return fault(request, self._answer) if fault else self._answer(request)

    def _answer(self, request: Request) -> Reply:
        parts = [unquote(part) for part in request.path.strip("/").split("/")]
        if request.on_cdn:
            return self._serve_cdn(request, parts)
        if parts[:2] == ["api", "models"]:
            return self._with_repo(request, parts[2:], self._serve_api)
        return self._with_repo(request, parts, self._serve_resolve)

    def _with_repo(
        self, request: Request, parts: list[str], serve: Callable[[Request, Repo, list[str]], Reply]
    ) -> Reply:
        """Split ``owner/name`` or a bare ``name`` off the path and serve the rest, if the client may have it."""
        for count in (2, 1):
            name = "/".join(parts[:count])
            if new := self.access.new_name(name):
                target = request.path.replace(f"/{name}", f"/{new}", 1)
                query = urlencode(request.query, doseq=True)
                location = f"{target}?{query}" if query else target
                return Reply(HTTPStatus.TEMPORARY_REDIRECT, {"Location": location})
            if repo := self._repos.get(name):
                refusal = self.access.refusal(name, request.headers, file=parts[count : count + 1] == ["resolve"])
                return (
                    _json({}, refusal.headers, refusal.status) if refusal else serve(request, repo, parts[count:])
                )
        return _missing("RepoNotFound", "Repository not found")

    def _serve_api(self, request: Request, repo: Repo, parts: list[str]) -> Reply:
        match parts:
            case []:
                revision, kind = MAIN, "revision"
            case ["revision" | "tree" as kind, revision, *_]:
                pass
            case _:
                return _missing("EntryNotFound", "No such route")
        commit = repo.find(revision)
        if commit is None:
            return _missing("RevisionNotFound", f"Invalid rev id: {revision}")
        if kind == "tree":
            return self._serve_tree(request, commit, "/".join(parts[2:]))
        gated = self.access.is_gated(repo.repo_id)
        return _json(model_info(repo.repo_id, commit, blobs=_flag(request, "blobs"), gated=gated))

    def _serve_tree(self, request: Request, commit: Commit, folder: str) -> Reply:
        entries = tree(commit, folder, recursive=_flag(request, "recursive"))
        if not entries:
            return _missing("EntryNotFound", f"{folder} does not exist on {commit.sha}", commit)
        start = int(request.query.get("cursor", ["0"])[0])
        end = start + self.page_size
        if end >= len(entries):
            return _json(entries[start:])
        query = urlencode({**request.query, "cursor": end}, doseq=True)
        return _json(entries[start:end], {"Link": f'<{self.endpoint}{request.path}?{query}>; rel="next"'})

    def _serve_resolve(self, request: Request, repo: Repo, parts: list[str]) -> Reply:
        match parts:
            case ["resolve", revision, *names]:
                pass
            case _:
                return _missing("EntryNotFound", "No such route")
        commit = repo.find(revision)
        if commit is None:
            return _missing("RevisionNotFound", f"Invalid rev id: {revision}")
        file = commit.files.get("/".join(names))
        if file is None:
            return _missing("EntryNotFound", "Entry not found", commit)
        if file.is_lfs:
            return self._redirect(commit, file)
        name = PurePosixPath(file.path).name
        headers = {"X-Repo-Commit": commit.sha, "Content-Disposition": f'inline; filename="{quote(name)}"'}
        return _serve_bytes(request, file, file.git_oid, headers)

    def _redirect(self, commit: Commit, file: StoredFile) -> Reply:
        headers = {
            "X-Repo-Commit": commit.sha,
            "X-Linked-Size": str(file.size),
            "X-Linked-ETag": f'"{file.sha256}"',
            "Location": f"{self.cdn}/{file.sha256}?Expires=1&Signature=x",
            "Accept-Ranges": "bytes",
        }
        return Reply(HTTPStatus.FOUND, headers)

    def _serve_cdn(self, request: Request, parts: list[str]) -> Reply:
        # A signed address is credentials already; storage refuses a second kind, so a leaked token is loud.
        if "authorization" in request.headers:
            return Reply(HTTPStatus.BAD_REQUEST)
        match parts:
            case ["cdn", sha256] if sha256 in self._on_cdn:
                return _serve_bytes(request, self._on_cdn[sha256], sha256, {})
            case _:
                return Reply(HTTPStatus.NOT_FOUND)


def _serve_bytes(request: Request, file: StoredFile, etag: str, headers: Mapping[str, str]) -> Reply:
    """The file, or the one range of it that was asked for."""
    headers = {
        **headers,
        "ETag": f'"{etag}"',
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
    }
    asked = request.headers.get("range")
    if asked is None:
        return Reply(HTTPStatus.OK, headers, FileRange(file.stored, 0, file.size), file.size)
    start, stop = _range(asked, file.size)
    if start >= stop:
        headers["Content-Range"] = f"bytes */{file.size}"
        return Reply(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers)
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size}"
    return Reply(HTTPStatus.PARTIAL_CONTENT, headers, FileRange(file.stored, start, stop), stop - start)


def _range(header: str, size: int) -> tuple[int, int]:
    """The half-open interval of ``bytes=a-b``, ``bytes=a-`` or ``bytes=-n``."""
    first, _, last = header.removeprefix("bytes=").partition("-")
    if not first:
        return max(size - int(last), 0), size
    return int(first), min(int(last) + 1, size) if last else size


def _flag(request: Request, name: str) -> bool:
    return request.query.get(name, ["false"])[0].lower() == "true"


def _json(content: Any, headers: Mapping[str, str] | None = None, status: int = HTTPStatus.OK) -> Reply:
    body = json.dumps(content).encode()
    headers = {**(headers or {}), "Content-Type": "application/json; charset=utf-8"}
    return Reply(status, headers, [body], len(body))


def _missing(code: str, message: str, commit: Commit | None = None) -> Reply:
    """A 404 that names what is missing.

    Where the repository and revision do exist it names the commit as well: the client then caches that
    the file is absent from that commit.
    """
    headers = {"X-Error-Code": code, "X-Error-Message": message}
    if commit is not None:
        headers["X-Repo-Commit"] = commit.sha
    return _json({"error": message}, headers, HTTPStatus.NOT_FOUND)


def _first(chunks: Iterable[bytes], count: int) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk[:count]
        count -= len(chunk)
        if count <= 0:
            return


class _Server(ThreadingHTTPServer):
    """Binds at once, listens when activated, and knows its open connections so that it can break them."""

    # Parallel downloads connect all at once; one too many would wait a second to try again.
    request_queue_size = 128

    def __init__(self, reply: Answer, *, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler, bind_and_activate=False)
        self.reply = reply
        self._open: set[socket.socket] = set()
        self.server_bind()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def sever(self) -> None:
        """Break open connections; clients keep them alive and would otherwise still be answered."""
        for connection in list(self._open):
            # A connection that its client or its own thread has just closed is as broken as it needs to be.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """Turns HTTP into :class:`Request` and :class:`Reply` and back."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            # The client went away, as it may: it had what it wanted, or the test took the hub down.
            self.close_connection = True

    def do_GET(self) -> None:
        request = self._request()
        self._send(self.server.reply(request), with_body=request.method != "HEAD")

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep the test output quiet; the hub has its own log."""

    def _request(self) -> Request:
        target = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        on_cdn = headers.get("host", "").startswith("localhost:")
        return Request(self.command, target.path, parse_qs(target.query), headers, on_cdn)

    def _send(self, reply: Reply, *, with_body: bool) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(reply.length))
        self.end_headers()
        if not with_body:
            return
        if isinstance(reply.body, FileRange):
            self.wfile.flush()
            sent = reply.body.send(self.connection)
        else:
            sent = sum(self.wfile.write(chunk) for chunk in reply.body)
        if sent != reply.length:
            self.close_connection = True
