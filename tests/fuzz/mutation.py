"""Valid inputs, damaged: what a careless writer, a bad disk or an enemy makes of them."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

NUMBERS = [-1, 0, 1, 255, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**400, 1e308, float("inf"), 0.5]
TEXTS = [
    "", ".", "..", "../../secret", "/etc/passwd", "a/../../b", "a//b", "%2e%2e/%2e%2e", "a\\b", "\0", "a\nb",
    "\x1b[2J", "\x7f", "\x9b", "\ud800", "\u202egpj", "é", "e\u0301", "ﬁ", "Ⅷ", "\uff0e\uff0e\uff0f",
    "\u2024\u2024/", "İ", "ß", "x" * 256, "é" * 128, "/".join("d" * 1600), "~", "*", "#", "?", "[/red]", "[", "//[",
    "{}", "%s", "${HOME}", "NaN", "null", "con", "cas.json", "blobs", "@", "hf://models/o/n@" + "c" * 40 + "/f",
    "file:///etc/passwd", "blake3:" + "0" * 64,
]  # fmt: skip
BYTES = [text.encode("utf-8", "surrogatepass") for text in TEXTS] + [
    b"\xff", b"\xc0\xae\xc0\xae/", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\0" * 64, b"9" * 5000, b"[" * 20_000,
    b'{"a":' * 5000, b"- " * 3000, b"&a [*a]", b"*a", b"<<: *a\n", b"!!python/object/apply:os.system [id]", b"\r\n",
]  # fmt: skip
_NUMBER = re.compile(rb"\d+")


def mutated(random: Random, data: bytes) -> bytes:
    """``data`` with one to four things wrong with it."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        data = random.choice(_MUTATIONS)(random, data)
    return data


def mutated_text(random: Random, text: str) -> str:
    """The same for text, which may hold what is no Unicode."""
    if random.random() < 0.5:
        at = random.randrange(len(text) + 1)
        text = text[:at] + random.choice(TEXTS) + text[at + random.choice((0, 0, 1, 8)) :]
    if random.random() < 0.5:
        text = mutated(random, text.encode("utf-8", "surrogatepass"))[:8000].decode("utf-8", "surrogateescape")
    return text


def mutated_json(random: Random, document: Any) -> Any:
    """A document of which one place, anywhere, holds something else; the rest is as good as it was."""
    if isinstance(document, dict) and document and random.random() < 0.9:
        key = random.choice(sorted(document))
        changed = {**document, key: mutated_json(random, document[key])}
        if random.random() < 0.1:
            del changed[key]
        if random.random() < 0.1:
            changed[random.choice(TEXTS)] = document[key]
        return changed
    if isinstance(document, list) and document and random.random() < 0.9:
        at = random.randrange(len(document))
        return [*document[:at], mutated_json(random, document[at]), *document[at + (random.random() < 0.8) :]]
    if isinstance(document, str) and random.random() < 0.5:
        return mutated_text(random, document)
    return random.choice([*NUMBERS, *TEXTS, None, True, [], {}, [[]], {"": []}, _deep(random)])


def dumped(document: Any) -> bytes:
    """As JSON, with what JSON does not allow: NaN, infinities, halves of surrogate pairs."""
    return json.dumps(document).encode()


def _deep(random: Random) -> Any:
    """Nested as deep as may be written; deeper ones are made of bytes."""
    found: Any = 0
    for _ in range(random.choice((3, 50, 400))):
        found = [found] if random.random() < 0.5 else {"a": found}
    return found


def _flip(random: Random, data: bytes) -> bytes:
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def _cut(random: Random, data: bytes) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _drop(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + data[at + random.choice((1, 2, 16, 200)) :]


def _double(random: Random, data: bytes) -> bytes:
    start = random.randrange(len(data) + 1)
    stop = start + random.choice((1, 8, 64, 1000))
    return data[:stop] + data[start:stop] * random.choice((1, 2, 50)) + data[stop:]


def _insert(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + random.choice(BYTES) + data[at:]


def _overwrite(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data) + 1)
    new = random.choice(BYTES)
    return data[:at] + new + data[at + len(new) :]


def _number(random: Random, data: bytes) -> bytes:
    """A number that is written as text: sizes, lengths, counts."""
    found = list(_NUMBER.finditer(data))
    if not found:
        return _flip(random, data)
    match = random.choice(found)
    return data[: match.start()] + str(random.choice(NUMBERS)).encode() + data[match.end() :]


def _length(random: Random, data: bytes) -> bytes:
    """Eight bytes that may be a length."""
    at = random.choice((0, random.randrange(len(data) + 1)))
    value = random.choice([each for each in NUMBERS if isinstance(each, int) and 0 <= each < 2**64])
    return data[:at] + value.to_bytes(8, "little") + data[at + 8 :]


_MUTATIONS = (_flip, _cut, _drop, _double, _insert, _overwrite, _number, _length)
