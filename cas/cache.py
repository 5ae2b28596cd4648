"""The cache of this machine's user: bytes that were fetched, from origins or object stores, to be read.

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
from cas.errors import Damaged, InvalidInput, KeyExists, NotFound
from cas.eviction import Cached, Evicted, Uses, contents, evict, is_cache, overfull, used_now
from cas.fetch import Fetcher, FetchReport
from cas.keys import STORE
from cas.manifest import Entry
from cas.scratch import Scratch
from cas.settings import Settings
from cas.supply import Supply
from cas.ulid import new_ulid


class Cache:
    """Whole blobs in the directory ``root``, which is made when something is fetched. ``limit`` is in bytes; with
    None, a tenth of the file system stays free."""

    def __init__(self, root: Path, limit: int | None = None) -> None:
        self.root = root
        self._limit = limit
        self._backend = LocalBackend(root)
        self._blobs = Blobs(self._backend)
        self._uses = Uses(self._backend)

    @property
    def scratch(self) -> Scratch:
        """For trees of links to what is here."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._backend.scratch

    def find(self, entry: Entry) -> Path | None:
        """The cache's own file with an entry's bytes, for reading and linking only; None if it has none.

        It stays there until this process ends, or releases it.
        """
        if not self.root.exists():
            return None
        with self._uses.looking():
            try:
                path = self._blobs.local_path(entry.digest, entry.size)
            except (NotFound, Damaged):
                return None
            assert path is not None
            self._uses.mark(entry.digest)
        used_now(path)
        return path

    def release(self, entries: Iterable[Entry]) -> None:
        """This process has links to, or copies of, what :meth:`find` gave it, and needs the paths no more."""
        if self.root.exists():
            for entry in entries:
                self._uses.release(entry.digest)

    def copies(self, entry: Entry) -> list[Path]:
        """For a store that wants the bytes to keep."""
        path = self.find(entry)
        return [] if path is None else [path]

    def fetch(self, entries: Iterable[Entry], supply: Supply) -> FetchReport:
        """Have the bytes of all ``entries``: each is fetched once per machine and user, by however many processes
        ask for it at once. Raises what :class:`cas.fetch.Fetcher` does.

        They stay until this process ends, or releases them. What was used longest ago makes room for them; if that
        is not enough, the limit is passed rather than the load refused.
        """
        entries = list(entries)
        if not entries:
            return FetchReport()
        self._make()
        with self._uses.looking():
            for entry in entries:
                self._uses.mark(entry.digest)
        missing = {entry.digest: entry.size for entry in entries if self.find(entry) is None}
        self._make_room(sum(missing.values()))
        report = Fetcher(self._blobs, supply, patience=fetch_patience()).fetch(entries, new_ulid())
        for entry in entries:
            self.find(entry)  # fetched now, used now: what is sealed looks old
        self._make_room(0)
        return report

    def contents(self) -> list[Cached]:
        """Every blob that is here, the one used longest ago first."""
        return contents(self._blobs, self._backend, self._uses.all()) if self.root.exists() else []

    def prune(self, size: int | None = None, older_than: float | None = None) -> Evicted:
        """Delete what was used longest ago until at most ``size`` bytes are left, or what was not used since
        ``older_than`` (seconds since 1970); with neither, everything that is not in use.

        Raises :class:`InvalidInput` if this is no cache but a store.
        """
        if not self.root.exists():
            return Evicted()
        if not is_cache(self._backend):
            raise InvalidInput(
                f"{self.root} is a store, not a cache: it may hold the only copy. Nothing was deleted"
            )
        used = sum(each.size for each in self.contents())
        room = used + 1 if size is None else used - size
        return evict(self._blobs, self._backend, self._uses, room=room, older_than=older_than, links=True)

    def _make_room(self, coming: int) -> None:
        if not is_cache(self._backend):
            return  # CAS_CACHE names a store: nothing in it is ours to delete
        used = 0 if self._limit is None else sum(size for _, size in self._blobs.listing())
        room = overfull(self._backend, used, self._limit, coming)
        if room > 0:
            evict(self._blobs, self._backend, self._uses, room=room)

    def _make(self) -> None:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(KeyExists):
            if not (self.root / STORE).exists():
                self._backend.put(STORE, [Settings(str(uuid.uuid4())).encode()], create=True)
