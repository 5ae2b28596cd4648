"""Entries, and the manifest they make: what one artifact root holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from cas.digest import Digest, digest_of
from cas.paths import relative_to

MAX_INLINE = 1 << 20
"""Bytes of the largest file that may lie in a fragment: as many are held in memory at once."""


class Inline(NamedTuple):
    """Where the bytes of a small file lie: inside a fragment, from ``offset`` on."""

    fragment: str
    offset: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a manifest.

    ``size`` is in bytes. ``origin`` says where the bytes can be had again. ``blob`` (a key) and ``inline``
    are where this store keeps the bytes; they are no part of what the entry means, so they are not in the
    manifest's canonical form. An entry with neither is a reference.
    """

    path: str
    size: int
    digest: Digest
    origin: str | None = None
    blob: str | None = None
    inline: Inline | None = None


class Listed(NamedTuple):
    """One name in a directory: a file with its entry, or a directory without one."""

    path: str
    entry: Entry | None


class Manifest:
    """The entries of one artifact root, sorted by path. Directories exist through the files in them."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries = {entry.path: entry for entry in sorted(entries, key=lambda entry: entry.path.encode())}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def get(self, path: str) -> Entry | None:
        return self._entries.get(path)

    def is_directory(self, path: str) -> bool:
        """Whether files lie below ``path``; the root is always a directory."""
        return path == "" or path in self._directories

    def list(self, directory: str = "") -> list[Listed]:
        """What lies directly in ``directory``, sorted; empty if it is a file or not there."""
        return sorted(self._directories.get(directory, {}).values())

    def below(self, path: str = "") -> Iterator[Entry]:
        """The entry at ``path`` if it is a file, else all entries below it."""
        if path == "":
            yield from self
        elif (entry := self._entries.get(path)) is not None:
            yield entry
        elif path in self._directories:
            yield from (entry for entry in self if relative_to(entry.path, path))

    @property
    def size(self) -> int:
        """Logical bytes: the sum of all entries' sizes."""
        return sum(entry.size for entry in self)

    def canonical_json(self) -> bytes:
        """The bytes whose digest is the identity of what is stored here, wherever and however it is stored."""
        rows = [
            {"digest": str(entry.digest), "path": entry.path, "size": entry.size}
            | ({"origin": entry.origin} if entry.origin else {})
            for entry in self
        ]
        return json.dumps({"entries": rows}, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @property
    def digest(self) -> Digest:
        return digest_of(self.canonical_json())

    @cached_property
    def _directories(self) -> dict[str, dict[str, Listed]]:
        """Each directory's names. Built once: a directory of ten thousand files is listed as often as one asks."""
        found: dict[str, dict[str, Listed]] = {"": {}}
        for entry in self:
            child = Listed(entry.path, entry)
            while True:
                parent = child.path.rpartition("/")[0]
                known = parent in found
                found.setdefault(parent, {})[child.path] = child
                if known:
                    break
                child = Listed(parent, None)
        return found
