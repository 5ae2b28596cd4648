"""A backend in memory: the model that property tests hold the others to, and a store for tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence

from cas.backends.interface import Listing
from cas.errors import KeyExists, KeyNotFound


class MemoryBackend:
    """Implements :class:`~cas.backends.interface.Backend` and ``SupportsTimes`` in a dictionary."""

    name = "memory"

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._times: dict[str, float] = {}
        self._lock = threading.Lock()

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        return self._get(key)[start : None if length is None else start + length]

    def read_into(self, key: str, start: int, buffer: memoryview) -> int:
        data = self.read(key, start, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def size(self, key: str) -> int:
        return len(self._get(key))

    def list(self, prefix: str) -> Iterator[Listing]:
        with self._lock:
            found = [Listing(key, len(data)) for key, data in self._objects.items() if key.startswith(prefix)]
        return iter(found)

    def keys(self, prefix: str) -> Iterator[str]:
        return (key for key, _ in self.list(prefix))

    def put(self, key: str, parts: Iterable[bytes], *, create: bool, size: int = 0) -> None:  # noqa: ARG002
        data = b"".join(parts)
        with self._lock:
            if create and key in self._objects:
                raise KeyExists(key)
            self._objects[key] = data
            self._times[key] = time.time()

    def modified(self, prefix: str) -> Iterator[tuple[str, float]]:
        with self._lock:
            found = [(key, self._times[key]) for key in self._objects if key.startswith(prefix)]
        return iter(found)

    def delete(self, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                self._objects.pop(key, None)

    def _get(self, key: str) -> bytes:
        with self._lock:
            try:
                return self._objects[key]
            except KeyError:
                raise KeyNotFound(key) from None
