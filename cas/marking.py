"""What is needed: by living intents, and by what the fragments of each artifact root say together.

Intents are read first, then fragments. A writer that commits in between is seen in one or the other, since its
fragment is put before its intent goes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from cas.backends import Backend, SupportsTimes
from cas.concurrency import at_once
from cas.digest import Digest
from cas.errors import KeyNotFound, MalformedRecord
from cas.fragment import Fragment, merge
from cas.history import read_fragment
from cas.intent import Intent
from cas.inventory import pack
from cas.keys import INTENTS, MANIFESTS, fragment_key, fragments_prefix, intent_key, parse_fragment_key
from cas.ulid import is_ulid, milliseconds_of

_NAME = 26

Names = dict[str, bytes]
"""The fragments of each artifact root: their intents, sorted, one after the other."""


class Announced(NamedTuple):
    """An intent, and when it was put or renewed last, in seconds since 1970. ``intent`` is None for an empty file:
    local ones are not synced, and this is what a power cut leaves of them."""

    id: str
    intent: Intent | None
    renewed: float

    def is_expired(self, now: float) -> bool:
        lease = self.intent.lease_seconds if self.intent is not None else Intent("", "").lease_seconds
        return now - self.renewed >= lease


@dataclass(slots=True)
class Marks:
    """What was found to be needed. ``keys`` are packed; ``digests`` maps packed keys that some entry of another
    digest names to that digest.

    ``replaced`` are fragments of which there is a fold, with its name; ``emptied`` artifact roots of which nothing
    is left, and whose fragments are more than one.
    """

    keys: set[bytes] = field(default_factory=set)
    digests: dict[bytes, Digest] = field(default_factory=dict)
    replaced: list[tuple[str, str]] = field(default_factory=list)
    emptied: list[str] = field(default_factory=list)
    names: Names = field(default_factory=dict)

    def add(self, other: Marks) -> None:
        self.keys |= other.keys
        self.digests |= other.digests
        self.replaced += other.replaced
        self.emptied += other.emptied


def intents(backend: Backend) -> list[Announced]:
    """Every intent there is. Raises :class:`MalformedRecord` for one that cannot be read: nobody knows what it
    protects."""
    keys = list(backend.keys(INTENTS))
    stored = dict(backend.modified(INTENTS)) if isinstance(backend, SupportsTimes) else {}

    def read(key: str) -> Announced | None:
        id_ = key.removeprefix(INTENTS).removesuffix(".json")
        if intent_key(id_) != key or not is_ulid(id_):
            raise MalformedRecord(key, "not the key of an intent")
        try:
            data = backend.read(key)
        except KeyNotFound:
            return None  # its writer has committed, or left, since it was listed
        # A name in the future is no sign of life: a log call's is later than what it saw, whatever the clock says.
        renewed = stored.get(key, milliseconds_of(id_) / 1000)
        return Announced(id_, Intent.decode(key, data) if data else None, renewed)

    return [each for each in at_once(backend, read, keys) if each is not None]


def mark(backend: Backend, known: Names | None = None) -> Marks:
    """Read what the fragments say. Of artifact roots whose fragments are those in ``known``, nothing is read again.

    Raises :class:`MalformedRecord` for a fragment that cannot be read.
    """
    names = _agreed(backend)
    marks = Marks(names=names)
    changed = [root for root in names if known is None or known.get(root) != names[root]]
    for found in at_once(backend, lambda root: _mark_root(backend, root, names[root]), changed):
        marks.add(found)
    return marks


def _mark_root(backend: Backend, root: str, listed: bytes) -> Marks:
    """What the winning records of one artifact root name. What they won over can never win again."""
    said = _read(backend, root, listed)
    folds = {name: fold for fold in sorted(said, reverse=True) for name in said[fold].replaces}
    marks = Marks(replaced=[(fragment_key(root, name), folds[name]) for name in sorted(said) if name in folds])
    state = merge(*(fragment.records for fragment in said.values()))
    remaining = [name for name, fragment in said.items() if name not in folds and not fragment.aborted]
    if len(remaining) > 1 and all(record.entry is None for record in state.values()):
        marks.emptied.append(root)
    for record in state.values():
        if (entry := record.entry) is not None and entry.blob is not None:
            packed = pack(entry.blob)
            marks.keys.add(packed)
            if entry.digest != _digest(entry.blob):
                marks.digests[packed] = entry.digest
    return marks


def _read(backend: Backend, root: str, listed: bytes) -> dict[str, Fragment]:
    """The fragments of one artifact root, by intent."""
    found: dict[str, Fragment] = {}
    names = _split(listed)
    while True:
        try:
            for name in sorted(names - found.keys()):
                found[name] = read_fragment(backend, fragment_key(root, name))
        except KeyNotFound:
            names = _split(_agreed_root(backend, root))  # folded since: its fold is in the next listing
            continue
        return found


def _agreed(backend: Backend) -> Names:
    """Two listings that agree, of each artifact root: one alone may miss a fold, and then what it replaced."""
    first, second = _listing(backend.keys(MANIFESTS)), _listing(backend.keys(MANIFESTS))
    for root in first.keys() | second.keys():
        if first.get(root) != second.get(root):
            second[root] = _agreed_root(backend, root)
    return second


def _agreed_root(backend: Backend, root: str) -> bytes:
    prefix = fragments_prefix(root)
    before, now = None, _listing(backend.keys(prefix)).get(root, b"")
    while now != before:
        before, now = now, _listing(backend.keys(prefix)).get(root, b"")
    return now


def _listing(keys: Iterable[str]) -> Names:
    found: dict[str, bytearray] = {}
    for key in keys:
        root, intent = parse_fragment_key(key)
        found.setdefault(root, bytearray()).extend(intent.encode())
    return {root: "".join(sorted(_split(names))).encode() for root, names in found.items()}


def _split(names: bytes | bytearray) -> set[str]:
    text = names.decode()
    return {text[start : start + _NAME] for start in range(0, len(text), _NAME)}


def _digest(key: str) -> Digest:
    _, algorithm, _, digits, _ = key.split("/")
    return Digest(algorithm, digits)
