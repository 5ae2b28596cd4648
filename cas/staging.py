"""Bytes that come piece by piece, written to a private file and hashed on the way."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path

from cas.atomic import remove, start_writeback, write_all
from cas.digest import Buffer, Hasher
from cas.errors import CasError
from cas.ingest import Ingested

_WRITEBACK = 16 << 20


class Staging:
    """A private file that is written piece by piece and hashed on the way. Made with the first write.

    Safe to abort while another thread writes: a cancelled upload leaves its thread running, and a descriptor
    closed under it may by then be the number of somebody else's file.
    """

    def __init__(self, temporary: Path, algorithms: tuple[str, ...]) -> None:
        self._temporary = temporary
        self._hasher = Hasher(algorithms)
        self._synced = 0
        self._descriptor = -1
        self._ended = False
        self._lock = threading.Lock()

    def write(self, chunk: Buffer) -> None:
        with self._lock:
            self._open()
            write_all(self._descriptor, chunk)
            self._hasher.update(chunk)
            if self._hasher.size - self._synced >= _WRITEBACK:
                start_writeback(self._descriptor, self._synced, self._hasher.size - self._synced)
                self._synced = self._hasher.size

    def finish(self) -> Ingested:
        with self._lock:
            self._open()
            self._close()
        return Ingested(self._hasher.size, self._hasher.digests(), self._temporary)

    def abort(self) -> None:
        with self._lock:
            self._close()
            remove([self._temporary])

    def _open(self) -> None:
        if self._ended:
            raise CasError(f"{self._temporary} was finished or aborted")
        if self._descriptor == -1:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(self._temporary, flags, 0o600)

    def _close(self) -> None:
        self._ended = True
        if self._descriptor != -1:
            os.close(self._descriptor)
            self._descriptor = -1


def stage_stream(chunks: Iterable[Buffer], temporary: Path, algorithms: tuple[str, ...]) -> Ingested:
    """Write a stream to a private file, hashing what is written. If it raises, the file is gone."""
    staging = Staging(temporary, algorithms)
    try:
        for chunk in chunks:
            staging.write(chunk)
    except BaseException:
        staging.abort()
        raise
    return staging.finish()
