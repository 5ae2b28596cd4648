"""One artifact root: what is logged into it, listed, opened, checked out and removed."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cas.checkout import Checkout, CheckoutReport, link_modes
from cas.config import link_override
from cas.digest import Buffer, digest_of
from cas.errors import BlobDamaged, BlobNotFound, CasError, InvalidInput, KeyNotFound, PathNotFound
from cas.fragment import State
from cas.history import History
from cas.ingest import Ingested
from cas.links import Mode
from cas.manifest import Entry, Listed, Manifest
from cas.paths import join, relative_to
from cas.writer import Writer

if TYPE_CHECKING:
    from cas.store import Store

_logger = logging.getLogger(__name__)


class ArtifactRoot:
    """The files of one run, model or trace (or, at "", of the store itself).

    Each ``ingest_…`` is one log call: it returns when everything is durable, and what it logs becomes visible at
    once or not at all. Safe to share among threads.
    """

    def __init__(self, store: Store, path: str) -> None:
        self.store = store
        self.path = path
        self._history = History(store.backend, path)

    def __repr__(self) -> str:
        return f"<ArtifactRoot {self.path!r} of {self.store.name}>"

    # Writing

    def ingest_file(self, source: Path | str, path: str) -> None:
        """Log one file at ``path``."""
        source = Path(source)
        self._log([path], lambda writer: writer.put_file(path, source))

    def ingest_bytes(self, data: bytes, path: str) -> None:
        """Log ``data`` as a file at ``path``."""
        self._log([path], lambda writer: writer.put_bytes(path, data))

    def ingest_stream(self, chunks: Iterable[Buffer], path: str) -> None:
        """Log what ``chunks`` yields as a file at ``path``. If it raises, nothing is logged."""
        self._log([path], lambda writer: writer.put_stream(path, chunks))

    def ingest_staged(self, staged: Ingested, path: str) -> None:
        """Log bytes that :meth:`cas.Store.staging` wrote. If it raises, they are gone."""
        with staged.owned():
            self._log([path], lambda writer: writer.adopt(path, staged))

    def ingest_tree(self, source: Path | str, path: str = "") -> None:
        """Log every file below the directory ``source``, under ``path``. Links are followed."""
        self.ingest_files({join(path, relative): file for relative, file in walk_files(Path(source))})

    def ingest_files(self, files: Mapping[str, Path]) -> None:
        """Log many files, by path, as one log call."""

        def put(writer: Writer) -> None:
            for path, source in files.items():
                writer.put_file(path, source)

        if files:
            self._log(list(files), put)

    def remove(self, path: str = "") -> int:
        """Remove the file, or everything below the directory, ``path``; returns how many files.

        What is not there needs no removing. The bytes stay until they are collected.
        """
        paths = [entry.path for entry in self.manifest().below(path)]

        def put(writer: Writer) -> None:
            for each in paths:
                writer.remove(each)

        if paths:
            self._log((), put)
        return len(paths)

    def check_free(self, path: str) -> None:
        """Raise :class:`PathConflict` if a file at ``path`` would be a directory at once, or lie below a file."""
        self._history.next_intent([path])

    # Reading

    def manifest(self) -> Manifest:
        """What is here now. A manifest never changes; ask again for what came later."""
        return self._history.manifest()

    def list(self, directory: str = "") -> list[Listed]:
        """What lies directly in ``directory``; empty if it is a file or not there."""
        return self.manifest().list(directory)

    def entry(self, path: str) -> Entry:
        """The file at ``path``. Raises :class:`PathNotFound`, also for a directory."""
        entry = self.manifest().get(path)
        if entry is None:
            raise PathNotFound(path, repr(self))
        return entry

    def open(self, path: str) -> BinaryIO:
        """Open the file at ``path`` for reading, with seek."""
        return self.open_entry(self.entry(path))

    def open_entry(self, entry: Entry) -> BinaryIO:
        """Open an entry of this root's manifest. A reference is fetched into this user's cache first.

        What is in an object store, and not in the cache, is read by ranges as it is asked for: nothing else is
        fetched, and nothing is verified, which only whole files can be.
        """
        if entry.inline is not None:
            return io.BytesIO(self._read_inline(entry))
        if self._is_remote and (near := self.store.cache.find(entry)) is not None:
            return near.open("rb")
        try:
            return self.store.blobs.open(entry.digest, entry.size, entry.blob)
        except (BlobNotFound, BlobDamaged):
            path = self._cached(entry)
            if path is None:
                raise
            return path.open("rb")

    def local_path(self, entry: Entry) -> Path | None:
        """The store's own file with an entry's bytes, or the cache's, for reading only; None if there is none.

        A reference, and what is in an object store, is fetched into this user's cache first.
        """
        if entry.inline is not None:
            return None
        if self._is_remote:
            return self._cached(entry)
        try:
            return self.store.blobs.local_path(entry.digest, entry.size, entry.blob)
        except (BlobNotFound, BlobDamaged):
            path = self._cached(entry)
            if path is None:
                raise
            return path

    def is_held(self, entry: Entry) -> bool:
        """Whether the store itself has an entry's bytes, whole. A reference is an entry of which this is false."""
        try:
            return entry.inline is not None or bool(self.store.blobs.find(entry.digest, entry.size, entry.blob))
        except (BlobNotFound, BlobDamaged):
            return False

    def is_near(self, entry: Entry) -> bool:
        """Whether an entry can be read without fetching it first, from its origin or from the object store.

        Also where there is nobody to fetch it from: then reading fails at once.
        """
        if entry.inline is not None:
            return True
        if not self._is_remote and (entry.origin is None or self.is_held(entry)):
            return True
        return (self._is_remote or entry.origin is not None) and self.store.cache.find(entry) is not None

    def checkout(
        self,
        path: str,
        destination: Path | str,
        *,
        disposable: bool = False,
        strip: str = "",
        below: str = "",
    ) -> CheckoutReport:
        """Write the file, or everything below the directory, ``path`` out below ``destination``.

        Names keep their whole path, less the leading directory ``strip``, and lie in the directory ``below`` of the
        destination, which is made, and on the way to which no link is followed. ``disposable`` says that the
        destination is thrown away, and may share its bytes with the store. Raises :class:`PathNotFound`.
        """
        entries = list(self.manifest().below(path))
        if not entries and path:
            raise PathNotFound(path, repr(self))
        # All at once, before the first file is written: they come in parallel, and if one cannot be had, none is.
        self.store.cache.fetch((entry for entry in entries if self._is_far(entry)), self.store.supply)
        modes = link_modes(disposable=disposable, override=link_override())
        with Checkout(Path(destination), modes) as checkout:
            for entry in entries:
                name = relative_to(entry.path, strip)
                if not name:
                    raise InvalidInput(f"{entry.path!r} does not lie below {strip!r}")
                name = join(below, name)
                source = self.local_path(entry)
                if source is not None:
                    checkout.link(name, source, entry.size)
                else:
                    with self.open_entry(entry) as file:
                        checkout.write(name, file, entry.size)
        if not checkout.report.files[Mode.SYMLINK]:
            self.store.cache.release(entry for entry in entries if self._is_far(entry))
        return checkout.report

    # Inside

    def fold(self) -> None:
        """Make one fragment of all there are. Happens by itself; for tests and for the impatient."""
        self._history.fold()

    def state(self) -> tuple[State, str]:
        """Every record, of removed paths too, and the name of the latest fragment: what a mirror takes over."""
        return self._history.state()

    @contextmanager
    def log_call(self, paths: Iterable[str] = (), *, after: str = "") -> Iterator[Writer]:
        """A log call by hand, into which ``paths`` will be put: the block commits it, or leaves nothing.

        It is later than everything visible here, and than the stamp ``after``.
        """
        with self.store.writer(self.path, self._history.next_intent(paths, after)) as writer:
            yield writer
        try:
            self._history.tidy(writer.intent)
        except (CasError, OSError) as error:
            # What was logged is committed: a fold that fails must not make it look as if it were not.
            _logger.warning("folding the fragments of %r failed; the next log call will try: %s", self, error)

    @property
    def _is_remote(self) -> bool:
        return self.store.blobs.local is None

    def _is_far(self, entry: Entry) -> bool:
        """Whether an entry has to be in the cache to be checked out."""
        if entry.inline is not None:
            return False
        return self._is_remote or (entry.origin is not None and not self.is_held(entry))

    def _cached(self, entry: Entry) -> Path | None:
        """The cache's file with the bytes of an entry, fetched unless it has them; None if nobody can be asked."""
        if entry.origin is None and not self._is_remote:
            return None
        cache = self.store.cache
        path = cache.find(entry)
        if path is None:
            cache.fetch([entry], self.store.supply)
            path = cache.find(entry)
        return path

    def _log(self, paths: Iterable[str], put: Callable[[Writer], None]) -> None:
        with self.log_call(paths) as writer:
            put(writer)
            writer.commit()

    def _read_inline(self, entry: Entry) -> bytes:
        """The bytes of a small file, from wherever a fold may have moved them since."""
        assert entry.inline is not None
        try:
            data = self.store.backend.read(entry.inline.fragment, entry.inline.offset, entry.size)
        except KeyNotFound:
            now = self.manifest().get(entry.path)
            if now is None or now.digest != entry.digest or now == entry or now.inline is None:
                raise BlobNotFound(f"{entry.path!r} of {self!r} was removed or replaced meanwhile") from None
            return self._read_inline(now)
        if digest_of(data) != entry.digest:
            raise BlobDamaged(f"{entry.path!r} in {entry.inline.fragment} of {self.store.name} is damaged")
        return data


def walk_files(source: Path) -> Iterator[tuple[str, Path]]:
    """Every file below a directory with its path relative to it, sorted, through links, each directory once on
    the way down: a link that leads back up ends there."""

    def walk(directory: Path, relative: str, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, Path]]:
        with os.scandir(directory) as found:
            names = sorted(found, key=lambda each: each.name)
        for each in names:
            name = join(relative, each.name)
            if not each.is_dir():
                yield name, Path(each.path)
                continue
            status = os.stat(each.path)
            if (status.st_dev, status.st_ino) not in above:
                yield from walk(Path(each.path), name, above | {(status.st_dev, status.st_ino)})

    if not source.is_dir():
        raise InvalidInput(f"not a directory: {source}")
    status = source.stat()
    return walk(source, "", frozenset({(status.st_dev, status.st_ino)}))
