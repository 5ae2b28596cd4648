"""What `cas.json` says: fixed when a store is created."""

from __future__ import annotations

import json
from typing import NamedTuple, Self

from cas.errors import InvalidInput, MalformedRecord, UnsupportedFormat
from cas.keys import STORE
from cas.manifest import MAX_INLINE
from cas.records import reading

FORMAT = 1
DEFAULT_INLINE_LIMIT = 16 << 10


class Settings(NamedTuple):
    """What ``cas.json`` says: fixed when the store is created."""

    id: str
    inline_limit: int = DEFAULT_INLINE_LIMIT
    aliases: tuple[str, ...] = ()
    """Further algorithms every new blob is hashed with, and can be found by."""

    def encode(self) -> bytes:
        document = {
            "format": FORMAT,
            "id": self.id,
            "inline_limit": self.inline_limit,
            "aliases": list(self.aliases),
        }
        return json.dumps(document, indent=2).encode() + b"\n"

    @classmethod
    def decode(cls, where: str, data: bytes) -> Self:
        key = f"{where}/{STORE}"
        with reading(key):
            document = json.loads(data)
            version = document["format"]
            if type(version) is not int or version < 1:
                raise MalformedRecord(key, f"format {version!r}")
            if version <= FORMAT:
                settings = cls(str(document["id"]), int(document["inline_limit"]), tuple(document["aliases"]))
                settings.check()
                return settings
        raise UnsupportedFormat(
            f"the store at {where} has format {version}; this mlflow-cas reads up to {FORMAT}. Upgrade mlflow-cas"
        )

    def check(self) -> None:
        if not 0 <= self.inline_limit <= MAX_INLINE:
            raise InvalidInput(f"inline_limit must be between 0 and {MAX_INLINE} bytes, not {self.inline_limit}")
        if not set(self.aliases) <= {"sha256"}:
            raise InvalidInput(f"aliases may name sha256, not {', '.join(self.aliases)}")
