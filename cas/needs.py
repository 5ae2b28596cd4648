"""Which files need which blobs: what every manifest at or below a place says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from cas.artifact_root import ArtifactRoot
from cas.digest import Digest
from cas.errors import KeyNotFound, MalformedRecord
from cas.history import read_fragment
from cas.keys import fragments_prefix
from cas.manifest import Entry
from cas.paths import join
from cas.store import Store

_ROOTS_AT_ONCE = 8


@dataclass(slots=True)
class Need:
    """A blob, and the files that need it, by the digest they know it by. Their paths are those in the store.
    ``entry`` is one of theirs, with an origin if any has one."""

    entry: Entry
    files: dict[Digest, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def size(self) -> int:
        return self.entry.size

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(path for paths in self.files.values() for path in paths)


@dataclass(slots=True)
class Needs:
    """``blobs`` by key; small files, which lie in their records, with their root; ``references`` have no blob.
    ``malformed`` are records that cannot be read: what needs something according to them is not known."""

    files: int = 0
    blobs: dict[str, Need] = field(default_factory=dict)
    inline: list[tuple[ArtifactRoot, Entry]] = field(default_factory=list)
    references: list[tuple[str, Entry]] = field(default_factory=list)
    malformed: list[MalformedRecord] = field(default_factory=list)

    def add(self, root: ArtifactRoot, entry: Entry) -> None:
        self.files += 1
        where = join(root.path, entry.path)
        if entry.blob is not None:
            need = self.blobs.setdefault(entry.blob, Need(entry))
            need.files[entry.digest].append(where)
            if need.entry.origin is None and entry.origin is not None:
                need.entry = entry
        elif entry.inline is not None:
            self.inline.append((root, entry))
        else:
            self.references.append((where, entry))


def needs_of(store: Store, path: str = "") -> Needs:
    """What the files at or below ``path`` need."""
    needs = Needs()
    with ThreadPoolExecutor(_ROOTS_AT_ONCE, thread_name_prefix="cas-needs") as pool:
        for root, entries, malformed in pool.map(_read, store.roots_at(path)):
            for entry in entries:
                needs.add(root, entry)
            needs.malformed += malformed
    return needs


def _read(what: tuple[ArtifactRoot, str]) -> tuple[ArtifactRoot, list[Entry], list[MalformedRecord]]:
    root, inside = what
    try:
        return root, list(root.manifest().below(inside)), []
    except MalformedRecord:
        return root, [], list(_malformed(root))


def _malformed(root: ArtifactRoot) -> Iterator[MalformedRecord]:
    backend = root.store.backend
    prefix = fragments_prefix(root.path)
    for key in backend.keys(prefix):
        if "/" in key.removeprefix(prefix):
            continue  # of a root below the store's own
        try:
            read_fragment(backend, key)
        except KeyNotFound:
            continue  # folded meanwhile
        except MalformedRecord as error:
            yield error
