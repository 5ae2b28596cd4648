"""What the bytes under a key are now, whatever its name says: read, all of them, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from cas.backends import Backend, SupportsLocalFiles
from cas.backends.remote import remote_of
from cas.config import fetch_patience
from cas.digest import Hasher
from cas.errors import KeyNotFound
from cas.ingest import Ingested, hash_sealed
from cas.streaming.patience import Patience
from cas.streaming.pipe import SPAN, piped

_ALL_CORES = -1

Advance = Callable[[int], object]
"""Told of bytes that were read."""


def rehash(
    backend: Backend,
    key: str,
    algorithms: tuple[str, ...],
    advance: Advance = lambda _: None,
    *,
    size: int | None = None,
) -> Ingested:
    """Size and digests of the object under ``key``. Where its ``size`` was just listed, an object store need not be
    asked for it. Raises :class:`KeyNotFound`."""
    if isinstance(backend, SupportsLocalFiles):
        return _file(backend.path(key), key, algorithms, advance)
    size = backend.size(key) if size is None else size
    hasher = Hasher(algorithms, threads=_ALL_CORES)
    if size <= SPAN:
        hasher.update(backend.read(key))
        advance(hasher.size)
    else:
        with closing(remote_of(backend, key, size)) as remote:
            for chunk in piped(remote, size, Patience(fetch_patience()), advance=advance):
                hasher.update(chunk)
    return Ingested(hasher.size, hasher.digests())


def _file(path: Path, key: str, algorithms: tuple[str, ...], advance: Advance) -> Ingested:
    try:
        return hash_sealed(path, algorithms, advance)
    except FileNotFoundError:
        raise KeyNotFound(key) from None
