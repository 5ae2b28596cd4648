"""What died on the way: uploads nobody went on with, files of dead processes, intents, spent lists."""

from __future__ import annotations

import os
import shutil
from collections.abc import Container, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cas.backends import Backend, SupportsLocalFiles, SupportsPartUploads, SupportsTimes, Unfinished
from cas.intent import LEASE_SECONDS
from cas.keys import BLOBS, UPLOADS
from cas.locks import is_held
from cas.scratch import abandoned

OLD = 2 * LEASE_SECONDS
"""Seconds after which nobody is expected to go on with an upload: nothing but trouble rests on it, since what was
given up too early is begun again."""


@dataclass(slots=True)
class Leftovers:
    """``staged`` are objects of uploads past a server, ``uploads`` those that were neither completed nor aborted,
    ``files`` private files and directories of a local store."""

    staged: list[str] = field(default_factory=list)
    uploads: list[Unfinished] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    @classmethod
    def find(cls, backend: Backend, living: Container[str], now: float) -> Leftovers:
        """What was not touched for long, and belongs to none of the ``living`` intents."""
        found = cls()
        if isinstance(backend, SupportsTimes):
            found.staged = [key for key, stored in backend.modified(UPLOADS) if now - stored >= OLD]
        if isinstance(backend, SupportsPartUploads):
            found.uploads = [
                each
                for each in backend.unfinished()
                if now - each.started >= OLD
                and each.key.startswith((BLOBS, UPLOADS))
                and each.key.rpartition("/")[2].partition(".")[0] not in living
            ]
        if isinstance(backend, SupportsLocalFiles):
            found.files = list(_files(backend.scratch.parent, now))
        return found

    def remove(self, backend: Backend) -> None:
        backend.delete(self.staged)
        if isinstance(backend, SupportsPartUploads):
            for each in self.uploads:
                backend.abort(each.key, each.upload_id)
        for path in self.files:
            if not is_held(_lock(path)):
                shutil.rmtree(path, ignore_errors=True)


def _files(scratch: Path, now: float) -> Iterator[Path]:
    """The directories of dead processes, and of downloads that nobody went on with."""
    with suppress(FileNotFoundError):
        yield from (scratch / name for name in sorted(abandoned(scratch)))
    for directory in sorted(scratch.glob("downloads/*/")):
        with suppress(FileNotFoundError):
            touched = max(os.stat(path).st_mtime for path in (directory, *directory.iterdir()))
            if now - touched >= OLD and not is_held(_lock(directory)):
                yield directory


def _lock(directory: Path) -> Path:
    return directory.with_suffix(".lock")
