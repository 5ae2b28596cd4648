"""Condemned lists: keys of blobs and aliases that a collector is about to delete.

Nothing that is listed is ever taken off again while it is there: whoever wants such bytes to stay stores them
anew. A list that says *unneeded* was published by somebody who found, after the keys had been condemned, that
nobody needed them; since then nobody can have begun to.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple, Self

from cas.errors import MalformedRecord
from cas.keys import CONDEMNED, parse_blob_key
from cas.records import reading
from cas.ulid import is_ulid


class CondemnedList(NamedTuple):
    """What one list says."""

    keys: frozenset[str]
    unneeded: bool = False

    @classmethod
    def decode(cls, key: str, data: bytes) -> Self:
        with reading(key):
            condemned_ulid(key)
            document = json.loads(data)
            keys, unneeded = document["keys"], document.get("unneeded", False)
            for each in keys:
                parse_blob_key(each)
            if type(unneeded) is not bool:
                raise MalformedRecord(key, f"unneeded is {unneeded!r}")
            return cls(frozenset(keys), unneeded)


def encode_condemned(keys: Iterable[str], *, unneeded: bool) -> bytes:
    document: dict[str, object] = {"keys": list(keys)}
    if unneeded:
        document["unneeded"] = True
    return json.dumps(document, separators=(",", ":")).encode()


def condemned_key(ulid: str) -> str:
    return f"{CONDEMNED}{ulid}.json"


def condemned_ulid(key: str) -> str:
    """The ULID in the key of a condemned list."""
    ulid = key.removeprefix(CONDEMNED).removesuffix(".json")
    if condemned_key(ulid) != key or not is_ulid(ulid):
        raise MalformedRecord(key, "not the key of a condemned list")
    return ulid
