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
from cas.ingest import Ingested, clone_file, stage_file
from cas.keys import STORE, blob_key
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

    def stage(self, source: Path, algorithms: tuple[str, ...], *, copies: bool) -> Ingested | None:
        """A private file here with the bytes of ``source``, hashed: cloned, or with ``copies`` copied if it cannot
        be, else None."""
        self._make()
        temporary = self._backend.scratch.file()
        return (stage_file if copies else clone_file)(source, temporary, algorithms)

    def keep(self, staged: Iterable[Ingested]) -> None:
        """Take private files of :meth:`stage`; those whose bytes are here already stay where they are."""
        intent = new_ulid()
        fresh = {each.digest: each for each in staged if not self._blobs.is_held(each.digest, each.size)}
        keys = {digest: blob_key(digest, intent) for digest in fresh}
        self._backend.publish([(_private(each), keys[digest]) for digest, each in fresh.items()])
        for digest, each in fresh.items():
            for other in each.digests.values():
                if other != digest:
                    self._blobs.add_alias(other, intent, digest)
            used_now(self._backend.path(keys[digest]))

    def room(self, coming: int) -> int:
        """How many bytes may come. What was used longest ago makes room for ``coming``, as far as it can."""
        self._make()
        if not is_cache(self._backend):
            return 0  # CAS_CACHE names a store: it is for those who log into it
        return coming - self._make_room(coming)

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

    def _make_room(self, coming: int) -> int:
        """Returns how many bytes are still lacking; less than none if there is more room."""
        if not is_cache(self._backend):
            return 0  # CAS_CACHE names a store: nothing in it is ours to delete
        used = 0 if self._limit is None else sum(size for _, size in self._blobs.listing())
        lacking = overfull(self._backend, used, self._limit, coming)
        if lacking > 0:
            lacking -= evict(self._blobs, self._backend, self._uses, room=lacking).bytes
        return lacking

    def _make(self) -> None:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(KeyExists):
            if not (self.root / STORE).exists():
                self._backend.put(STORE, [Settings(str(uuid.uuid4())).encode()], create=True)


def _private(staged: Ingested) -> Path:
    assert staged.temporary is not None
    return staged.temporary
