"""Making references real in an object store: their bytes pass through this process, and never touch its disk.

Each file is read in parallel ranges and handed on in order, hashed on the way. The upload is completed only after
the hash was seen to be right: what is not as promised never becomes visible.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from cas.blobs import Blobs
from cas.digest import Digest, Hasher
from cas.errors import FileChanged, OriginChanged
from cas.fetch import FetchReport, How
from cas.keys import blob_key
from cas.manifest import Entry
from cas.streaming.patience import Patience
from cas.streaming.pipe import piped
from cas.supply import Supply
from cas.userfile import UserFile

_logger = logging.getLogger(__name__)


class Transit:
    """Fetches from ``supply`` into the blobs of an object store. ``patience`` is in seconds without progress."""

    def __init__(self, blobs: Blobs, supply: Supply, *, patience: float | None = None) -> None:
        self._blobs = blobs
        self._supply = supply
        self._patience = patience

    def fetch(self, entries: Iterable[Entry], intent: str) -> FetchReport:
        """Have the bytes of all ``entries`` in the store, written for ``intent``, which must be announced.

        One file after the other: each uses the whole line. What was complete when one fails is found by its
        digest the next time. Raises what the supply's remotes raise, and :class:`OriginChanged`.
        """
        report = FetchReport()
        for entry in {entry.digest: entry for entry in entries}.values():
            report.add(self._fetch(entry, intent), entry.size)
        return report

    def _fetch(self, entry: Entry, intent: str) -> How:
        if self._is_held(entry.digest, entry.size):
            return How.HELD
        for path in self._supply.copies(entry):
            try:
                self._put(entry, intent, _chunks(path), str(path))
            except (OSError, FileChanged, OriginChanged) as error:
                _logger.info("%s is not used: %s", path, error)
                continue
            return How.COPIED
        bar = self._supply.progress(os.path.basename(entry.path), entry)
        with closing(self._supply.open(entry)) as remote, closing(bar):
            patience = Patience() if self._patience is None else Patience(self._patience)
            self._put(entry, intent, piped(remote, entry.size, patience, advance=bar.update), remote.name)
        return How.STREAMED

    def _put(self, entry: Entry, intent: str, chunks: Iterator[bytes], name: str) -> None:
        hasher = Hasher(self._supply.algorithms(entry))
        with closing(_Verified(entry, chunks, hasher, name)) as verified:
            self._blobs.backend.put(blob_key(entry.digest, intent), verified, create=False, size=entry.size)
        blake3 = hasher.digest("blake3")
        if blake3 != entry.digest:
            self._blobs.add_alias(blake3, intent, entry.digest)

    def _is_held(self, digest: Digest, size: int) -> bool:
        """Whether there is a blob of ``digest`` that will stay."""
        keys = set(self._blobs.candidates(digest))
        return any(self._blobs.is_usable(key, size) for key in sorted(keys - self._blobs.condemned()))


class _Verified:
    """Chunks that pass, and an error in the place of their end if they were not what was promised."""

    def __init__(self, entry: Entry, chunks: Iterator[bytes], hasher: Hasher, name: str) -> None:
        self._entry, self._chunks, self._hasher, self._name = entry, chunks, hasher, name

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._hasher.update(chunk)
            yield chunk
        found = self._hasher.digests()[self._entry.digest.algorithm]
        if found != self._entry.digest:
            raise OriginChanged(
                f"{self._name} sent other bytes than were promised: expected {self._entry.digest}, found {found}"
                f" ({self._hasher.size} bytes). Nothing was stored"
            )

    def close(self) -> None:
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()


def _chunks(path: Path) -> Iterator[bytes]:
    with UserFile(path) as reading, closing(reading.chunks()) as chunks:
        for chunk in chunks:
            yield bytes(chunk)
