"""Fragments as bytes: what was written is read, and what was not written is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cas.backends import MemoryBackend
from cas.condemned import CondemnedList, condemned_key
from cas.digest import digest_of
from cas.errors import MalformedRecord
from cas.fragment import Fragment, encode, manifest_of
from cas.history import read_fragment
from cas.intent import Intent
from cas.keys import fragment_key, intent_key
from tests.property.strategies import ROOT, log_calls, quick, thorough

T = TypeVar("T")
INTENT = "01HZZZZZZZZZZZZZZZZZZZZZZA"
KEY = fragment_key(ROOT, INTENT)


@thorough
@given(log_calls, st.lists(st.just(INTENT), max_size=1), st.booleans())
def test_a_fragment_is_read_as_it_was_written(
    calls: list[tuple[Fragment, dict[str, bytes]]], replaces: list[str], aborted: bool
) -> None:
    for fragment, inline in calls:
        fragment.replaces, fragment.aborted = tuple(replaces), aborted
        backend = _holding(fragment_key(ROOT, fragment.intent), b"".join(encode(fragment, inline)))
        found = read_fragment(backend, fragment_key(ROOT, fragment.intent))
        assert (found.intent, found.replaces, found.aborted) == (fragment.intent, tuple(replaces), aborted)
        assert _meaning(found) == _meaning(fragment)
        for path, data in inline.items():
            entry = found.records[path].entry
            assert entry is not None
            assert entry.inline is not None
            assert backend.read(*entry.inline, entry.size) == data


@thorough
@given(log_calls, st.data())
def test_a_fragment_with_changed_bytes_says_the_same_or_nothing(
    calls: list[tuple[Fragment, dict[str, bytes]]], data: st.DataObject
) -> None:
    fragment, inline = calls[0]
    fragment.intent = INTENT
    encoded = bytearray(b"".join(encode(fragment, inline)))
    expected = read_fragment(_holding(KEY, bytes(encoded)), KEY)
    header = encoded.index(b"\n") + 1 + int(encoded.split(b" ")[2])
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, header - 1))] ^= data.draw(st.integers(1, 255))
    found = _outcome(lambda: read_fragment(_holding(KEY, bytes(encoded)), KEY))
    assert found == expected or isinstance(found, MalformedRecord)


@quick
@given(log_calls, st.data())
def test_a_fragment_cut_short_in_its_header_is_refused(
    calls: list[tuple[Fragment, dict[str, bytes]]], data: st.DataObject
) -> None:
    fragment, inline = calls[0]
    fragment.intent = INTENT
    encoded = b"".join(encode(fragment, inline))
    header = encoded.index(b"\n") + 1 + int(encoded.split(b" ")[2])
    with pytest.raises(MalformedRecord):
        read_fragment(_holding(KEY, encoded[: data.draw(st.integers(0, header - 1))]), KEY)


@quick
@given(st.binary(max_size=200))
@example(b"cas-fragment 1 99999999999999999999 " + b"0" * 64 + b"\n{}")
@example(b"cas-fragment 2 2 " + b"0" * 64 + b"\n{}")
@example(b"cas-fragment 1 -2 " + b"0" * 64 + b"\n{}")
def test_other_bytes_are_no_fragment(data: bytes) -> None:
    with pytest.raises(MalformedRecord):
        read_fragment(_holding(KEY, data), KEY)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
_odd: dict[str, st.SearchStrategy[object]] = {
    "path": st.sampled_from(["../up", "/abs", "", "a", "\ud800"]),
    "size": st.sampled_from([-1, 2**63, 10**400, True, 1.0]),
    "digest": st.sampled_from(["blake3:", "md5:" + "0" * 64, "blake3:" + "G" * 64]),
    "stamp": st.sampled_from(["", "z", INTENT.lower(), INTENT + "0"]),
    "inline": st.sampled_from([-1, 2**63, False]),
    "blob": st.sampled_from(["blobs/", "../../etc/passwd", f"blobs/blake3/aa/bb{'0' * 62}/{INTENT}"]),
    "origin": st.sampled_from(["", "hf://", "\ud800"]),
}


@st.composite
def _documents(draw: st.DrawFn) -> object:
    """A good header with one thing changed, anywhere in it."""
    row = {"path": "a", "size": 0, "digest": str(digest_of(b""))}
    field = draw(st.sampled_from([*_odd, "intent", "puts", "removed", "replaces", "aborted", "removal"]))
    value = draw(_odd.get(field, _json) | _json)
    if field in _odd:
        row[field] = value
    document = {"intent": INTENT, "puts": [row], "removed": [{"path": "b"}], "replaces": [INTENT]}
    if field == "removal":
        document["removed"] = [{"path": "b"}, draw(st.fixed_dictionaries({"path": _odd["path"] | _json}) | _json)]
    elif field not in _odd:
        document[field] = value
    return document


@thorough
@given(_documents() | _json)
def test_any_header_is_refused_or_can_be_used(document: object) -> None:
    """With a checksum that is right: somebody else may have written it."""
    header = json.dumps(document).encode()
    line = b"cas-fragment 1 %d %s\n" % (len(header), digest_of(header).hex.encode())
    found = _outcome(lambda: read_fragment(_holding(KEY, line + header), KEY))
    if isinstance(found, Fragment):
        encode(found, {})
        assert manifest_of(found.records).digest.algorithm == "blake3"


@quick
@given(_documents() | _json)
def test_the_error_names_the_record_that_is_malformed(document: object) -> None:
    """Not some key that is written in it."""
    header = json.dumps(document).encode()
    line = b"cas-fragment 1 %d %s\n" % (len(header), digest_of(header).hex.encode())
    found = _outcome(lambda: read_fragment(_holding(KEY, line + header), KEY))
    assert isinstance(found, Fragment) or found.key == KEY


@quick
@given(_json, st.sampled_from(["fragment", "intent", "pins", "lease_seconds", "keys", "unneeded", None]))
def test_any_intent_or_condemned_list_is_refused_or_read(value: object, field: str | None) -> None:
    good = json.loads(Intent(INTENT, KEY).encode()) | {"keys": []}
    data = json.dumps(good | {field: value} if field else value).encode()
    intent, condemned = intent_key(INTENT), condemned_key(INTENT)
    found = _outcome(lambda: Intent.decode(intent, data))
    assert not isinstance(found, MalformedRecord) or found.key == intent
    listed = _outcome(lambda: CondemnedList.decode(condemned, data))
    assert not isinstance(listed, MalformedRecord) or listed.key == condemned


def _outcome(read: Callable[[], T]) -> T | MalformedRecord:
    """What reading returns, or that it was refused; any other error is a failure of the test."""
    try:
        return read()
    except MalformedRecord as error:
        return error


def _holding(key: str, data: bytes) -> MemoryBackend:
    backend = MemoryBackend()
    backend.put(key, [data], create=True)
    return backend


def _meaning(fragment: Fragment) -> dict[str, object]:
    return {
        path: (record.stamp, (entry := record.entry) and (entry.size, entry.digest, entry.origin, entry.blob))
        for path, record in fragment.records.items()
    }
