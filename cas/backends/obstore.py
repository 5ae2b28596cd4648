"""A store in a bucket, through obstore: Rust's object_store, which sends and signs with little work."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotSupportedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, S3Store

from cas.backends.aws import obstore_options, s3_settings
from cas.backends.bucket import Bucket
from cas.backends.interface import Listing
from cas.backends.powers import S3Powers
from cas.backends.refusals import PastEndError, code_in, no_credentials, refusal
from cas.backends.remote import RangedRemote, SignedRemote
from cas.config import fetch_patience, s3_ignores_tls
from cas.errors import KeyExists, KeyNotFound, StoreError, StoreRefused
from cas.sources import Remote

_WHOLE = 8 << 20
"""Objects up to this size are put with one request."""
_PART, _PARTS = 16 << 20, 9_000  # S3 takes 10,000 parts at most
_AT_ONCE = 4
_TIMEOUT = timedelta(seconds=120)  # of one request, a part of 16 MiB at most
_PATIENCE = timedelta(seconds=180)
_SIGNED_FOR = timedelta(hours=1)


_process = os.getpid()
"""Which process imported this, and started object_store's threads: in a fork of it, every call would hang."""


class ObstoreBackend(S3Powers):
    """Implements :class:`~cas.backends.interface.Backend` and every power but that of local files.

    Whatever fails for a passing reason is tried again by object_store, with backoff, for three minutes
    (``CAS_PATIENCE`` seconds).
    """

    def __init__(self, bucket: Bucket) -> None:
        self.bucket: Bucket = bucket
        self._store = _open(bucket)

    @property
    def name(self) -> str:
        return str(self.bucket)

    def __repr__(self) -> str:
        return f"<ObstoreBackend {self.name}>"

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        try:
            with self._answers(key):
                if start == 0 and length is None:
                    return bytes(obstore.get(self._store, key).bytes())
                if length is None:
                    return bytes(obstore.get(self._store, key, options={"range": {"offset": start}}).bytes())
                if length:
                    return bytes(obstore.get_range(self._store, key, start=start, length=length))
        except PastEndError:
            return b""
        self.size(key)
        return b""

    def read_into(self, key: str, start: int, buffer: memoryview) -> int:
        if not len(buffer):
            self.size(key)
            return 0
        try:
            with self._answers(key):
                found = memoryview(obstore.get_range(self._store, key, start=start, length=len(buffer)))
        except PastEndError:
            return 0
        buffer[: len(found)] = found
        return len(found)

    def size(self, key: str) -> int:
        with self._answers(key):
            return int(obstore.head(self._store, key)["size"])

    def list(self, prefix: str) -> Iterator[Listing]:
        return (Listing(each["path"], each["size"]) for each in self._found(prefix))

    def modified(self, prefix: str) -> Iterator[tuple[str, float]]:
        return ((each["path"], each["last_modified"].timestamp()) for each in self._found(prefix))

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
                obstore.put(
                    self._store, key, bytes(head), mode="create" if create else "overwrite", use_multipart=False
                )
            return
        chunks = itertools.chain([bytes(head)], iterator)
        part_size = max(_PART, -(-size // _PARTS))
        with self._answers(key):
            # If `chunks` raises, the upload is aborted, and the error passes through.
            obstore.put(
                self._store, key, chunks, use_multipart=True, chunk_size=part_size, max_concurrency=_AT_ONCE
            )

    def delete(self, keys: Sequence[str]) -> None:
        if not keys:
            return
        try:
            with self._answers(keys[0]):
                obstore.delete(self._store, list(keys))
        except KeyNotFound:  # some providers mind
            for key in keys if len(keys) > 1 else ():
                self.delete([key])

    def remote(self, key: str, size: int) -> Remote:
        name = f"{self.name}/{key}"
        try:
            self._signed(key)
        except StoreError:
            # Not every credential can sign: then every range is a request through object_store.
            return RangedRemote(self, key, name)
        if self.bucket.provider == "s3" and s3_ignores_tls():
            return RangedRemote(self, key, name)  # our own client always checks certificates
        return SignedRemote(lambda: self._signed(key), key, name=name, size=size)

    def signed_url(self, key: str, *, seconds: int, file_name: str, media_type: str) -> str | None:
        if self.s3 is not None:
            return self.s3.sign_get(key, seconds, file_name=file_name, media_type=media_type)
        try:
            # Without botocore, and at other providers, the file comes under its key's name.
            return obstore.sign(self._store, "GET", key, timedelta(seconds=seconds))
        except BaseError:
            return None

    def _found(self, prefix: str) -> Iterator[Any]:
        with self._answers(prefix):
            for chunk in obstore.list(self._store, prefix.rstrip("/"), chunk_size=1000):
                # object_store's prefix is a path, and also names an object of that very name.
                yield from (each for each in chunk if each["path"].startswith(prefix))

    def _signed(self, key: str) -> str:
        with self._answers(key):
            return obstore.sign(self._store, "GET", key, _SIGNED_FOR)

    @contextmanager
    def _answers(self, key: str) -> Iterator[None]:
        """Raise what object_store raises as errors of this package."""
        if os.getpid() != _process:
            raise StoreRefused(
                f"{self.name}: this process was forked from one that used object stores, and obstore's threads did"
                " not come along. Start processes by spawn (or forkserver), or set CAS_CLIENT=fsspec"
            )
        try:
            yield
        except AlreadyExistsError:
            raise KeyExists(key) from None
        except NotSupportedError as error:
            raise StoreRefused(f"{self.name}: it cannot do what a store needs: {type(error).__name__}") from None
        except (BaseError, FileNotFoundError, PermissionError) as error:
            # Its text quotes addresses and the whole answer; so it is neither shown nor chained.
            code = code_in(str(error))
            if isinstance(error, FileNotFoundError) and not code:
                code = "404"
            if isinstance(error, UnauthenticatedError) and not code:  # its credential provider raised
                raise no_credentials(self.name, error) from None
            raise refusal(self.name, key, code, what=_kind(error)) from None


def _kind(error: Exception) -> str:
    text = str(error)
    for sign in ("timed out", "error sending request", "connection closed", "error decoding response body"):
        if sign in text:
            return sign
    return type(error).__name__


def _open(bucket: Bucket) -> Any:
    patience = fetch_patience()
    common: dict[str, Any] = {
        "prefix": bucket.prefix or None,
        "client_options": {"allow_http": True, "timeout": _TIMEOUT, "user_agent": "mlflow-cas"},
        "retry_config": {
            "max_retries": 1000,
            "retry_timeout": _PATIENCE if patience is None else timedelta(seconds=patience),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=15),
                "base": 2,
            },
        },
    }
    if bucket.provider == "gs":
        return GCSStore(bucket.name, **common)
    if bucket.provider == "az":
        return AzureStore(bucket.name, **common)
    settings = s3_settings()
    if settings.ignores_tls:
        common["client_options"]["allow_invalid_certificates"] = True
    return S3Store(bucket.name, **obstore_options(settings), **common)
