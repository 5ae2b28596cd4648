"""Digests: typed, comparable, printable names of bytes."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from mmap import mmap
from typing import Protocol, Self

from blake3 import blake3

from cas.errors import InvalidDigest

Buffer = bytes | bytearray | memoryview | mmap

ALGORITHMS = ("blake3", "sha256")
_HEX = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, order=True, slots=True)
class Digest:
    """A digest always carries its algorithm, so that two kinds can never be confused.

    ``blake3`` is the store's own address; ``sha256`` is what the Hugging Face Hub publishes.
    """

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise InvalidDigest(f"unknown digest algorithm {self.algorithm!r}; known: {', '.join(ALGORITHMS)}")
        if not _HEX.match(self.hex):
            raise InvalidDigest(f"{self.algorithm} digest must be 64 lower-case hex digits, not {self.hex!r}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``algorithm:hex``; raises :class:`InvalidDigest` on anything else."""
        algorithm, colon, hexadecimal = text.partition(":")
        if not colon:
            raise InvalidDigest(f"a digest is written algorithm:hex, not {text!r}")
        return cls(algorithm, hexadecimal)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


class _Threads:
    """blake3's threads start with their first work, and stay behind when the process forks: a child that asked
    them for more would wait for ever."""

    started = False
    lost = False

    @classmethod
    def forked(cls) -> None:
        cls.lost = cls.started

    @classmethod
    def allowed(cls, wanted: int) -> int:
        if wanted == 1 or cls.lost:
            return 1
        cls.started = True
        return wanted


os.register_at_fork(after_in_child=_Threads.forked)


class _Hash(Protocol):
    def update(self, data: Buffer, /) -> object: ...
    def hexdigest(self) -> str: ...


class Hasher:
    """Computes several digests, and the size, of one stream of bytes.

    ``threads`` is blake3's; more than one pays only for buffers of several MiB.
    """

    def __init__(self, algorithms: tuple[str, ...] = ("blake3",), *, threads: int = 1) -> None:
        self.size = 0
        self._hashes: dict[str, _Hash] = {}
        for algorithm in algorithms:
            if algorithm == "blake3":
                self._hashes[algorithm] = blake3(max_threads=_Threads.allowed(threads))
            elif algorithm == "sha256":
                self._hashes[algorithm] = hashlib.sha256()
            else:
                raise InvalidDigest(f"unknown digest algorithm {algorithm!r}; known: {', '.join(ALGORITHMS)}")

    def update(self, data: Buffer) -> None:
        for each in self._hashes.values():
            each.update(data)
        self.size += len(data)

    def digest(self, algorithm: str = "blake3") -> Digest:
        return Digest(algorithm, self._hashes[algorithm].hexdigest())

    def digests(self) -> dict[str, Digest]:
        return {algorithm: self.digest(algorithm) for algorithm in self._hashes}


def digest_of(data: Buffer) -> Digest:
    """The blake3 address of bytes in memory."""
    return Digest("blake3", blake3(data).hexdigest())
