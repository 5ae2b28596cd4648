"""Reading everything and comparing it with its digest; naming every model that damage reaches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from cas.artifact_root import ArtifactRoot
from cas.errors import BlobDamaged, BlobNotFound, KeyNotFound, MalformedRecord
from cas.history import read_fragment
from cas.keys import MANIFESTS, QUARANTINE, parse_blob_key
from cas.manifest import Entry
from cas.paths import join
from cas.store import Store


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. ``kind`` is ``damaged`` (bytes are not those of their digest), ``missing`` (an
    entry whose blob is gone) or ``malformed`` (a record that cannot be read). ``models`` are the paths, in the
    store, of the files that need it."""

    kind: str
    key: str
    reason: str
    models: tuple[str, ...] = ()


@dataclass(slots=True)
class Report:
    """What a verification read and found. ``references`` are files whose bytes lie at their origin only."""

    blobs: int = 0
    bytes: int = 0
    files: int = 0
    references: int = 0
    quarantined: int = 0
    problems: list[Problem] = field(default_factory=list)


Progress = Callable[[int], None]
"""Called with the number of bytes just read."""


def verify(store: Store, progress: Progress = lambda _: None) -> Report:
    """Rehash every blob and every inline file, and look for every blob an entry needs.

    A damaged blob is put into quarantine: it is not served again, and its bytes are kept.
    """
    report = Report()
    needs = _needs(store, report)
    intact: set[str] = set()
    for key, size in store.blobs.listing():
        try:
            good = store.blobs.verify(key)
        except KeyNotFound:
            continue  # collected meanwhile
        report.blobs += 1
        report.bytes += size
        progress(size)
        if good:
            intact.add(key)
        else:
            reason = "its bytes are not those of its digest; it was put into quarantine"
            report.problems.append(Problem("damaged", key, reason, tuple(needs.get(key, ()))))
    report.quarantined = sum(1 for _ in store.backend.keys(QUARANTINE))
    damaged = {problem.key for problem in report.problems}
    for key in sorted(needs.keys() - intact - damaged):
        if not _held_elsewhere(store, key, intact):
            report.problems.append(Problem("missing", key, "no blob of this digest", tuple(needs[key])))
    return report


def _needs(store: Store, report: Report) -> dict[str, list[str]]:
    """By key of blob, the files that need it. Inline files are verified on the way."""
    needs: defaultdict[str, list[str]] = defaultdict(list)
    for key in store.backend.keys(MANIFESTS):
        try:
            read_fragment(store.backend, key)
        except KeyNotFound:
            continue  # folded meanwhile
        except MalformedRecord as error:
            report.problems.append(Problem("malformed", key, error.reason, (key,)))
    for root in _readable(store.artifact_roots()):
        for entry in root.manifest():
            report.files += 1
            where = join(root.path, entry.path)
            if entry.blob is not None:
                needs[entry.blob].append(where)
            elif entry.inline is None:
                report.references += 1
            else:
                _verify_inline(root, entry, where, report)
    return needs


def _readable(roots: Iterable[ArtifactRoot]) -> Iterable[ArtifactRoot]:
    """Roots whose fragments can all be read; the others were reported fragment by fragment."""
    for root in roots:
        try:
            root.manifest()
        except MalformedRecord:
            continue
        yield root


def _verify_inline(root: ArtifactRoot, entry: Entry, where: str, report: Report) -> None:
    try:
        root.open_entry(entry).close()
    except BlobDamaged as error:
        assert entry.inline is not None
        report.problems.append(Problem("damaged", entry.inline.fragment, str(error), (where,)))
    except BlobNotFound:
        return  # removed meanwhile
    report.bytes += entry.size


def _held_elsewhere(store: Store, key: str, intact: set[str]) -> bool:
    """Another writer may have stored the same bytes under a key of its own, or since this began."""
    return any(
        each in intact or store.blobs.verify(each) for each in store.blobs.candidates(parse_blob_key(key)[0])
    )
