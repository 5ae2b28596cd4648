"""References: entries whose bytes are still at their origin. Finding, checking and persisting them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from cas.artifact_root import ArtifactRoot
from cas.config import fetch_patience
from cas.errors import BlobNotFound
from cas.fetch import ANEW, FetchReport, How
from cas.manifest import Entry
from cas.sources import OriginStatus, source_of
from cas.store import Store
from cas.supply import Origins
from cas.transit import fetcher

_ASKED_AT_ONCE = 8


class Checked(NamedTuple):
    """A reference, and whether its source still has it."""

    entry: Entry
    status: OriginStatus


def references(root: ArtifactRoot, path: str = "") -> list[Entry]:
    """The entries at or below ``path`` that have an origin, and no blob of their own.

    Bytes that are here because another model has them do not count: they go when that model does.
    """
    return [entry for entry in root.manifest().below(path) if entry.origin and not _is_kept(root, entry)]


def reference_roots(store: Store, below: str = "") -> Iterator[tuple[ArtifactRoot, list[Entry]]]:
    """Every artifact root that has references, with them."""
    for root in store.artifact_roots(below):
        if found := references(root):
            yield root, found


def check(entries: Iterable[Entry]) -> list[Checked]:
    """Ask the sources of references. Raises :class:`cas.errors.SourceUnavailable` if one does not answer."""

    def ask(entry: Entry) -> Checked:
        assert entry.origin is not None
        return Checked(entry, source_of(entry.origin).check(entry.origin, entry.digest, entry.size))

    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        return list(pool.map(ask, entries))


def persist(root: ArtifactRoot, path: str = "") -> FetchReport:
    """Fetch the bytes of every reference at or below ``path`` into the store.

    One atomic change at the end: before it the model is a reference, after it the store has all of it. What was
    fetched when it fails, or is killed, is there for the next time. Entries keep their digests and origins. The
    report counts what had an origin, also what was here before.
    """
    report = FetchReport()
    entries = [entry for entry in root.manifest().below(path) if entry.origin]
    missing = [entry for entry in entries if not _is_kept(root, entry)]
    if missing:
        report = persist_files(root, missing)
    held = {entry.digest: entry for entry in entries if entry.digest not in {each.digest for each in missing}}
    for entry in held.values():
        report.add(How.HELD, entry.size)
    return report


def _is_kept(root: ArtifactRoot, entry: Entry) -> bool:
    """Whether the entry names a blob, which keeps it from being collected, and that blob is whole."""
    if entry.blob is None:
        return entry.inline is not None
    return root.store.blobs.is_usable(entry.blob, entry.size)


def persist_files(
    root: ArtifactRoot, missing: list[Entry], contents: Mapping[str, bytes] | None = None
) -> FetchReport:
    """Log ``missing``, fetched from their origins, and small files by their contents, as one log call.

    Raises what :class:`cas.fetch.Fetcher` does; then nothing is logged.
    """
    report, contents = FetchReport(), contents or {}
    origins = fetcher(root.store.blobs, Origins(root.store.cache.copies), patience=fetch_patience())
    for anew in ANEW:
        with root.log_call([*(entry.path for entry in missing), *contents]) as writer:
            writer.announce()
            fetched = origins.fetch(missing, writer.intent, anew=anew)
            report.files.update(fetched.files)
            report.bytes.update(fetched.bytes)
            for entry in missing:
                writer.put_known(entry.path, entry.digest, entry.size, entry.origin)
            for path, data in contents.items():
                writer.put_bytes(path, data)
            held = {entry.path for entry in writer.hold() if entry.blob is not None}
            if held >= {entry.path for entry in missing}:
                writer.commit()
                return report
    raise BlobNotFound(f"blobs of {root!r} went while they were being persisted; try again")
