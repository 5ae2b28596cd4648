"""Blobs: whole files of immutable bytes, found by digest.

The choke point for damage: every use of a stored blob passes :meth:`Blobs.find`, which never hands out one whose
seal is broken without hashing it again. Nothing above may assume how a blob is stored, only that it can be
opened, and that :meth:`Blobs.local_path` may answer None.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from cas.atomic import SEAL_NS, SEALED_MODE
from cas.backends import Backend, SupportsLocalFiles
from cas.condemned import CondemnedList
from cas.digest import Digest
from cas.errors import BlobDamaged, BlobNotFound, KeyNotFound, StoreRefused, StoreUnavailable
from cas.keys import BLOBS, CONDEMNED, QUARANTINE, alias_key, blobs_prefix, parse_blob_key, quarantine_key
from cas.quarantine import quarantine
from cas.reader import open_object
from cas.rehash import Advance, rehash

_logger = logging.getLogger(__name__)


class Blobs:
    """The blobs of one store."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.local = backend if isinstance(backend, SupportsLocalFiles) else None
        self._condemned: dict[str, frozenset[str]] = {}  # lists never change, and are asked for by every log call

    def candidates(self, digest: Digest) -> list[str]:
        """Keys that hold, or claim to hold, the bytes of ``digest``: its own and those its aliases name."""
        own, aliased = self._listing(digest)
        return own + [key for other in aliased for key in self._listing(other)[0]]

    def aliases(self, digest: Digest) -> list[Digest]:
        """Other digests of the same bytes, as recorded under ``digest``."""
        return self._listing(digest)[1]

    def condemned(self) -> frozenset[str]:
        """Keys listed for deletion: whoever wants such a blob to stay has to write it anew."""
        known, lists = self._condemned, {}
        for key in self.backend.keys(CONDEMNED):
            # One that has vanished since it was listed was spent: all that it named is gone.
            with suppress(KeyNotFound):
                lists[key] = known.get(key) or CondemnedList.decode(key, self.backend.read(key)).keys
        self._condemned = lists
        return frozenset[str]().union(*lists.values())

    def add_alias(self, digest: Digest, intent: str, other: Digest) -> None:
        """Record that the bytes of ``digest`` lie under ``other``; both were computed over the same bytes.

        Whoever stores a blob adds an alias of its own: one that is there may go with the blob it was made for.
        """
        self.backend.put(alias_key(digest, intent, other), (), create=False)

    def ensure_alias(self, digest: Digest, intent: str, other: Digest) -> None:
        """As :meth:`add_alias`, of bytes that are stored already: then an alias that is there will do."""
        if other not in self.aliases(digest):
            self.add_alias(digest, intent, other)

    def is_usable(self, key: str, size: int) -> bool:
        """Whether the blob under ``key`` is there, of this size, and its bytes are what they were.

        A local blob that somebody wrote to through a link is found out here, and put into quarantine.
        """
        try:
            if self.local is None:
                return self.backend.size(key) == size
            return self._is_intact(self.local, key, size)
        except (KeyNotFound, FileNotFoundError):
            return False

    def is_held(self, digest: Digest, size: int) -> bool:
        """Whether there is a usable blob of ``digest`` that will stay."""
        keys = set(self.candidates(digest))
        return bool(keys) and any(self.is_usable(key, size) for key in sorted(keys - self.condemned()))

    def find(self, digest: Digest, size: int, key: str | None = None) -> str:
        """The key of a usable blob, ``key`` if it is one, else any the listing shows.

        Raises :class:`BlobNotFound` if there is none, :class:`BlobDamaged` if there were only damaged ones.
        """
        for each in self._in_order(digest, key):
            if self.is_usable(each, size):
                return each
        if self.is_quarantined(digest):
            raise BlobDamaged(
                f"the only copy of {digest} ({size} bytes) in {self.backend.name} is damaged, and in quarantine;"
                " `cas verify` names the models that need it, and logging the right bytes again heals them"
            )
        raise BlobNotFound(f"{self.backend.name} holds no blob {digest} ({size} bytes)")

    def open(self, digest: Digest, size: int, key: str | None = None) -> BinaryIO:
        """Open a blob for reading, with seek. Raises as :meth:`find` does."""
        while True:
            found = self.find(digest, size, key)
            if self.local is None:
                return open_object(self.backend, found, size)
            # Collected since it was found, if nobody needs it any more: perhaps there is another, or an origin.
            with suppress(FileNotFoundError):
                descriptor = os.open(self.local.path(found), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                return cast("BinaryIO", os.fdopen(descriptor, "rb"))

    def local_path(self, digest: Digest, size: int, key: str | None = None) -> Path | None:
        """The blob's file, where it is one. For reading and linking only: it is the store's own."""
        if self.local is None:
            return None
        return self.local.path(self.find(digest, size, key))

    def listing(self) -> Iterator[tuple[str, int]]:
        """Every blob of the store with its size, without aliases."""
        for key, size in self.backend.list(BLOBS):
            if parse_blob_key(key)[2] is None:
                yield key, size

    def verify(self, key: str) -> bool:
        """Read every byte under ``key``; a blob that is damaged goes to quarantine."""
        return self.digests(key, ()) is not None

    def digests(
        self,
        key: str,
        algorithms: tuple[str, ...],
        advance: Advance = lambda _: None,
        *,
        size: int | None = None,
    ) -> dict[str, Digest] | None:
        """Read every byte under ``key``: its digests by ``algorithms``, and the one it is stored under. ``size`` is
        what was just listed.

        None if that one is not as it should be; the blob then goes to quarantine. Raises :class:`KeyNotFound`.

        What is damaged in a bucket is so each time it is read; a bit that fell over on the way is not.
        """
        digest = parse_blob_key(key)[0]
        wanted = tuple(dict.fromkeys((digest.algorithm, *algorithms)))
        found = {} if self._is_link(key) else rehash(self.backend, key, wanted, advance, size=size).digests
        if self.local is None and found[digest.algorithm] != digest:
            first, found = found, rehash(self.backend, key, wanted, advance).digests
            if found[digest.algorithm] not in (first[digest.algorithm], digest):
                raise StoreUnavailable(
                    f"{self.backend.name}/{key} was read twice, and was different each time, and wrong: suspect the"
                    " network, or the memory of this machine. It was left as it is; verify it from another machine"
                )
        if found.get(digest.algorithm) == digest:
            return found
        _logger.error("blob %s in %s is damaged: its bytes are not those of its digest", key, self.backend.name)
        try:
            quarantine(self.backend, key)
        except (PermissionError, StoreRefused):
            _logger.warning("it stays where it is, and is refused; run `cas verify` as its owner")
        return None

    def _is_link(self, key: str) -> bool:
        """A link in the place of a blob was planted there; what it points to is not ours to read."""
        return self.local is not None and self.local.path(key).is_symlink()

    def is_quarantined(self, digest: Digest) -> bool:
        """Whether a blob of ``digest``, or of one it is an alias of, was damaged."""
        prefixes = tuple(quarantine_key(blobs_prefix(each)) for each in (digest, *self.aliases(digest)))
        return any(key.startswith(prefixes) for key in self.backend.keys(QUARANTINE))

    def _in_order(self, digest: Digest, key: str | None) -> Iterator[str]:
        if key is not None:
            yield key
        yield from self.candidates(digest)

    def _listing(self, digest: Digest) -> tuple[list[str], list[Digest]]:
        own: list[str] = []
        aliased: list[Digest] = []
        for key in self.backend.keys(blobs_prefix(digest)):
            other = parse_blob_key(key)[2]
            if other is None:
                own.append(key)
            elif other not in aliased:
                aliased.append(other)
        return sorted(own), aliased

    def _is_intact(self, backend: SupportsLocalFiles, key: str, size: int) -> bool:
        path = backend.path(key)
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if status.st_size == size and status.st_mtime_ns == SEAL_NS and stat.S_ISREG(status.st_mode):
            return True
        if not self.verify(key):
            return False
        self._reseal(path)
        return os.lstat(path).st_size == size

    def _reseal(self, path: Path) -> None:
        """The bytes are right: only the time was touched. A reader without the right to mend it rehashes again."""
        try:
            os.utime(path, ns=(SEAL_NS, SEAL_NS), follow_symlinks=False)
            os.chmod(path, SEALED_MODE)
        except PermissionError:
            _logger.warning(
                "the seal of %s is broken, though its bytes are right; run `cas verify` as its owner", path
            )
