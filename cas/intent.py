"""Intents: what a writer says it is about to do, from before its first question to after its commit."""

from __future__ import annotations

import json
from dataclasses import dataclass

from cas.errors import MalformedRecord
from cas.keys import parse_blob_key, parse_fragment_key
from cas.records import reading
from cas.ulid import is_ulid

LEASE_SECONDS = 24 * 3600  # after this a collector may fence the writer off; it then fails, and loses nothing


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
            if not is_ulid(id_) or parse_fragment_key(fragment)[1] != id_:
                raise MalformedRecord(key, "the fragment is not this intent's")
            for pin in pins:
                parse_blob_key(pin)
            return cls(id_, fragment, pins, int(document["lease_seconds"]))


def condemned_keys(key: str, data: bytes) -> frozenset[str]:
    """The blob keys a condemned list names."""
    with reading(key):
        keys = json.loads(data)["keys"]
        for each in keys:
            parse_blob_key(each)
        return frozenset(keys)
