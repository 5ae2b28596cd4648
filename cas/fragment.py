"""Fragments, and the merge that makes a manifest of them.

A fragment is the immutable record of one log call: entries put and paths removed. The merge keeps, for each
path, the record with the greatest stamp: a last-writer-wins map, hence commutative, associative and
idempotent. A fold writes many fragments as one; its records keep their stamps, so it can be merged together
with the fragments it replaces, and with any others, in any order.

On disk: one line `cas-fragment <format> <header length> <blake3 of header>`, then the header (JSON), then the
bytes of the small files. A reader that only lists needs the header alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cas.digest import Digest, digest_of
from cas.errors import MalformedRecord
from cas.keys import parse_blob_key, parse_fragment_key
from cas.manifest import MAX_INLINE, Entry, Inline, Manifest
from cas.paths import ancestors, check_path
from cas.records import reading
from cas.ulid import is_ulid

FORMAT = 1
_MAGIC = b"cas-fragment"
MAX_HEADER = 1 << 30  # a header that claims more is refused before memory is asked for
MAX_SIZE = 1 << 63
_MAX_BODY = 1 << 40  # no fragment is larger; a place beyond it is no place of a file


@dataclass(frozen=True, slots=True)
class Record:
    """What one log call said of one path: an entry, or (None) that it is removed.

    ``stamp`` is the intent of that log call; it decides between records of one path.
    """

    stamp: str
    path: str
    entry: Entry | None

    @property
    def rank(self) -> tuple[object, ...]:
        """A total order: later stamps win. Equal stamps say the same, except where the bytes lie: a fold's copy
        of an inline file sorts after the one it replaces, and outlives it."""
        if (entry := self.entry) is None:
            return self.stamp, 1
        place = entry.inline.fragment if entry.inline else entry.blob or ""
        return self.stamp, 0, place, str(entry.digest), entry.size, entry.origin or ""


State = dict[str, Record]  # by path


def merge(*states: Mapping[str, Record]) -> State:
    """The records that win, path by path."""
    merged: State = {}
    for state in states:
        for record in state.values():
            supersede(merged, record)
    return merged


def supersede(state: State, record: Record) -> Record | None:
    """Put ``record`` into ``state`` if it wins there; returns the record that lost, if there were two."""
    known = state.get(record.path)
    if known is not None and known.rank >= record.rank:
        return record
    state[record.path] = record
    return known


def manifest_of(state: Mapping[str, Record]) -> Manifest:
    """What readers see of a state: no removed paths, and no path that is a file and a directory at once.

    Writers refuse such a conflict when they see it; two that did not see each other can make one, and then
    the later log call is shown.
    """
    visible = {path: record for path, record in state.items() if record.entry is not None}
    directories = {directory for path in visible for directory in ancestors(path)}
    if not directories.isdisjoint(visible):
        visible = _without_conflicts(visible)
    return Manifest(record.entry for record in visible.values() if record.entry is not None)


def _without_conflicts(records: dict[str, Record]) -> dict[str, Record]:
    kept: dict[str, Record] = {}
    directories: set[str] = set()
    for path, record in sorted(records.items(), key=lambda item: (item[1].rank, item[0]), reverse=True):
        above = set(ancestors(path))
        if path in directories or not above.isdisjoint(kept):
            continue
        kept[path] = record
        directories |= above
    return kept


@dataclass(slots=True)
class Fragment:
    """One fragment as read: its records, the fragments it replaces, and whether it is a tombstone.

    ``aborted`` marks the tombstone a collector puts at the key of an intent it gave up: the writer's create-only
    put then fails, so that commit and abort can never both happen.
    """

    intent: str
    records: State = field(default_factory=dict)
    replaces: tuple[str, ...] = ()
    aborted: bool = False


def encode(fragment: Fragment, inline: Mapping[str, bytes]) -> list[bytes]:
    """The parts of a fragment's bytes. ``inline`` holds the small files by path."""
    offset, rows, removed = 0, [], []
    body: list[bytes] = []
    for path, record in sorted(fragment.records.items()):
        stamp = {} if record.stamp == fragment.intent else {"stamp": record.stamp}
        entry = record.entry
        if entry is None:
            removed.append({"path": path, **stamp})
            continue
        row: dict[str, Any] = {"path": path, "size": entry.size, "digest": str(entry.digest), **stamp}
        if entry.origin:
            row["origin"] = entry.origin
        if path in inline:
            row["inline"] = offset
            offset += len(inline[path])
            body.append(inline[path])
        elif entry.blob:
            row["blob"] = entry.blob
        rows.append(row)
    header: dict[str, Any] = {"intent": fragment.intent, "puts": rows, "removed": removed}
    if fragment.replaces:
        header["replaces"] = list(fragment.replaces)
    if fragment.aborted:
        header["aborted"] = True
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    line = b"%s %d %d %s\n" % (_MAGIC, FORMAT, len(text), digest_of(text).hex.encode())
    return [line + text, *body]


