"""One log call, from its intent to its commit.

The protocol keeps every writer safe from every collector without locks:

1. put the intent, if any blob will be written or relied on;
2. list the keys that hold the digests at hand;
3. put these keys into the intent as pins, *then*
4. read all condemned lists, *then*
5. look whether the pinned keys are still there; whatever is condemned or missing is written to a key of its own;
6. put the fragment, create-only: the commit;
7. delete the intent.

Pin-then-read here against publish-then-list in the collector: one side must see the other.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

from cas import pointer
from cas.atomic import remove
from cas.blobs import Blobs
from cas.digest import Buffer, Digest, digest_of
from cas.errors import CasError
from cas.fragment import Fragment, Record, encode
from cas.ingest import SMALL, Ingested, hash_bytes, hash_file, read_file, stage_bytes, stage_file
from cas.lease import Lease
from cas.logged import Logged
from cas.manifest import Entry
from cas.paths import check_path
from cas.placement import Pending, Placement, Stored
from cas.scratch import Scratch
from cas.staging import stage_stream
from cas.statcache import StatCache

# Small files of one log call are held in memory until the commit; from here on they become blobs.
_INLINE_BUDGET = 48 << 20
_READ = 1 << 20


class Writer:
    """Collects what one log call says, then commits it as one fragment.

    Use it as a context manager: leaving it without :meth:`commit` leaves nothing behind. ``intent`` must sort
    after every fragment of the artifact root. Not for sharing among threads.
    """

    def __init__(
        self,
        blobs: Blobs,
        root: str,
        intent: str,
        *,
        inline_limit: int,
        scratch: Scratch,
        stat_cache: StatCache,
        algorithms: tuple[str, ...] = ("blake3",),
        logged: Logged | None = None,
    ) -> None:
        self.intent = intent
        self._blobs = blobs
        self._local = blobs.local
        self._root = root
        self._inline_limit = inline_limit
        self._scratch = scratch
        self._stat_cache = stat_cache
        self._algorithms = algorithms
        self._logged = logged
        self._records: dict[str, Record] = {}
        self._inline: dict[str, bytes] = {}
        self._inline_size = 0
        self._pending: list[Pending] = []
        self._temporaries: list[Path] = []
        self._staged: set[Digest] = set()
        self._lease = Lease(blobs.backend, root, intent)
        self._placement = Placement(
            blobs,
            intent,
            algorithms=algorithms,
            scratch=scratch,
            announce=self._lease.announce,
            temporaries=self._temporaries,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        remove(self._temporaries)
        self._temporaries.clear()
        self._lease.release()

    def announce(self) -> None:
        """Put the intent: before anything is written to the store in its name."""
        self._lease.announce()

    def put_file(self, path: str, source: Path) -> None:
        """Say that ``path`` holds the bytes of the file ``source``."""
        check_path(path)
        status = source.stat()
        if status.st_size <= pointer.MAX_SIZE or self._fits_inline(status.st_size):
            data = read_file(source)
            if self._put_pointer(path, data):
                return
            if self._fits_inline(len(data)):
                self._put_inline(path, data)
                return
        self.announce()
        self._put_pending(path, self._ingest(source), source)

    def put_bytes(self, path: str, data: bytes) -> None:
        """Say that ``path`` holds ``data``."""
        check_path(path)
        if self._put_pointer(path, data):
            return
        if self._fits_inline(len(data)):
            self._put_inline(path, data)
        else:
            self.put_stream(path, [data])

    def put_known(self, path: str, digest: Digest, size: int, origin: str | None = None) -> None:
        """Say that ``path`` holds the bytes of ``digest``, which the caller knows to be entitled to.

        If the store does not hold them, the path becomes a reference to ``origin``; without one, the commit
        raises :class:`BlobNotFound`.
        """
        check_path(path)
        self.announce()
        self._pending.append(Pending(path, Ingested(size, {digest.algorithm: digest}), origin=origin))
        self._put_record(path, Entry(path, size, digest, origin))

    def put_stream(self, path: str, chunks: Iterable[Buffer]) -> None:
        """Say that ``path`` holds the bytes that ``chunks`` yields. Held in memory only while they are few."""
        check_path(path)
        iterator = iter(chunks)
        head = bytearray()
        for chunk in iterator:
            head += chunk
            if len(head) > pointer.MAX_SIZE and not self._fits_inline(len(head)):
                break
        else:
            if self._put_pointer(path, bytes(head)):
                return
            if self._fits_inline(len(head)):
                self._put_inline(path, bytes(head))
                return
        self.announce()

        def whole() -> Iterable[Buffer]:
            yield bytes(head)
            yield from iterator

        self._put_pending(path, stage_stream(whole(), self._scratch.file(), self._algorithms), None)

    def adopt(self, path: str, ingested: Ingested) -> None:
        """Say that ``path`` holds bytes that were staged for this writer, in a private file it now owns."""
        assert ingested.temporary is not None
        check_path(path)
        if ingested.size <= pointer.MAX_SIZE or self._fits_inline(ingested.size):
            with ingested.owned():
                self.put_bytes(path, ingested.temporary.read_bytes())
            return
        self.announce()
        self._put_pending(path, ingested, None)

    def put_stored(self, path: str, stored: Stored, ingested: Ingested) -> None:
        """Say that ``path`` holds the bytes of an object of the store's own backend, which were hashed there."""
        check_path(path)
        self.announce()
        self._pending.append(Pending(path, ingested, stored=stored))
        self._put_record(path, Entry(path, ingested.size, ingested.digest))

    def hold(self) -> list[Entry]:
        """Store everything said so far, without a commit, and pin it: until this writer is left, other log calls
        can rely on it. Returns the entries."""
        self._place_pending()
        entries = [record.entry for record in self._records.values() if record.entry is not None]
        self._lease.announce({entry.blob for entry in entries if entry.blob is not None})
        return entries

    def keep_stamps(self, stamps: Mapping[str, str]) -> None:
        """What was said of these paths was said before, under these stamps, in another store: it wins over nothing
        that was logged later there or here. None of them may be later than this writer's intent."""
        for path, stamp in stamps.items():
            assert stamp <= self.intent
            self._records[path] = replace(self._records[path], stamp=stamp)

    def remove(self, path: str) -> None:
        """Say that ``path`` is removed."""
        self._put_record(check_path(path), None)

    def commit(self) -> str:
        """Make everything said visible at once; returns the key of the fragment.

        Raises :class:`IntentAborted` if a collector fenced this writer off, or took what it wrote.
        """
        self._place_pending()
        key = self._lease.commit(encode(Fragment(self.intent, self._records), self._inline))
        self.__exit__()
        return key

    def _fits_inline(self, size: int) -> bool:
        return size <= self._inline_limit and self._inline_size + size <= _INLINE_BUDGET

    def _put_inline(self, path: str, data: bytes) -> None:
        if not self._fits_inline(len(data)):  # it grew since it was measured
            self.put_stream(path, [data])
            return
        self._put_record(path, Entry(path, len(data), digest_of(data)))
        self._inline[path] = data
        self._inline_size += len(data)

    def _put_pointer(self, path: str, data: bytes) -> bool:
        """If ``data`` is a pointer file, say what it stands for."""
        if not pointer.is_pointer(data):
            return False
        said = pointer.Pointer.decode(data)
        pointer.check(said, path, self._blobs)
        self.put_known(path, said.digest, said.size, said.origin)
        return True

    def _put_pending(self, path: str, ingested: Ingested, source: Path | None) -> None:
        self._pending.append(Pending(path, ingested, source=source))
        if ingested.temporary is not None:
            self._temporaries.append(ingested.temporary)
        self._put_record(path, Entry(path, ingested.size, ingested.digest))

    def _put_record(self, path: str, entry: Entry | None) -> None:
        if path in self._records:
            raise CasError(f"path {path!r} stands twice in one log call")
        self._records[path] = Record(self.intent, path, entry)

    def _ingest(self, source: Path) -> Ingested:
        """Learn the digest of a file the cheapest way, staging it where it is likely to be new."""
        status, now = source.stat(), time.time_ns()
        if status.st_size <= SMALL:
            return self._stage_for_cache(source) or self._ingest_small(source)
        known = self._stat_cache.lookup(source, status)
        if known is not None and set(self._algorithms) <= set(known):
            return Ingested(status.st_size, known)
        if self._local is not None and not self._stat_cache.looks_known(source, status):
            ingested = stage_file(source, self._scratch.file(), self._algorithms)
        else:
            ingested = self._stage_for_cache(source) or hash_file(source, self._algorithms)
        self._stat_cache.remember(source, status, ingested.digests, now)
        return ingested

    def _stage_for_cache(self, source: Path) -> Ingested | None:
        return None if self._logged is None else self._logged.stage(source, self._algorithms)

    def _ingest_small(self, source: Path) -> Ingested:
        """Staged only if the store has no such bytes yet: for a small file, hashing is quicker than writing."""
        data = read_file(source)
        ingested = hash_bytes(data, self._algorithms)
        if self._local is None or ingested.digest in self._staged or self._blobs.candidates(ingested.digest):
            return ingested
        self._staged.add(ingested.digest)
        return stage_bytes(data, ingested, self._scratch.file())

    def _place_pending(self) -> None:
        if self._pending:
            for entry in self._placement.place(self._pending):
                self._records[entry.path] = Record(self.intent, entry.path, entry)
            if self._logged is not None:
                self._logged.keep(each.ingested for each in self._pending)
            self._pending.clear()
