"""A path of a store, as its users see it: one tree, whichever artifact roots its files belong to.

A client that logs directly names a place inside an artifact root; a server that writes for others names the
store, or a directory of it, and reaches many roots below.
"""

from __future__ import annotations

import builtins
import mimetypes
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from cas.artifact_root import ArtifactRoot
from cas.backends import SupportsSignedUrls
from cas.checkout import CheckoutReport
from cas.digest import Buffer
from cas.errors import PathNotFound
from cas.ingest import Ingested
from cas.keys import OWN_ROOT
from cas.manifest import Entry, Listed
from cas.paths import join, relative_to
from cas.roots import find_store, locate, parse_uri
from cas.store import Store


def open_place(uri: str) -> Place:
    """The place a URI names, in the store it lies in. Raises :class:`cas.errors.StoreNotFound`."""
    root, inside = find_store(parse_uri(uri))
    return Place(Store.open(root), inside)


class Place:
    """The files of ``store`` at and below ``base``. All paths are relative to it, "" being itself."""

    def __init__(self, store: Store, base: str = "") -> None:
        self.store = store
        self.base = base

    def ingest_file(self, source: Path, path: str) -> None:
        root, inside = self._locate(path)
        root.ingest_file(source, inside)

    def ingest_bytes(self, data: bytes, path: str) -> None:
        root, inside = self._locate(path)
        root.ingest_bytes(data, inside)

    def ingest_stream(self, chunks: Iterable[Buffer], path: str) -> None:
        root, inside = self._locate(path)
        root.ingest_stream(chunks, inside)

    def ingest_staged(self, staged: Ingested, path: str) -> None:
        with staged.owned():
            root, inside = self._locate(path)
            root.ingest_staged(staged, inside)

    def ingest_files(self, files: Mapping[str, Path]) -> None:
        """Log many files: one log call for each artifact root they belong to, which is nearly always one."""
        by_root: dict[str, dict[str, Path]] = {}
        for path, file in files.items():
            root, inside = locate(join(self.base, path))
            by_root.setdefault(root, {})[inside] = file
        for root, inside_files in by_root.items():
            self.store.artifact_root(root).ingest_files(inside_files)

    def entry(self, path: str) -> Entry | None:
        """The file at ``path``, or None."""
        if not join(self.base, path):
            return None
        root, inside = self._locate(path)
        return root.manifest().get(inside) if inside else None

    def is_directory(self, path: str) -> bool:
        """Whether ``path`` is a directory with files in it; the place itself always is one."""
        return path == "" or bool(self.list(path))

    def list(self, path: str = "") -> list[Listed]:
        """What lies directly in a directory, with paths relative to this place."""
        found: dict[str, Listed] = {}
        for root, inside in self._roots_at(path):
            if inside is not None:
                for name, entry in root.list(inside):
                    seen = self._relative(join(root.path, name))
                    found[seen] = Listed(seen, entry)
            elif len(root.manifest()):
                below = relative_to(root.path, join(self.base, path)) or ""
                seen = join(path, below.split("/")[0])
                found.setdefault(seen, Listed(seen, None))
        return sorted(found.values(), key=lambda listed: listed.path)

    def open(self, path: str) -> BinaryIO:
        root, inside = self._locate(path)
        return root.open(inside)

    def local_path(self, path: str) -> Path | None:
        """The store's own file with the bytes at ``path``, for reading only; None if there is no such file."""
        root, inside = self._locate(path)
        return root.local_path(root.entry(inside))

    def signed_url(self, path: str, seconds: int) -> str | None:
        """An address from which the file at ``path`` can be got without the store's credentials for ``seconds``;
        None where there is none: for small files, references, and stores that are not in a bucket.

        Whoever uses it gets the blob as it lies there, verified by nobody.
        """
        root, inside = self._locate(path)
        entry, backend = root.entry(inside), self.store.backend
        if entry.inline is not None or not isinstance(backend, SupportsSignedUrls) or not root.is_held(entry):
            return None
        key = self.store.blobs.find(entry.digest, entry.size, entry.blob)
        name = path.rpartition("/")[2]
        media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return backend.signed_url(key, seconds=seconds, file_name=name, media_type=media_type)

    def is_near(self, path: str) -> bool:
        """Whether the file at ``path`` can be read without fetching it first. Raises :class:`PathNotFound`."""
        root, inside = self._locate(path)
        return root.is_near(root.entry(inside))

    def checkout(self, path: str, destination: Path, *, disposable: bool) -> builtins.list[CheckoutReport]:
        """Write out the file, or everything below the directory, ``path``; names keep their path from this place.

        Raises :class:`PathNotFound` if nothing is there, except for the place itself.
        """
        reports = []
        for root, inside in self._roots_at(path):
            if any(root.manifest().below(inside or "")):
                strip = relative_to(self.base, root.path)
                below = "" if strip is not None else self._relative(root.path)
                reports.append(
                    root.checkout(inside or "", destination, disposable=disposable, strip=strip or "", below=below)
                )
        if not reports and path:
            raise PathNotFound(path, f"{self.store.name}/{self.base}")
        return reports

    def remove(self, path: str) -> int:
        """Remove the file, or everything below the directory, ``path``; returns how many files."""
        return sum(root.remove(inside or "") for root, inside in self._roots_at(path))

    def _relative(self, path: str) -> str:
        relative = relative_to(path, self.base)
        assert relative is not None
        return relative

    def _locate(self, path: str) -> tuple[ArtifactRoot, str]:
        root, inside = locate(join(self.base, path))
        return self.store.artifact_root(root), inside

    def _roots_at(self, path: str) -> Iterator[tuple[ArtifactRoot, str | None]]:
        """The root a path lies in, with the path inside; for a path above roots, also those, with None."""
        root, inside = self._locate(path)
        yield root, inside
        if root.path == OWN_ROOT:
            for below in self.store.artifact_roots(inside):
                if below.path != OWN_ROOT:
                    yield below, None
