"""Intents: what a writer says it is about to do, from before its first question to after its commit."""

from __future__ import annotations

import json
from dataclasses import dataclass

from cas.errors import MalformedRecord
from cas.keys import parse_blob_key, parse_fragment_key
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
        try:
            document = json.loads(data)
            intent = cls(
                document["intent"], document["fragment"], tuple(document["pins"]), document["lease_seconds"]
            )
            if not is_ulid(intent.id) or parse_fragment_key(intent.fragment)[1] != intent.id:
                raise MalformedRecord(key, "the fragment is not this intent's")
            for pin in intent.pins:
                parse_blob_key(pin)
        except (ValueError, KeyError, TypeError) as error:
            raise MalformedRecord(key, f"{type(error).__name__}: {error}") from error
        return intent


def condemned_keys(key: str, data: bytes) -> frozenset[str]:
    """The blob keys a condemned list names."""
    try:
        keys = json.loads(data)["keys"]
        for each in keys:
            parse_blob_key(each)
        return frozenset(keys)
    except (ValueError, KeyError, TypeError) as error:
        raise MalformedRecord(key, f"{type(error).__name__}: {error}") from error
