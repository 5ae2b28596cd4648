"""Large files that clients of a server put straight into the bucket.

The client puts parts to signed addresses. What they make is *staged*, where no reader looks, under a key that holds
the digest of the path it is meant for. S3 computes no blake3, so completing an upload reads the object once and
hashes it, and then follows the protocol of :mod:`cas.writer`, with a server-side copy in the place of an upload.
Nothing is visible before its bytes were hashed, and no byte touches this machine's disk.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple, Self
from weakref import WeakValueDictionary

from cas.backends.parts import MOST, Part, S3PartUploads, Seen
from cas.backends.powers import s3_of
from cas.errors import InvalidInput, KeyExists, KeyNotFound
from cas.keys import staged_key
from cas.paths import check_path
from cas.placement import Stored
from cas.pointer import MAX_SIZE
from cas.rehash import rehash
from cas.roots import locate
from cas.store import Store
from cas.ulid import PATTERN, new_ulid

ADDRESSES_LAST = 3600
"""Seconds for which parts can be put."""
# The name of the staged object, how many parts were asked for, and S3's own id, whatever letters it is made of.
_ID = re.compile(rf"(?P<ulid>{PATTERN})\.(?P<count>[1-9]\d{{0,4}})\.(?P<upload>[!-~]{{1,1024}})\Z")


class Begun(NamedTuple):
    """An upload that can be put to. ``addresses`` are those of its parts, in order; they are secrets."""

    upload_id: str
    addresses: list[str]


class Uploads:
    """Uploads by parts into one store. Paths are those inside the store. Safe to share among threads."""

    def __init__(self, store: Store, parts: S3PartUploads) -> None:
        self._store = store
        self._backend = store.backend
        self._parts = parts

    @classmethod
    def of(cls, store: Store) -> Self | None:
        """None where files can come in through this process only."""
        s3 = s3_of(store.backend)
        return None if s3 is None else cls(store, S3PartUploads(s3))

    def begin(self, path: str, count: int) -> Begun:
        """Let somebody put the file ``path`` in ``count`` parts. Raises :class:`PathConflict`."""
        if not 1 <= count <= MOST:
            raise InvalidInput(f"an upload has 1 to {MOST} parts, not {count}; choose larger ones")
        root, inside = locate(check_path(path))
        self._store.artifact_root(root).check_free(inside)
        name = new_ulid()
        key = staged_key(path, name)
        upload = self._parts.begin(key)
        addresses = [
            self._parts.address(key, upload, number, seconds=ADDRESSES_LAST) for number in range(1, count + 1)
        ]
        return Begun(f"{name}.{count}.{upload}", addresses)

    def complete(self, path: str, upload_id: str, parts: Sequence[Part]) -> None:
        """Log the file ``path``, made of exactly these parts. Done already is no error: answers get lost.

        Raises :class:`InvalidInput` if the upload is not one of this path, or gone, or has other parts; and what
        a log call raises.
        """
        upload = _Upload.parse(path, upload_id)
        with _alone(f"{self._store.name}/{upload.key}"):
            if self._is_done(upload):
                return
            try:
                seen = self._assemble(upload, parts)
                self._log(path, upload.key, seen)
            except KeyNotFound:
                # Another process may have completed it meanwhile, and deleted what was staged.
                if not self._is_done(upload):
                    raise _gone(path) from None

    def abort(self, path: str, upload_id: str) -> None:
        """Forget an upload. One that is gone is no error; one that is completed stays."""
        upload = _Upload.parse(path, upload_id)
        with _alone(f"{self._store.name}/{upload.key}"):
            self._parts.abort(upload.key, upload.id)
            self._backend.delete([upload.key])

    def _assemble(self, upload: _Upload, said: Sequence[Part]) -> Seen:
        """Make one staged object of the parts."""
        try:
            there = self._parts.parts(upload.key, upload.id)
        except KeyNotFound:
            # Completed by a process that was killed before it was logged, or right now by another: its parts were
            # compared then.
            return self._parts.look(upload.key)
        said = sorted(Part(part.number, part.etag.strip('"')) for part in said)
        if [part.number for part in said] != list(range(1, upload.expected + 1)):
            raise InvalidInput(f"it has parts 1 to {upload.expected}, each once; named were {_numbers(said)}")
        if said != there:
            wrong = sorted(set(said) - set(there)) or sorted(set(there) - set(said))
            raise InvalidInput(
                f"these parts did not arrive, or with another ETag: {_numbers(wrong)}; put them again"
            )
        self._parts.complete(upload.key, upload.id, there)
        return self._parts.look(upload.key)

    def _log(self, path: str, key: str, seen: Seen) -> None:
        root, inside = locate(path)
        if seen.size <= max(MAX_SIZE, self._store.settings.inline_limit):
            self._store.artifact_root(root).ingest_bytes(self._backend.read(key), inside)
        else:
            ingested = rehash(self._backend, key, ("blake3", *self._store.settings.aliases))
            with self._store.artifact_root(root).log_call([inside]) as writer:
                writer.put_stored(inside, Stored(key, seen.etag), ingested)
                writer.commit()
        with suppress(KeyExists):  # another process has logged the same bytes
            self._backend.put(_done(key), [json.dumps({"path": path, "size": seen.size}).encode()], create=True)
        self._backend.delete([key])

    def _is_done(self, upload: _Upload) -> bool:
        try:
            self._backend.size(_done(upload.key))
        except KeyNotFound:
            return False
        return True


class _Upload(NamedTuple):
    """What an upload's id says, for the path it came with: a key that is another path's holds nothing of it."""

    key: str
    expected: int
    id: str

    @classmethod
    def parse(cls, path: str, upload_id: str) -> Self:
        match = _ID.match(upload_id)
        if match is None:
            raise _gone(path)
        return cls(staged_key(check_path(path), match["ulid"]), int(match["count"]), match["upload"])


def _gone(path: str) -> InvalidInput:
    return InvalidInput(
        f"there is no such upload of {path!r}: it was begun for another path, aborted, or too long ago. Log the"
        " file again"
    )


def _done(key: str) -> str:
    """The record of an upload that was logged, for whoever did not hear of it."""
    return f"{key}.done"


def _numbers(parts: Sequence[Part]) -> str:
    numbers = [str(part.number) for part in parts[:8]]
    return ", ".join(numbers + ["…"] * (len(parts) > 8)) or "none"


_running: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
_running_lock = threading.Lock()


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """One thread at a time: a client that lost patience asks again, and must not have the object read twice at
    once. That saves work only; other processes may do the same."""
    with _running_lock:
        lock = _running.setdefault(name, threading.Lock())
    with lock:
        yield
