"""Blobs in shards, by the first two digits of their digest: what is done to all of them is done shard by shard,
many at once."""

from __future__ import annotations

from itertools import islice

from cas.backends import Backend, SupportsLocalFiles
from cas.digest import ALGORITHMS
from cas.keys import BLOBS

_FEW = 4000


def shard_of(key: str) -> str:
    """The prefix of a blob's key, or an alias's, that its whole shard has."""
    return "/".join(key.split("/")[:3]) + "/"


def shards(backend: Backend) -> list[str]:
    """Prefixes that hold everything which is stored now. One listing tells of a small store; of a large one, all
    there can be."""
    if isinstance(backend, SupportsLocalFiles):
        directories = backend.path(BLOBS).glob("*/*")
        return sorted(f"{BLOBS}{each.parent.name}/{each.name}/" for each in directories)
    keys = list(islice(backend.keys(BLOBS), _FEW + 1))
    if len(keys) <= _FEW:
        return sorted({shard_of(key) for key in keys})
    return [f"{BLOBS}{algorithm}/{number:02x}/" for algorithm in ALGORITHMS for number in range(256)]
