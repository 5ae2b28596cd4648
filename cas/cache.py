"""The cache of this machine's user: bytes of references, fetched to be read and not to be kept.

It has the layout of a local store, and no manifests: everything in it can be fetched again, so it may be deleted
at any time that nobody reads from it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from cas.backends import LocalBackend
from cas.blobs import Blobs
from cas.config import fetch_patience
from cas.errors import Damaged, KeyExists, NotFound
from cas.fetch import Fetcher, FetchReport
from cas.keys import STORE
from cas.manifest import Entry
from cas.scratch import Scratch
from cas.settings import Settings
from cas.supply import Supply
from cas.ulid import new_ulid


class Cache:
    """Whole blobs in the directory ``root``, which is made when something is fetched."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._backend = LocalBackend(root)
        self._blobs = Blobs(self._backend)

    def find(self, entry: Entry) -> Path | None:
        """The cache's own file with an entry's bytes, for reading and linking only; None if it has none."""
        try:
            return self._blobs.local_path(entry.digest, entry.size)
        except (NotFound, Damaged):
            return None

    def copies(self, entry: Entry) -> list[Path]:
        """For a store that wants the bytes to keep."""
        path = self.find(entry)
        return [] if path is None else [path]

    @property
    def scratch(self) -> Scratch:
        """For trees of links to what is here."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._backend.scratch

    def fetch(self, entries: Iterable[Entry], supply: Supply) -> FetchReport:
        """Have the bytes of all ``entries``: each is fetched once per machine and user, by however many processes
        ask for it at once. Raises what :class:`cas.fetch.Fetcher` does."""
        entries = list(entries)
        if not entries:
            return FetchReport()
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(KeyExists):
            if not (self._root / STORE).exists():
                self._blobs.backend.put(STORE, [Settings(str(uuid.uuid4())).encode()], create=True)
        return Fetcher(self._blobs, supply, patience=fetch_patience()).fetch(entries, new_ulid())
