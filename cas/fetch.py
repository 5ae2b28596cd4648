"""Making references real: their bytes, from the nearest place that has them, as verified blobs.

For each digest one process works at a time; others wait, and find it done. What is near is linked after it was
hashed; what is not is streamed into an unfinished download that any later process of this user goes on with.
Every blob is published as soon as it is complete, under the sha256 that its origin promised, with an alias under
the blake3 that was computed on the way.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from cas.atomic import remove
from cas.backends import SupportsLocalFiles
from cas.blobs import Blobs
from cas.digest import Digest
from cas.directories import check_way
from cas.errors import BlobDamaged, CasError, FileChanged, InvalidInput, OriginChanged
from cas.ingest import Ingested, share_file, stage_file
from cas.keys import blob_key
from cas.locks import exclusive
from cas.manifest import Entry
from cas.streaming.journal import Journal
from cas.streaming.patience import Patience
from cas.streaming.transfer import stream
from cas.supply import Supply

_logger = logging.getLogger(__name__)

ANEW = (False, False, True)
"""For each try of a log call that relies on what it fetched: whether to bring anew what is there. Collectors may
take that between seeing and pinning it, again and again; what a living intent wrote they leave alone."""
FILES_AT_ONCE = 2
"""sha256 keeps one core busy for each file; more connections come from within a file."""


class How(StrEnum):
    """How the bytes of an entry came into the store."""

    HELD = "already there"
    LINKED = "linked"
    COPIED = "copied"
    COPIED_THERE = "copied by the server"
    STREAMED = "streamed"


@dataclass(slots=True)
class FetchReport:
    """How many files and bytes were fetched in which way. Each digest counts once."""

    files: Counter[How] = field(default_factory=Counter)
    bytes: Counter[How] = field(default_factory=Counter)

    def add(self, how: How, size: int) -> None:
        self.files[how] += 1
        self.bytes[how] += size


class _Writing(NamedTuple):
    """Of one call of :meth:`Fetcher.fetch`."""

    intent: str
    anew: bool


class Fetcher:
    """Fetches from ``supply`` into the blobs of one local store. ``patience`` is in seconds without progress."""

    def __init__(self, blobs: Blobs, supply: Supply, *, patience: float | None = None) -> None:
        if blobs.local is None:
            raise InvalidInput(f"{blobs.backend.name} is no local store")
        self._blobs = blobs
        self._local: SupportsLocalFiles = blobs.local
        self._supply = supply
        self._patience = patience
        self._stopped = False

    def fetch(self, entries: Iterable[Entry], intent: str, *, anew: bool = False) -> FetchReport:
        """Have the bytes of all ``entries`` here. Those of other digests go on if one fails; then its error is
        raised, and what was complete stays for the next time.

        Blobs are written for ``intent``, which must be announced where anybody collects; with ``anew``, also
        those that are there.
        """
        writing = _Writing(intent, anew)
        report = FetchReport()
        wanted = {entry.digest: entry for entry in entries}
        missing = []
        for entry in wanted.values():
            if self._will_do(entry.digest, entry.size, writing):
                report.add(How.HELD, entry.size)
            else:
                missing.append(entry)
        self._check_space(missing)
        # The largest first, so that the last one to end is not one that has just begun.
        missing.sort(key=lambda entry: -entry.size)
        with ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="cas-fetch") as pool:
            results = [(entry, pool.submit(self._fetch, entry, writing)) for entry in missing]
            try:
                for entry, result in results:
                    report.add(result.result(), entry.size)
            except BaseException as error:
                if not isinstance(error, Exception):
                    self._stopped = True  # Ctrl-C: the others stop at their next piece, which they have recorded
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return report

    def _fetch(self, entry: Entry, writing: _Writing) -> How:
        check_way(self._blobs.backend.name, str(self._downloads))
        with exclusive(self._downloads / f"{entry.digest.algorithm}-{entry.digest.hex}.lock"):
            if self._will_do(entry.digest, entry.size, writing):
                return How.HELD
            return self._link(entry, writing) or self._stream(entry, writing)

    def _link(self, entry: Entry, writing: _Writing) -> How | None:
        """From a copy on this machine, if there is one, and it is what it claims to be."""
        algorithms = self._supply.algorithms(entry)
        # Two stores never share a file: what befalls one copy must not befall the other.
        take = stage_file if self._supply.is_stored(entry) else share_file
        for path in self._supply.copies(entry):
            try:
                shared = take(path, self._local.scratch.file(), algorithms)
            except (OSError, FileChanged, InvalidInput) as error:
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                _logger.info("%s is not used: %s", path, error)
                continue
            with shared.owned():
                if shared.digests.get(entry.digest.algorithm) == entry.digest and shared.size == entry.size:
                    how = How.LINKED if shared.linked else How.COPIED
                    self._publish(entry, shared, writing)
                    return how
            _logger.warning("%s claims to be %s, and is %s; it is not used", path, entry.digest, shared.digest)
        return None

    def _stream(self, entry: Entry, writing: _Writing) -> How:
        try:
            self._stream_once(entry, writing)
        except OriginChanged as first:
            if not self._supply.is_stored(entry):
                raise
            # A store's bytes never change: a bit fell over on the way, or where they are kept.
            try:
                self._stream_once(entry, writing)
            except OriginChanged:
                raise BlobDamaged(f"a blob is damaged where it is stored: {first}") from None
        return How.STREAMED

    def _stream_once(self, entry: Entry, writing: _Writing) -> None:
        journal = Journal(self._directory(entry), entry.digest, entry.size)
        bar = self._supply.progress(os.path.basename(entry.path), entry)
        try:
            with closing(self._supply.open(entry)) as remote, closing(bar):
                patience = Patience(self._patience)

                def advance(count: int) -> None:
                    if self._stopped:
                        raise CasError(f"fetching {remote.name} was stopped; it can be gone on with")
                    bar.update(count)

                try:
                    digests = stream(
                        remote,
                        journal,
                        entry.digest,
                        algorithms=self._supply.algorithms(entry),
                        advance=advance,
                        patience=patience,
                    )
                except OriginChanged:
                    journal.discard()
                    raise
        finally:
            journal.close()
        self._publish(entry, Ingested(entry.size, digests, journal.data), writing)
        journal.discard()

    def _publish(self, entry: Entry, ingested: Ingested, writing: _Writing) -> None:
        """Blob first, then alias. Bytes that were logged from a file before are here under their blake3: then
        only the alias is new."""
        assert ingested.temporary is not None
        blake3 = ingested.digests.get("blake3", entry.digest)
        if blake3 != entry.digest and self._will_do(blake3, entry.size, writing):
            remove([ingested.temporary])
            self._blobs.add_alias(entry.digest, writing.intent, blake3)
            return
        self._local.publish([(ingested.temporary, blob_key(entry.digest, writing.intent))])
        for digest in ingested.digests.values():
            if digest != entry.digest:
                self._blobs.add_alias(digest, writing.intent, entry.digest)

    def _will_do(self, digest: Digest, size: int, writing: _Writing) -> bool:
        """Whether there is a blob already that need not be brought."""
        return not writing.anew and self._blobs.is_held(digest, size)

    def _directory(self, entry: Entry) -> Path:
        """Of the unfinished download; each user's own, since another user's might change under us."""
        name = f"{os.geteuid()}-{entry.digest.algorithm}-{entry.digest.hex}"
        return self._downloads / name

    @property
    def _downloads(self) -> Path:
        return self._local.scratch.parent / "downloads"

    def _check_space(self, entries: Sequence[Entry]) -> None:
        """Say so before hours are spent: what is already here of unfinished downloads is not asked for again."""
        far = [entry for entry in entries if not self._supply.copies(entry)]
        needed = sum(entry.size - _allocated(self._directory(entry) / "data") for entry in far)
        if far and needed > (free := shutil.disk_usage(self._local.path("")).free):
            raise OSError(
                errno.ENOSPC,
                f"{needed} bytes are to be fetched, and {free} are free at {self._blobs.backend.name}",
            )


def _allocated(path: Path) -> int:
    try:
        return os.lstat(path).st_blocks * 512
    except OSError:
        return 0
