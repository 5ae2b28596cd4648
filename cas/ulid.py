"""ULIDs: 48 bits of milliseconds and 80 random bits, sortable as text (github.com/ulid/spec)."""

from __future__ import annotations

import os
import re
import time

from cas.errors import MalformedRecord

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUE = {letter: value for value, letter in enumerate(_ALPHABET)}
PATTERN = r"[0-7][0-9A-HJKMNP-TV-Z]{25}"
_ULID = re.compile(PATTERN + r"\Z")


def is_ulid(text: str) -> bool:
    return _ULID.match(text) is not None


def new_ulid(after: str = "") -> str:
    """A fresh ULID that sorts after ``after``, whatever the clock says.

    A clock that went backwards, or another machine's that runs ahead, must not make a later log call lose to
    an earlier one.
    """
    milliseconds = time.time_ns() // 1_000_000
    if after:
        milliseconds = max(milliseconds, milliseconds_of(after) + 1)
    if milliseconds >> 48:
        raise MalformedRecord(after, "its time is the last a ULID can hold; no later name exists")
    return _encode(milliseconds << 80 | int.from_bytes(os.urandom(10)))


def milliseconds_of(ulid: str) -> int:
    """The time in a ULID, in milliseconds since 1970."""
    value = 0
    for letter in ulid[:10]:
        value = value << 5 | _VALUE[letter]
    return value


def _encode(value: int) -> str:
    letters = []
    for _ in range(26):
        letters.append(_ALPHABET[value & 31])
        value >>= 5
    return "".join(reversed(letters))
