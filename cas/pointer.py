"""Pointer files: small text files that stand for large ones.

One is written in the place of a large file, and logged in its place; what is recorded is the entry it stands for.
So MLflow's own code can build a model around weights that it never sees.

Knowing a digest must not be enough to read somebody else's bytes. So a pointer is honoured only if it names an
intent that is alive and pins a blob of that digest (its name cannot be guessed, and whoever wrote it had the
bytes), or if its origin offers exactly that digest and size, to this process, now.
"""

from __future__ import annotations

from dataclasses import dataclass

from cas.blobs import Blobs
from cas.digest import Digest
from cas.errors import InvalidInput, KeyNotFound, MalformedRecord, PointerRefused
from cas.intent import Intent
from cas.keys import intent_key
from cas.sources import OriginStatus, source_of
from cas.ulid import is_ulid

MAGIC = b"# mlflow-cas pointer 1: stands for a large file, which is not here\n"
MAX_SIZE = 8 << 10
"""A file of more bytes than this is no pointer file."""
_FIELDS = ("digest", "size", "origin", "intent")


@dataclass(frozen=True, slots=True)
class Pointer:
    """What a pointer file says. ``intent`` is that of the writer who holds the bytes in the store."""

    digest: Digest
    size: int
    origin: str | None = None
    intent: str | None = None

    def encode(self) -> bytes:
        rows = [("digest", self.digest), ("size", self.size), ("origin", self.origin), ("intent", self.intent)]
        text = "".join(f"{name} {value}\n" for name, value in rows if value is not None)
        return MAGIC + text.encode()

    @classmethod
    def decode(cls, data: bytes) -> Pointer:
        """Raises :class:`PointerRefused` if ``data`` is not exactly what :meth:`encode` writes."""
        try:
            lines = data.removeprefix(MAGIC).decode().splitlines()
            fields = dict(line.split(" ", 1) for line in lines)
            pointer = cls(
                Digest.parse(fields["digest"]), int(fields["size"]), fields.get("origin"), fields.get("intent")
            )
            if pointer.encode() != data or pointer.size < 0 or not fields.keys() <= set(_FIELDS):
                raise InvalidInput("it is not in the one form that is written")
            if pointer.intent is not None and not is_ulid(pointer.intent):
                raise InvalidInput(f"no intent is called {pointer.intent!r}")
        except (ValueError, KeyError) as error:
            raise PointerRefused(f"malformed pointer file: {error}") from error
        return pointer


def is_pointer(data: bytes) -> bool:
    """Whether bytes claim to be a pointer file."""
    return data.startswith(MAGIC) and len(data) <= MAX_SIZE


def check(pointer: Pointer, path: str, blobs: Blobs) -> None:
    """Raise :class:`PointerRefused` unless whoever wrote the pointer may have these bytes."""
    if pointer.intent is not None and _is_pinned(pointer, pointer.intent, blobs):
        return
    if pointer.origin is None:
        raise PointerRefused(
            f"the pointer file at {path!r} names {pointer.digest}, which nobody holds for it in"
            f" {blobs.backend.name} now; log it while the `stage` that wrote it is open"
        )
    status = source_of(pointer.origin).check(pointer.origin, pointer.digest, pointer.size)
    if status is not OriginStatus.OK:
        raise PointerRefused(
            f"the pointer file at {path!r} says that {pointer.origin} is {pointer.digest} ({pointer.size} bytes);"
            f" asked, its source says: {status}"
        )


def _is_pinned(pointer: Pointer, intent: str, blobs: Blobs) -> bool:
    key = intent_key(intent)
    try:
        pins = Intent.decode(key, blobs.backend.read(key)).pins
    except (KeyNotFound, MalformedRecord):
        return False
    return not set(pins).isdisjoint(blobs.candidates(pointer.digest))
