"""Comparing what is stored with what it should be, and naming every model that damage reaches.

*Quick*: every record can be read, every blob that is needed is there, of its size, its seal unbroken. *Full*: every
byte is read, too, and compared with every digest it goes by: that of its key, those of the entries that name it,
and those of its aliases.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from enum import StrEnum

from cas.config import verified_path
from cas.digest import Digest
from cas.errors import BlobDamaged, BlobNotFound, KeyNotFound
from cas.keys import BLOBS, QUARANTINE, parse_blob_key
from cas.needs import Need, Needs, needs_of
from cas.pace import Pace
from cas.paths import join
from cas.quarantine import quarantine
from cas.references import check
from cas.shards import shard_of, shards
from cas.sources import OriginStatus
from cas.store import Store
from cas.verified import Verified

_REQUESTS = 8
_SMALL = 8 << 20


class Kind(StrEnum):
    """What is wrong: bytes that are not those of their digest, an entry whose blob is gone, a record that cannot
    be read, a source that does not have what only it had."""

    DAMAGED = "damaged"
    MISSING = "missing"
    MALFORMED = "malformed"
    GONE = "source gone"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. ``models`` are the paths, in the store, of the files that need it."""

    kind: Kind
    key: str
    reason: str
    models: tuple[str, ...] = ()


@dataclass(slots=True)
class Report:
    """What a verification looked at and found. ``bytes`` are those that were read."""

    blobs: int = 0
    bytes: int = 0
    files: int = 0
    references: int = 0
    quarantined: int = 0
    problems: list[Problem] = field(default_factory=list)


Progress = Callable[[int], object]
"""Called with a number of bytes that were read, or need not be."""


def verify(
    store: Store,
    path: str = "",
    *,
    quick: bool = False,
    sources: bool = False,
    resume: bool = False,
    pace: Pace | None = None,
    progress: Progress = lambda _: None,
) -> Report:
    """Look at everything in the store, or at what the files at or below ``path`` need.

    A damaged blob is put into quarantine: it is not served again, and its bytes are kept. With ``sources``, the
    sources of references are asked whether they still have them. With ``resume``, bytes that a verification of the
    same place had read before it was broken off are not read again.
    """
    needs = needs_of(store, path)
    report = Report(files=needs.files, references=len(needs.references))
    report.problems += [Problem(Kind.MALFORMED, each.key, each.reason, (each.key,)) for each in needs.malformed]
    verification = _Verification(store, needs, report, pace or Pace(), progress)
    verification.small_files()
    if quick:
        verification.shards(everything=not path, done=None)
    else:
        done = Verified(verified_path(), store.settings.id, path, go_on=resume)
        verification.shards(everything=not path, done=done)
        done.forget()
    verification.missing()
    if sources:
        verification.sources()
    report.quarantined = sum(1 for _ in store.backend.keys(QUARANTINE))
    return report


