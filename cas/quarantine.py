"""Where damaged objects go: out of the way of readers and writers, with every byte kept."""

from __future__ import annotations

from collections.abc import Iterator

from cas.backends import Backend, SupportsCopy, SupportsLocalFiles
from cas.errors import KeyNotFound
from cas.keys import quarantine_key

_READ = 8 << 20


def quarantine(backend: Backend, key: str) -> None:
    """Move a damaged object out of its key. Gone already is no error; killed midway, it is in both places.

    Nobody writes to its key again, so what is moved is what was found to be damaged.
    """
    if isinstance(backend, SupportsLocalFiles):
        backend.quarantine(key)
        return
    target = quarantine_key(key)
    try:
        size = backend.size(key)
        if not (isinstance(backend, SupportsCopy) and backend.copy_from(backend, key, target, size)):
            backend.put(target, _chunks(backend, key, size), create=False, size=size)
    except KeyNotFound:
        return
    backend.delete([key])


def _chunks(backend: Backend, key: str, size: int) -> Iterator[bytes]:
    for start in range(0, size, _READ):
        yield backend.read(key, start, _READ)