def tombstone(intent: str) -> list[bytes]:
    """What stands at the key of a fragment that never was, and now never will be."""
    return encode(Fragment(intent, aborted=True), {})


def header_span(key: str, start: bytes) -> tuple[int, int, str]:
    """From the first bytes of a fragment: where its header starts, where it ends, and its blake3."""
    line, newline, _ = start[:160].partition(b"\n")
    words = line.split(b" ")
    try:
        magic, version, length, checksum = words
        if not newline or magic != _MAGIC:
            raise ValueError
        size, known = int(length), int(version) <= FORMAT
        if int(version) < 1:
            raise ValueError
    except ValueError:
        raise MalformedRecord(key, "does not start as a fragment does") from None
    if not known:
        raise MalformedRecord(key, f"fragment format {version.decode()} is newer than this program ({FORMAT})")
    if not 0 < size <= MAX_HEADER:
        raise MalformedRecord(key, f"header of {size} bytes")
    begin = len(line) + 1
    return begin, begin + size, checksum.decode("ascii", "replace")


def decode(key: str, header: bytes, *, body_at: int, checksum: str) -> Fragment:
    """Read a header; ``body_at`` is where it ends. Everything is checked: it may be somebody else's record."""
    if digest_of(header).hex != checksum:
        raise MalformedRecord(key, "the header does not match its checksum")
    intent = parse_fragment_key(key)[1]
    with reading(key):
        document = json.loads(header)
        if document["intent"] != intent:
            raise MalformedRecord(key, f"it says it is the fragment of {document['intent']!r}")
        fragment = Fragment(intent, aborted=bool(document.get("aborted", False)))
        fragment.replaces = tuple(_ulid(key, name) for name in document.get("replaces", ()))
        for row in document["puts"]:
            _add(key, fragment, row["path"], row, _entry(key, row, body_at))
        for row in document["removed"]:
            _add(key, fragment, check_path(row["path"]), row, None)
    return fragment


def _add(key: str, fragment: Fragment, path: str, row: Mapping[str, Any], entry: Entry | None) -> None:
    if path in fragment.records:
        raise MalformedRecord(key, f"path {path!r} stands twice")
    fragment.records[path] = Record(_ulid(key, row.get("stamp", fragment.intent)), path, entry)


def _entry(key: str, row: Mapping[str, Any], body_at: int) -> Entry:
    size, offset, blob = row["size"], row.get("inline"), row.get("blob")
    for number in (size, 0 if offset is None else offset):
        if type(number) is not int or not 0 <= number < MAX_SIZE:
            raise MalformedRecord(key, f"{row['path']!r}: {number!r} is no size")
    if offset is not None and (size > MAX_INLINE or offset > _MAX_BODY):
        raise MalformedRecord(key, f"{row['path']!r}: {size} bytes at {offset} are too many for a fragment")
    if blob is not None:
        parse_blob_key(blob)
    origin = row.get("origin")
    if origin is not None and (not isinstance(origin, str) or not origin.isprintable()):
        raise MalformedRecord(key, f"{row['path']!r}: origin {origin!r}")
    inline = None if offset is None else Inline(key, body_at + offset)
    return Entry(check_path(row["path"]), size, Digest.parse(row["digest"]), origin, blob, inline)


def _ulid(key: str, text: object) -> str:
    if not isinstance(text, str) or not is_ulid(text):
        raise MalformedRecord(key, f"{text!r} is not a ULID")
    return text


def fold(intent: str, fragments: Iterable[Fragment]) -> Fragment:
    """One fragment that says what ``fragments`` say together. Tombstones stay: a path they remove may stand in
    a fragment that is not folded here, or not visible yet."""
    folded = [fragment for fragment in fragments if not fragment.aborted]
    records = merge(*(fragment.records for fragment in folded))
    return Fragment(intent, records, tuple(sorted(fragment.intent for fragment in folded)))
