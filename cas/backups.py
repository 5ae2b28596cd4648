"""Where the bytes of a damaged or missing blob may still be had: other stores, directories, this machine's caches,
the origin. All of them are believed only after hashing."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from cas.backends import Backend, LocalBackend
from cas.backends.remote import RangedRemote
from cas.digest import Digest
from cas.errors import BlobNotFound, FileChanged
from cas.ingest import hash_file
from cas.manifest import Entry
from cas.sources import Progress, Remote
from cas.supply import Copies, Origins, Quiet, StoreSupply


class Directory:
    """A tree of files of the user's. Looked through once; a file is hashed when one of its size is asked for. Safe
    to share among threads."""

    def __init__(self, root: Path) -> None:
        self._lock = threading.Lock()
        self._by_size: dict[int, list[Path]] | None = None
        self._root = root
        self._digests: dict[tuple[Path, str], Digest] = {}

    def find(self, digest: Digest, size: int) -> Path | None:
        """A file that has these bytes now."""
        return next((path for path in self._of_size(size) if self._digest(path, digest.algorithm) == digest), None)

    def _of_size(self, size: int) -> list[Path]:
        with self._lock:  # the first to ask looks, the others wait
            if self._by_size is None:
                self._by_size = _by_size(self._root)
            return self._by_size.get(size, [])

    def _digest(self, path: Path, algorithm: str) -> Digest | None:
        if (path, algorithm) not in self._digests:
            try:
                self._digests[path, algorithm] = hash_file(path, (algorithm,)).digests[algorithm]
            except (OSError, FileChanged):
                return None  # gone, or being written: not a copy to rely on
        return self._digests[path, algorithm]


def _by_size(root: Path) -> dict[int, list[Path]]:
    found: dict[int, list[Path]] = defaultdict(list)
    for directory, _, names in os.walk(root):
        for path in (Path(directory, name) for name in names):
            if path.is_file() and not path.is_symlink():
                found[path.stat().st_size].append(path)
    return found


class Backups:
    """A :class:`cas.supply.Supply` of all of them, the nearest first. Of a file of the user's the
    store gets a copy, never a link."""

    def __init__(self, stores: Sequence[StoreSupply], directories: Sequence[Directory], cached: Copies) -> None:
        self._stores = stores
        self._directories = directories
        self._origins = Origins(cached)

    def copies(self, entry: Entry) -> Sequence[Path]:
        return self._origins.copies(entry)

    def open(self, entry: Entry) -> Remote:
        for directory in self._directories:
            path = directory.find(entry.digest, entry.size)
            if path is not None:
                return RangedRemote(LocalBackend(path.parent), path.name, str(path))
        for store in self._holding(entry):
            return store.open(entry)
        if entry.origin is None:
            raise BlobNotFound(f"no source that was named has {entry.digest} ({entry.size} bytes)")
        return self._origins.open(entry)

    def copy_to(self, backend: Backend, key: str, entry: Entry) -> None:  # noqa: ARG002
        """Never by a server: nobody would have hashed what it copied."""
        return

    def algorithms(self, entry: Entry) -> tuple[str, ...]:
        return self._origins.algorithms(entry)

    def is_stored(self, entry: Entry) -> bool:
        return any(True for _ in self._holding(entry))

    def progress(self, name: str, entry: Entry) -> Progress:
        return Quiet() if entry.origin is None else self._origins.progress(name, entry)

    def _holding(self, entry: Entry) -> Iterable[StoreSupply]:
        return (store for store in self._stores if store.is_stored(entry))
