"""Taking over what was logged into another store, records and bytes.

Records keep their stamps, and a manifest is the merge of all records (:mod:`cas.fragment`): so mirroring again does
nothing, mirroring in both directions ends with both alike, and what was logged later wins, wherever it was logged.
What was removed there is removed here. Blobs that are here are not brought again.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from cas.artifact_root import ArtifactRoot
from cas.config import fetch_patience
from cas.errors import CasError, InvalidInput, NotFound
from cas.fetch import ANEW, FetchReport
from cas.fragment import Record
from cas.manifest import Entry
from cas.paths import relative_to
from cas.store import Store
from cas.supply import StoreSupply
from cas.transit import fetcher

_ROOTS_AT_ONCE = 4


class Failed(NamedTuple):
    """An artifact root of which nothing was taken over, and why."""

    root: str
    reason: str


@dataclass(slots=True)
class MirrorReport:
    """``roots`` were looked at, ``changed`` of them written to. ``fetched`` counts what changed only."""

    roots: int = 0
    changed: int = 0
    fetched: FetchReport = field(default_factory=FetchReport)
    failed: list[Failed] = field(default_factory=list)


def mirror(
    source: Store, target: Store, path: str = "", *, done: Callable[[str], object] = lambda _: None
) -> MirrorReport:
    """Take over every artifact root at or below ``path`` of ``source``, or what is below ``path`` in one root.

    Each becomes visible at once, or not at all; one that fails is reported, and the others go on. References stay
    references. ``done`` is told of each artifact root. Raises :class:`InvalidInput` if both are one store.
    """
    if source.name == target.name:
        raise InvalidInput(f"{source.name} cannot be mirrored into itself")
    mirroring = _Mirroring(source, target)
    report = MirrorReport()
    with ThreadPoolExecutor(_ROOTS_AT_ONCE, thread_name_prefix="cas-mirror") as pool:
        for root, result in pool.map(mirroring.take, source.roots_at(path)):
            report.roots += 1
            if isinstance(result, FetchReport):
                report.changed += 1
                report.fetched.files.update(result.files)
                report.fetched.bytes.update(result.bytes)
            elif result is not None:
                report.failed.append(Failed(root, str(result)))
            done(root)
    return report


class _Mirroring:
    def __init__(self, source: Store, target: Store) -> None:
        self._source = source
        self._target = target
        algorithms = ("blake3", *target.settings.aliases)
        supply = StoreSupply(source.blobs, algorithms=algorithms, more_copies=source.cache.copies)
        self._fetcher = fetcher(target.blobs, supply, patience=fetch_patience())

    def take(self, what: tuple[ArtifactRoot, str]) -> tuple[str, FetchReport | CasError | OSError | None]:
        """What was brought, or why nothing was; None if there was nothing to take over."""
        theirs, path = what
        try:
            return theirs.path, self._take(theirs, path)
        except (CasError, OSError) as error:
            return theirs.path, error

    def _take(self, theirs: ArtifactRoot, path: str) -> FetchReport | None:
        ours = self._target.artifact_root(theirs.path)
        for anew in ANEW:
            records, latest = theirs.state()
            known, _ = ours.state()
            new = [record for record in records.values() if _is_new(record, known, path)]
            if not new:
                return None
            try:
                report = self._log(theirs, ours, new, latest, anew=anew)
            except NotFound:
                if anew:
                    raise
                continue  # removed there, and collected, since we looked: look again
            if report is not None:
                return report
        raise CasError(f"blobs of {ours!r} went while they were being mirrored; try again")

    def _log(
        self,
        theirs: ArtifactRoot,
        ours: ArtifactRoot,
        new: list[Record],
        latest: str,
        *,
        anew: bool,
    ) -> FetchReport | None:
        """One log call that says what ``new`` says; None, with nothing logged, if a collector took a blob away
        that was here."""
        with ours.log_call(after=latest) as writer:
            writer.announce()
            wanted = [record.entry for record in new if record.entry is not None and _has_blob(record.entry)]
            report = self._fetcher.fetch(wanted, writer.intent, anew=anew)
            for record in new:
                entry = record.entry
                if entry is None:
                    writer.remove(record.path)
                elif entry.inline is not None:
                    with theirs.open_entry(entry) as file:
                        writer.put_bytes(entry.path, file.read())
                else:
                    writer.put_known(entry.path, entry.digest, entry.size, entry.origin)
            held = {entry.path for entry in writer.hold() if entry.blob is not None}
            if not held.issuperset(entry.path for entry in wanted):
                return None
            writer.keep_stamps({record.path: record.stamp for record in new})
            writer.commit()
            return report


def _is_new(record: Record, known: dict[str, Record], path: str) -> bool:
    """Whether a record below ``path`` would win here. The removal of what was never here says nothing new."""
    if relative_to(record.path, path) is None:
        return False
    ours = known.get(record.path)
    if ours is None:
        return record.entry is not None
    return record.stamp > ours.stamp


def _has_blob(entry: Entry) -> bool:
    """Whether bytes are to be brought: small files lie in their record, and references have none."""
    return entry.inline is None and (entry.blob is not None or entry.origin is None)
