"""A store in whatever fsspec reaches that puts objects atomically: S3, GCS, Azure, and memory for tests."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import datetime
from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

from cas.backends.aws import is_unrenewed, s3_settings
from cas.backends.bucket import Bucket
from cas.backends.interface import Listing
from cas.backends.powers import S3Powers
from cas.backends.refusals import PastEndError, code_in, no_credentials, refusal
from cas.backends.remote import RangedRemote
from cas.backends.s3 import attempts, patience
from cas.errors import CasError, KeyExists, KeyNotFound, StoreRefused
from cas.sources import Remote

_WHOLE = 8 << 20
_PART, _PARTS = 16 << 20, 9_000
_SILENCE, _UNREACHED = 15.0, 5.0
"""Seconds without a byte, and without a connection, after which s3fs tries again."""
_TRIES = 3

_memory_lock = threading.RLock()


class FsspecBackend(S3Powers):
    """Implements :class:`~cas.backends.interface.Backend` over an fsspec file system, below the path ``root``.
    With ``bucket``, which says where that is, it has the powers of S3, too.

    The file system must put objects atomically and know an exclusive put (``mode="create"``); ``cas init`` finds
    out whether it does.
    """

    def __init__(
        self, filesystem: fsspec.AbstractFileSystem, root: str, name: str = "", bucket: Bucket | None = None
    ) -> None:
        self._fs = filesystem
        self.bucket = bucket
        self._root = root.strip("/")
        self.name = name or str(filesystem.unstrip_protocol(self._root))
        # fsspec's files in memory come into being empty: without a lock a reader would see them half written.
        memory = isinstance(filesystem, MemoryFileSystem)
        self._atomic: AbstractContextManager[object] = _memory_lock if memory else nullcontext()

    def __repr__(self) -> str:
        return f"<FsspecBackend {self.name}>"

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        if length == 0:
            self.size(key)
            return b""
        end = None if length is None else start + length
        try:
            with self._answers(key):
                return bytes(self._fs.cat_file(self._path(key), start=start or None, end=end))
        except PastEndError:
            return b""

    def read_into(self, key: str, start: int, buffer: memoryview) -> int:
        data = self.read(key, start, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def size(self, key: str) -> int:
        with self._answers(key):
            found = self._fs.info(self._path(key))
        if found["type"] != "file":
            raise KeyNotFound(key)
        return int(found["size"])

    def list(self, prefix: str) -> Iterator[Listing]:
        return (Listing(key, int(info["size"])) for key, info in self._found(prefix))

    def modified(self, prefix: str) -> Iterator[tuple[str, float]]:
        return ((key, _time(info)) for key, info in self._found(prefix))

    def keys(self, prefix: str) -> Iterator[str]:
        return (key for key, _ in self.list(prefix))

    def put(self, key: str, parts: Iterable[bytes], *, create: bool, size: int = 0) -> None:
        iterator = iter(parts)
        head = bytearray()
        for part in iterator:
            head += part
            if len(head) > _WHOLE and not create:
                break
        else:
            with self._answers(key):
                self._fs.pipe_file(self._path(key), bytes(head), mode="create" if create else "overwrite")
            return
        if self._atomic is _memory_lock:
            whole = bytes(head) + b"".join(iterator)
            with self._answers(key):
                self._fs.pipe_file(self._path(key), whole)
            return
        self._put_parts(key, bytes(head), iterator, max(_PART, -(-size // _PARTS)))

    def _put_parts(self, key: str, head: bytes, parts: Iterator[bytes], part_size: int) -> None:
        with self._answers(key):
            file = self._fs.open(self._path(key), "wb", block_size=part_size)
        try:
            with self._answers(key):
                file.write(head)
            for part in parts:
                with self._answers(key):
                    file.write(part)
            with self._answers(key):
                file.close()
        except BaseException:
            file.closed = True  # else it would be completed when it is collected as garbage
            with suppress(CasError), self._answers(key):
                file.discard()
            raise

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            try:
                with self._answers(key):
                    if self._fs.isfile(self._path(key)):
                        self._fs.rm_file(self._path(key))
            except KeyNotFound:
                pass

    def remote(self, key: str, size: int) -> Remote:  # noqa: ARG002
        return RangedRemote(self, key, f"{self.name}/{key}")

    def signed_url(self, key: str, *, seconds: int, file_name: str, media_type: str) -> str | None:
        if self.s3 is not None:
            return self.s3.sign_get(key, seconds, file_name=file_name, media_type=media_type)
        try:
            return str(self._fs.sign(self._path(key), expiration=seconds))
        except NotImplementedError:
            return None

    def _found(self, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        with self._answers(prefix):
            found = self._fs.find(self._path(prefix.rstrip("/")), detail=True)
        for path, info in found.items():
            key = path.strip("/")[len(self._root) :].lstrip("/") if self._root else path.strip("/")
            if key.startswith(prefix):
                yield key, info

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}" if self._root else key

    @contextmanager
    def _answers(self, key: str) -> Iterator[None]:
        """Raise what file systems raise as errors of this package."""
        try:
            with self._atomic:
                yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            code = _code(error)
            raise refusal(self.name, key, code if code == "NoSuchBucket" else "404") from None
        except FileExistsError:
            raise KeyExists(key) from None
        except PermissionError as error:
            raise refusal(self.name, key, _code(error) or "403") from None
        except CasError:
            raise
        except Exception as error:
            if is_unrenewed(error):
                raise no_credentials(self.name, error) from None
            code = _code(error)
            if code in ("PreconditionFailed", "ConditionNotMet", "412"):
                raise KeyExists(key) from None
            raise refusal(self.name, key, code, what=type(error).__name__) from None


def open_bucket(bucket: Bucket) -> FsspecBackend:
    """The file system of a provider, with what this machine says of endpoint and credentials."""
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if bucket.provider == "s3":
        settings = s3_settings()
        client: dict[str, Any] = {"region_name": settings.region}
        if settings.ignores_tls:
            client["verify"] = False
        options |= {"endpoint_url": settings.endpoint, "client_kwargs": client, "config_kwargs": _s3_config()}
    protocol = {"s3": "s3", "gs": "gs", "az": "az"}[bucket.provider]
    try:
        filesystem = fsspec.filesystem(protocol, **options)
        if bucket.provider == "s3":
            filesystem.retries = _TRIES
    except ImportError as error:
        raise StoreRefused(f"{bucket} needs a package that is not installed: {error}") from None
    root = "/".join(filter(None, (bucket.name, bucket.prefix)))
    return FsspecBackend(filesystem, root, str(bucket), bucket)


def _s3_config() -> dict[str, Any]:
    """What s3fs tells its botocore, which tries again what was refused for a passing reason. s3fs does so, too,
    around it, and alone where an answer breaks off: so each has its share of the patience."""
    seconds = patience()
    return {
        # What S3's newer checksums need, many servers do not know.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        "retries": {"mode": "standard", "total_max_attempts": attempts(seconds / _TRIES)},
        "read_timeout": max(1.0, min(_SILENCE, seconds)),
        "connect_timeout": max(1.0, min(_UNREACHED, seconds)),
    }


def _time(info: Mapping[str, Any]) -> float:
    """When an object was stored: each file system has its own word for it."""
    names = ("LastModified", "last_modified", "updated", "mtime", "created")
    found = next((value for name in names if (value := info.get(name)) is not None), None)
    if isinstance(found, str):
        found = datetime.fromisoformat(found)
    if isinstance(found, datetime):
        return found.timestamp()
    if isinstance(found, int | float):
        return float(found)
    raise StoreRefused(f"its file system does not say when {info.get('name')!r} was stored")


def _code(error: BaseException) -> str:
    """The error code of the answer, which s3fs keeps in the error that caused its own."""
    cause = error.__cause__
    response = getattr(cause, "response", None)
    if isinstance(response, dict):
        return str(response.get("Error", {}).get("Code", ""))
    return code_in(str(error))
