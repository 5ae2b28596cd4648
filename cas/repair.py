"""Giving a store back what it has lost, from whoever still has the bytes.

A blob is written anew under a key of its own; the entries that need it still name the old key, and find the new one
by its digest. Nothing is published that was not hashed, nothing is deleted: what was damaged stays in quarantine.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from cas.backups import Backups, Directory
from cas.config import fetch_patience
from cas.errors import CasError, MalformedRecord
from cas.fetch import Fetcher, FetchReport
from cas.keys import OWN_ROOT
from cas.manifest import Entry
from cas.needs import needs_of
from cas.store import Store
from cas.supply import StoreSupply
from cas.transit import Transit
from cas.ulid import new_ulid

_AT_ONCE = 8


class Loss(NamedTuple):
    """A blob that is needed and cannot be used. ``models`` are the paths of the files that need it; ``reason`` says
    why it could not be had again."""

    key: str
    models: tuple[str, ...]
    reason: str


@dataclass(slots=True)
class RepairReport:
    """``repaired`` counts what was brought, by how it came."""

    repaired: FetchReport = field(default_factory=FetchReport)
    lost: list[Loss] = field(default_factory=list)
    malformed: list[MalformedRecord] = field(default_factory=list)
    """Records that cannot be read. No blob mends those; a mirror of the store may have what they said."""


def repair(
    store: Store, path: str = "", *, stores: Sequence[Store] = (), directories: Sequence[Directory] = ()
) -> RepairReport:
    """Bring every blob that the files at or below ``path`` need and the store cannot serve.

    Asked are the directories, the other stores, the caches of this machine and the origins, in this order. What a
    verification has not found out yet is not seen here: a blob counts as good if its seal is.
    """
    needs = needs_of(store, path)
    report = RepairReport(malformed=needs.malformed)
    supply = Backups([StoreSupply(each.blobs) for each in stores], directories, store.cache.copies)
    bring = Fetcher if store.blobs.local is not None else Transit
    fetcher = bring(store.blobs, supply, patience=fetch_patience())
    with (
        store.writer(OWN_ROOT, new_ulid()) as writer,
        ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="cas-repair") as pool,
    ):
        writer.announce()

        def mend(key: str) -> FetchReport | CasError | OSError | None:
            entry = needs.blobs[key].entry
            try:
                if _is_served(store, key, entry):
                    return None
                return fetcher.fetch([entry], writer.intent)
            except (CasError, OSError) as error:
                return error

        for key, result in zip(needs.blobs, pool.map(mend, needs.blobs), strict=True):
            if isinstance(result, FetchReport):
                report.repaired.files.update(result.files)
                report.repaired.bytes.update(result.bytes)
            elif result is not None:
                report.lost.append(Loss(key, needs.blobs[key].paths, str(result)))
    return report


def _is_served(store: Store, key: str, entry: Entry) -> bool:
    """Whether a reader finds the bytes: under this key, else under any of this digest."""
    blobs = store.blobs
    return blobs.is_usable(key, entry.size) or any(
        blobs.is_usable(each, entry.size) for each in blobs.candidates(entry.digest)
    )
