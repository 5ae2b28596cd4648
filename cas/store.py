"""A store: blobs, fragments, intents and condemned lists under one root."""

from __future__ import annotations

import os
import tempfile
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from cas.artifact_root import ArtifactRoot
from cas.atomic import sync_directory
from cas.backends import Backend, LocalBackend, SupportsLocalFiles
from cas.backends.bucket import Bucket
from cas.backends.opening import open_bucket
from cas.backends.probe import probe
from cas.blobs import Blobs
from cas.cache import Cache
from cas.config import cache_limit, cache_path, stat_cache_path
from cas.errors import (
    InvalidInput,
    KeyExists,
    KeyNotFound,
    StoreExists,
    StoreNotFound,
)
from cas.keys import MANIFESTS, OWN_ROOT, SCRATCH, STORE, check_root, parse_fragment_key
from cas.logged import Logged
from cas.roots import SCHEME, locate, parse_uri
from cas.scratch import Scratch
from cas.settings import DEFAULT_INLINE_LIMIT, Settings
from cas.sharing import make_directory
from cas.staging import Staging
from cas.statcache import StatCache
from cas.supply import Origins, StoreSupply, Supply
from cas.writer import Writer

_ROOTS_KEPT = 256


class Store:
    """Blobs and manifests in one place. Safe to share among threads and, by its format, among processes."""

    def __init__(self, backend: Backend, settings: Settings, scratch: Scratch, stat_cache: StatCache) -> None:
        self.backend = backend
        self.settings = settings
        self.blobs = Blobs(backend)
        self.scratch = scratch
        self._stat_cache = stat_cache
        self._roots: OrderedDict[str, ArtifactRoot] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def create(
        cls,
        root: Path | str | Bucket | Backend,
        *,
        inline_limit: int = DEFAULT_INLINE_LIMIT,
        aliases: tuple[str, ...] = (),
    ) -> Self:
        """Make an empty store at a directory (made if missing), a URI of :mod:`cas.roots`, or in a backend, and
        open it.

        Files up to ``inline_limit`` bytes live inside the manifest's records. ``aliases=("sha256",)`` lets every
        blob be found by its sha256, too, at the price of computing it. Raises :class:`StoreExists`; a directory
        that holds something else is refused as :class:`InvalidInput`, and so is a place that does not do what
        the store relies on (:func:`cas.backends.probe.probe`).
        """
        settings = Settings(str(uuid.uuid4()), inline_limit, aliases)
        settings.check()
        backend = _backend(root)
        if isinstance(backend, LocalBackend):
            _prepare_directory(backend.root)
        else:
            probe(backend)
        try:
            backend.put(STORE, [settings.encode()], create=True)
        except KeyExists:
            if backend.read(STORE) == settings.encode():
                return cls.open(backend)  # the answer was lost, and the put tried again
            raise StoreExists(f"there is a store at {backend.name} already") from None
        return cls.open(backend)

    @classmethod
    def open(cls, root: Path | str | Bucket | Backend) -> Self:
        """Open the store at a directory, a URI of :mod:`cas.roots`, or in a backend.

        Raises :class:`StoreNotFound`, or :class:`UnsupportedFormat` if it is newer than this program.
        """
        backend = _backend(root)
        try:
            settings = Settings.decode(backend.name, backend.read(STORE))
        except KeyNotFound:
            raise StoreNotFound(f"no store at {backend.name}; make one with `cas init {backend.name}`") from None
        scratch = backend.scratch if isinstance(backend, SupportsLocalFiles) else _scratch_of_user()
        return cls(backend, settings, scratch, StatCache(stat_cache_path()))

    @property
    def _algorithms(self) -> tuple[str, ...]:
        return ("blake3", *self.settings.aliases)

    @property
    def name(self) -> str:
        return self.backend.name

    @property
    def uri(self) -> str:
        """What MLflow may call it."""
        return f"{SCHEME}://{self.name}" if self.blobs.local is not None else self.name

    @property
    def cache(self) -> Cache:
        """Where bytes are fetched to, to be read, that are not files of this store."""
        return Cache(cache_path(), cache_limit())

    @property
    def supply(self) -> Supply:
        """Where the bytes of this store's entries can be fetched from."""
        return StoreSupply(self.blobs) if self.blobs.local is None else Origins()

    @property
    def trees(self) -> Scratch:
        """Where disposable trees go: beside the files they will be links to."""
        return self.scratch if self.blobs.local is not None else self.cache.scratch

    def artifact_root(self, path: str = OWN_ROOT) -> ArtifactRoot:
        """The artifact root at ``path``, such as ``7/<run id>/artifacts``; it exists once something is logged."""
        check_root(path)
        with self._lock:
            root = self._roots.pop(path, None) or ArtifactRoot(self, path)
            self._roots[path] = root
            while len(self._roots) > _ROOTS_KEPT:
                self._roots.popitem(last=False)
        return root

    def artifact_roots(self, below: str = "") -> Iterator[ArtifactRoot]:
        """Every artifact root, at or below a path of the store, something was ever logged into; sorted."""
        prefix = f"{MANIFESTS}{below}/" if below else MANIFESTS
        for path in sorted({parse_fragment_key(key)[0] for key in self.backend.keys(prefix)}):
            # Not kept: a walk over a large store must not hold all its manifests in memory.
            yield ArtifactRoot(self, path)

    def roots_at(self, path: str) -> Iterator[tuple[ArtifactRoot, str]]:
        """The artifact roots at or below a path, and what of them; for a path inside one root, that root."""
        root, inside = locate(path)
        yield self.artifact_root(root), inside
        if root == OWN_ROOT:
            yield from ((each, "") for each in self.artifact_roots(path) if each.path != OWN_ROOT)

    def staging(self) -> Staging:
        """A private file of this store to write bytes to, for :meth:`ArtifactRoot.ingest_staged`."""
        return Staging(self.scratch.file(), self._algorithms)

    def writer(self, root: str, intent: str) -> Writer:
        """A log call into an artifact root; see :class:`cas.writer.Writer`."""
        return Writer(
            self.blobs,
            root,
            intent,
            inline_limit=self.settings.inline_limit,
            scratch=self.scratch,
            stat_cache=self._stat_cache,
            algorithms=self._algorithms,
            logged=Logged.of(self.cache) if self.blobs.local is None else None,
        )


def _backend(root: Path | str | Bucket | Backend) -> Backend:
    if isinstance(root, str):
        root = parse_uri(root)
    if isinstance(root, Path):
        return LocalBackend(root.absolute())
    return open_bucket(root) if isinstance(root, Bucket) else root


def _prepare_directory(root: Path) -> None:
    missing = [each for each in (root, *root.parents) if not each.exists()]
    root.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync_directory(each.parent)  # a store must not be gone after a power cut with what was logged into it
    names = set(os.listdir(root))
    if STORE in names:
        raise StoreExists(f"there is a store at {root} already")
    if names - {SCRATCH.rstrip("/")}:
        raise InvalidInput(f"{root} is not empty, and not a store; choose a directory of its own for the store")
    make_directory(root / SCRATCH)


def _scratch_of_user() -> Scratch:
    """Unfinished files for stores that are not on this machine's disks."""
    parent = Path(tempfile.gettempdir()) / f"mlflow-cas-{os.getuid()}"
    parent.mkdir(mode=0o700, exist_ok=True)
    if parent.stat(follow_symlinks=False).st_uid != os.getuid():
        raise InvalidInput(f"{parent} belongs to another user; set TMPDIR to a directory of your own")
    return Scratch(parent)
