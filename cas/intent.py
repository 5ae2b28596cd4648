"""Intents: what a writer says it is about to do, from before its first question to after its commit."""

from __future__ import annotations

import json
from dataclasses import dataclass

from cas.errors import MalformedRecord
from cas.keys import intent_key, parse_blob_key, parse_fragment_key
from cas.records import reading
from cas.ulid import is_ulid

LEASE_SECONDS = 24 * 3600
"""Not renewed for so long, an intent is taken for that of a dead writer: a collector fences it off, and it can no
longer commit. What was committed loses nothing by that."""


@dataclass(frozen=True, slots=True)
class Intent:
    """``fragment`` is the key of the commit it announces; ``pins`` are keys of blobs it relies on."""

    id: str
    fragment: str
    pins: tuple[str, ...] = ()
    lease_seconds: int = LEASE_SECONDS

    def encode(self) -> bytes:
        return json.dumps(
            {
                "intent": self.id,
                "fragment": self.fragment,
                "pins": list(self.pins),
                "lease_seconds": self.lease_seconds,
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def decode(cls, key: str, data: bytes) -> Intent:
        with reading(key):
            document = json.loads(data)
            id_, fragment, pins = document["intent"], document["fragment"], tuple(document["pins"])
            if not is_ulid(id_) or intent_key(id_) != key or parse_fragment_key(fragment)[1] != id_:
                raise MalformedRecord(key, "the intent, or its fragment, goes by another name")
            for pin in pins:
                parse_blob_key(pin)
            lease = document["lease_seconds"]
            if type(lease) is not int or lease <= 0:
                raise MalformedRecord(key, f"lease_seconds is {lease!r}")
            return cls(id_, fragment, pins, lease)
