"""A source that is a directory, for processes that have no Hub: `directory://<file>`.

It is found as any source is, by an entry point: :data:`METADATA` is what has to be on the path of Python.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cas.backends import LocalBackend
from cas.backends.remote import RangedRemote
from cas.digest import Digest
from cas.errors import OriginGone
from cas.sources import OriginStatus, RemoteFile, Snapshot
from cas.supply import Quiet

SCHEME = "directory"
METADATA = {
    "origin-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: origin\nVersion: 1\n",
    "origin-1.dist-info/entry_points.txt": f"[cas.sources]\n{SCHEME} = {__name__}:DirectorySource\n",
}


def install(packages: Path) -> None:
    """Make ``packages`` a directory in which Python finds the entry point."""
    for path, text in METADATA.items():
        (packages / path).parent.mkdir(parents=True, exist_ok=True)
        (packages / path).write_text(text)


def directory() -> Path:
    """Where the files are."""
    return Path(os.environ.get("CAS_TEST_ORIGIN", "/tmp/origin"))


class DirectorySource:
    """Implements :class:`cas.sources.Source`, as far as persisting asks for it."""

    def snapshot(self, name: str, revision: str | None = None) -> Snapshot:
        raise OriginGone(f"{name}@{revision} is no repository")

    def read(self, file: RemoteFile) -> bytes:
        return _file(file.origin).read_bytes()

    def open(self, origin: str, digest: Digest, size: int) -> RangedRemote:
        return RangedRemote(LocalBackend(directory()), _file(origin).name, origin)

    def local_copies(self, origin: str, digest: Digest) -> Sequence[Path]:
        """None, so that everything is streamed."""
        return ()

    def check(self, origin: str, digest: Digest, size: int) -> OriginStatus:
        return OriginStatus.OK if _file(origin).exists() else OriginStatus.GONE

    def progress(self, name: str, size: int) -> Quiet:
        return Quiet()


def _file(origin: str) -> Path:
    return directory() / origin.removeprefix(f"{SCHEME}://")
