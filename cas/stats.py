"""How much is stored, and how much less that is than what was logged."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from cas.keys import MANIFESTS, QUARANTINE
from cas.store import Store


@dataclass(slots=True)
class Usage:
    """Logical bytes are what users logged, counted as often as they did; files likewise.

    ``stored`` counts each blob once. In a part of a store it counts the blobs that part needs, so the parts may
    add up to more than the whole.
    """

    files: int = 0
    logical: int = 0
    stored: int = 0

    @property
    def ratio(self) -> float:
        """How many times over each stored byte is used."""
        return self.logical / self.stored if self.stored else 1.0


@dataclass(slots=True)
class Stats:
    """``stored`` of the total is everything under the store's root: blobs, records, and what is in quarantine.

    ``largest`` are (key, size, uses) of the largest blobs; ``unreferenced`` are bytes no manifest needs now.
    """

    total: Usage = field(default_factory=Usage)
    blobs: int = 0
    blob_bytes: int = 0
    record_bytes: int = 0
    quarantined_bytes: int = 0
    unreferenced: int = 0
    experiments: dict[str, Usage] = field(default_factory=dict)
    largest: list[tuple[str, int, int]] = field(default_factory=list)


def stats(store: Store, *, largest: int = 10) -> Stats:
    """Read every manifest and list every blob. ``largest`` is how many blobs to name."""
    found = Stats()
    uses: Counter[str] = Counter()
    needed: defaultdict[str, dict[str, int]] = defaultdict(dict)
    experiments: defaultdict[str, Usage] = defaultdict(Usage)
    for root in store.artifact_roots():
        experiment = root.path.split("/")[0] or "(store)"
        usage = experiments[experiment]
        for entry in root.manifest():
            for each in (usage, found.total):
                each.files += 1
                each.logical += entry.size
            if entry.blob is not None:
                uses[entry.blob] += 1
                needed[experiment][entry.blob] = entry.size
            elif entry.inline is not None:
                usage.stored += entry.size
    for experiment, usage in experiments.items():
        usage.stored += sum(needed[experiment].values())
    sizes = dict(store.blobs.listing())
    found.experiments = dict(sorted(experiments.items()))
    found.blobs, found.blob_bytes = len(sizes), sum(sizes.values())
    found.record_bytes = sum(size for _, size in store.backend.list(MANIFESTS))
    found.quarantined_bytes = sum(size for _, size in store.backend.list(QUARANTINE))
    found.unreferenced = sum(size for key, size in sizes.items() if not uses[key])
    found.total.stored = found.blob_bytes + found.record_bytes + found.quarantined_bytes
    by_size = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    found.largest = [(key, size, uses[key]) for key, size in by_size[:largest]]
    return found