class _Verification:
    def __init__(self, store: Store, needs: Needs, report: Report, pace: Pace, progress: Progress) -> None:
        self._store = store
        self._needs = needs
        self._report = report
        self._pace = pace
        self._progress = progress
        self._lock = threading.Lock()
        self._line = threading.Lock()
        self._seen: set[str] = set()
        self._aliases: dict[Digest, list[tuple[str, Digest]]] = {}

    def small_files(self) -> None:
        """Those that lie in their records."""
        for root, entry in self._needs.inline:
            assert entry.inline is not None
            try:
                root.open_entry(entry).close()
            except BlobDamaged as error:
                self._found(Kind.DAMAGED, entry.inline.fragment, str(error), (join(root.path, entry.path),))
            except BlobNotFound:
                continue  # removed meanwhile
            self._report.bytes += entry.size

    def shards(self, *, everything: bool, done: Verified | None) -> None:
        """Every blob, or those that are needed; its bytes, too, unless ``done`` is None or holds its shard."""
        if done is not None:
            self._aliases = _aliases(self._store)
        needed: dict[str, list[str]] = defaultdict(list)
        for key in () if everything else self._needs.blobs:
            needed[shard_of(key)].append(key)

        def look(shard: str) -> None:
            reading = done is not None and shard not in done
            for key, size in self._stored(shard) if everything else self._sizes(needed[shard]):
                self._blob(key, size, reading=reading)
            if reading and done is not None:
                done.add(shard)

        workers = _REQUESTS if self._store.blobs.local is None else len(os.sched_getaffinity(0))
        with ThreadPoolExecutor(workers, thread_name_prefix="cas-verify") as pool:
            try:
                for _ in pool.map(look, shards(self._store.backend) if everything else sorted(needed)):
                    pass
            except BaseException:
                pool.shutdown(cancel_futures=True)
                if done is not None:
                    done.save()
                raise

    def missing(self) -> None:
        """What is needed, and is not under the key that was named."""
        blobs = self._store.blobs
        for key, need in sorted(self._needs.blobs.items()):
            if key in self._seen:
                continue
            digest = parse_blob_key(key)[0]
            # Another writer may have stored the same bytes under a key of its own, or since this began.
            if any(blobs.is_usable(each, need.size) for each in blobs.candidates(digest)):
                continue
            if blobs.is_quarantined(digest):
                self._found(Kind.DAMAGED, key, "it was found damaged, and is in quarantine", need.paths)
            else:
                self._found(Kind.MISSING, key, "no blob of this digest", need.paths)

    def sources(self) -> None:
        wheres: dict[tuple[str | None, Digest], list[str]] = defaultdict(list)
        for where, entry in self._needs.references:
            wheres[entry.origin, entry.digest].append(where)
        asked = {(entry.origin, entry.digest): entry for _, entry in self._needs.references}
        for entry, status in check(asked.values()):
            if status is not OriginStatus.OK:
                models = tuple(wheres[entry.origin, entry.digest])
                self._found(Kind.GONE, str(entry.origin), f"the source says: {status}", models)

    def _stored(self, shard: str) -> Iterator[tuple[str, int]]:
        return (each for each in self._store.backend.list(shard) if parse_blob_key(each.key)[2] is None)

    def _sizes(self, keys: list[str]) -> Iterator[tuple[str, int]]:
        for key in keys:
            with suppress(KeyNotFound):
                yield key, self._store.backend.size(key)

    def _blob(self, key: str, size: int, *, reading: bool) -> None:
        need, local = self._needs.blobs.get(key), self._store.blobs.local is not None
        try:
            if reading:
                # One large blob of a bucket takes the whole line, and as much memory as there shall be.
                with self._line if size > _SMALL and not local else nullcontext():
                    good = self._read(key, size, need)
            else:
                good = not local or self._store.blobs.is_usable(key, size)
                self._progress(size)
        except KeyNotFound:
            return  # collected meanwhile
        with self._lock:
            self._report.blobs += 1
            self._seen.add(key)
        models = need.paths if need is not None else ()
        if not good:
            self._found(Kind.DAMAGED, key, "its bytes are not those of its digest; it is in quarantine", models)
        elif need is not None and size != need.size:
            self._found(Kind.DAMAGED, key, f"it has {size} bytes, and should have {need.size}", models)

    def _read(self, key: str, size: int, need: Need | None) -> bool:
        """Read a blob, and compare it with every digest it goes by; whether that of its key is right."""
        own = parse_blob_key(key)[0]
        aliases = self._aliases.get(own, [])
        claimed = [*(need.files if need is not None else ()), *(digest for _, digest in aliases)]
        algorithms = tuple(each.algorithm for each in claimed)
        found = self._store.blobs.digests(key, algorithms, self._advance, size=size)
        if found is None:
            return False
        for alias, digest in aliases:
            if found[digest.algorithm] != digest:
                quarantine(self._store.backend, alias)
                self._found(
                    Kind.DAMAGED, alias, f"the bytes of {own} are not those of {digest}; it is in quarantine"
                )
        for digest, files in need.files.items() if need is not None else ():
            if found[digest.algorithm] != digest:
                self._found(Kind.DAMAGED, key, f"it is said to hold {digest}, and does not", tuple(files))
        return True

    def _advance(self, count: int) -> None:
        self._pace.take(count)
        with self._lock:
            self._report.bytes += count
        self._progress(count)

    def _found(self, kind: Kind, key: str, reason: str, models: tuple[str, ...] = ()) -> None:
        with self._lock:
            self._report.problems.append(Problem(kind, key, reason, models))


def _aliases(store: Store) -> dict[Digest, list[tuple[str, Digest]]]:
    """By digest, the aliases that name it: their keys, and whose they are."""
    found: dict[Digest, list[tuple[str, Digest]]] = defaultdict(list)
    for key in store.backend.keys(BLOBS):
        digest, _, other = parse_blob_key(key)
        if other is not None:
            found[other].append((key, digest))
    return found
