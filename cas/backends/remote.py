"""Objects of a bucket as :class:`cas.sources.Remote`, to be streamed, in parallel and resumable, into a file."""

from __future__ import annotations

from collections.abc import Callable

from cas.backends.interface import Backend, SupportsRemote
from cas.errors import KeyNotFound, OriginGated, OriginGone, SourceUnavailable, StoreRefused, StoreUnavailable
from cas.sources import Body, Remote
from cas.streaming.http import HttpRemote

_READ = 4 << 20


class SignedRemote:
    """An object behind addresses that ``sign`` makes: each range with a fresh one, so that none expires midway."""

    ranged = True

    def __init__(self, sign: Callable[[], str], key: str, *, name: str, size: int) -> None:
        self.name = name
        self._sign = sign
        self._key = key
        self._size = size

    def open_range(self, start: int, stop: int) -> Body:
        remote = HttpRemote(self._sign(), name=self.name, size=self._size)
        try:
            return remote.open_range(start, stop)
        except OriginGone:
            raise KeyNotFound(self._key) from None
        except OriginGated:
            raise StoreRefused(
                f"{self.name}: permission denied. Have the credentials expired, or may they not read?"
            ) from None

    def close(self) -> None:
        pass


class RangedRemote:
    """An object whose ranges are read through its backend."""

    ranged = True

    def __init__(self, backend: Backend, key: str, name: str) -> None:
        self.name = name
        self._backend = backend
        self._key = key

    def open_range(self, start: int, stop: int) -> Body:
        return _RangedBody(self._backend, self._key, start, stop)

    def close(self) -> None:
        pass


def remote_of(backend: Backend, key: str, size: int) -> Remote:
    """The object of ``size`` bytes under ``key``, read in the best way its backend knows."""
    if isinstance(backend, SupportsRemote):
        return backend.remote(key, size)
    return RangedRemote(backend, key, f"{backend.name}/{key}")


class _RangedBody:
    def __init__(self, backend: Backend, key: str, start: int, stop: int) -> None:
        self._backend, self._key, self._position, self._stop = backend, key, start, stop
        self._ahead = memoryview(b"")

    def read(self, limit: int) -> bytes:
        if not self._ahead and self._position < self._stop:
            length = min(_READ, self._stop - self._position)
            try:
                data = self._backend.read(self._key, self._position, length)
            except StoreUnavailable as error:
                raise SourceUnavailable(str(error)) from error
            if not data:
                raise SourceUnavailable(f"{self._key!r} ended early, at {self._position}")
            self._position += len(data)
            self._ahead = memoryview(data)
        data, self._ahead = bytes(self._ahead[:limit]), self._ahead[limit:]
        return data

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass
