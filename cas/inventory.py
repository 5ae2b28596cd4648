"""Every blob and alias of a store, listed by digest prefix and held small: about 70 bytes each.

A key is held *packed*: a letter for the algorithm, the 32 bytes of the digest, the intent; for an alias, letter and
bytes of the other digest follow. A million keys as text would take four times as much.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from cas.backends import Backend
from cas.concurrency import at_once
from cas.digest import ALGORITHMS, Digest
from cas.keys import alias_key, blob_key, parse_blob_key
from cas.shards import shards

_LETTERS = {"blake3": b"b", "sha256": b"s"}
_ALGORITHMS = {letter[0]: algorithm for algorithm, letter in _LETTERS.items()}
assert _LETTERS.keys() == set(ALGORITHMS)
_DIGEST = 33
_BLOB = 59
_ALIAS = _BLOB + _DIGEST
_SIZED = struct.Struct(f"<{_BLOB}sQ")


def pack(key: str) -> bytes:
    """The packed form of a key under ``blobs/``; raises :class:`MalformedRecord` if it is none."""
    digest, intent, other = parse_blob_key(key)
    return pack_digest(digest) + intent.encode() + (pack_digest(other) if other is not None else b"")


def pack_digest(digest: Digest) -> bytes:
    return _LETTERS[digest.algorithm] + bytes.fromhex(digest.hex)


def unpack(packed: bytes) -> str:
    digest, intent = _unpack_digest(packed[:_DIGEST]), intent_of(packed)
    return (
        alias_key(digest, intent, _unpack_digest(packed[_BLOB:])) if is_alias(packed) else blob_key(digest, intent)
    )


def is_alias(packed: bytes) -> bool:
    return len(packed) == _ALIAS


def intent_of(packed: bytes) -> str:
    """The intent that wrote a key."""
    return packed[_DIGEST:_BLOB].decode()


def digest_of_key(packed: bytes) -> bytes:
    """The packed digest a key is listed under."""
    return packed[:_DIGEST]


def other_of(alias: bytes) -> bytes:
    """The packed digest under which the bytes of an alias lie."""
    return alias[_BLOB:]


@dataclass(slots=True)
class _Shard:
    blobs: bytearray = field(default_factory=bytearray)
    aliases: bytearray = field(default_factory=bytearray)


class Inventory:
    """What was stored when it was taken. Listed before anything else is asked: whatever it shows was announced
    by an intent that was there before."""

    def __init__(self, shards: list[_Shard]) -> None:
        self._shards = shards

    @classmethod
    def take(cls, backend: Backend) -> Inventory:
        """List everything, shard by shard. Raises :class:`MalformedRecord` for a key that is none of a blob."""
        return cls(list(at_once(backend, lambda prefix: _shard(backend, prefix), shards(backend))))

    def blobs(self) -> Iterator[tuple[bytes, int]]:
        """Every blob with its size."""
        for shard in self._shards:
            yield from _SIZED.iter_unpack(shard.blobs)

    def aliases(self) -> Iterator[bytes]:
        for shard in self._shards:
            for start in range(0, len(shard.aliases), _ALIAS):
                yield bytes(shard.aliases[start : start + _ALIAS])

    @property
    def has_aliases(self) -> bool:
        return any(shard.aliases for shard in self._shards)


def _shard(backend: Backend, prefix: str) -> _Shard:
    found = _Shard()
    for key, size in backend.list(prefix):
        packed = pack(key)
        if is_alias(packed):
            found.aliases += packed
        else:
            found.blobs += _SIZED.pack(packed, size)
    return found


def _unpack_digest(packed: bytes) -> Digest:
    return Digest(_ALGORITHMS[packed[0]], packed[1:].hex())
