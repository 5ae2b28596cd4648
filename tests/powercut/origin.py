"""A source on the machine's memory disk: `memory://<file>`, which no power cut reaches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cas.backends import LocalBackend
from cas.backends.remote import RangedRemote
from cas.digest import Digest
from cas.errors import OriginGone
from cas.sources import OriginStatus, RemoteFile, Snapshot
from cas.supply import Quiet

DIRECTORY = Path("/tmp/origin")
SCHEME = "memory"


class MemorySource:
    """Implements :class:`cas.sources.Source`, as far as persisting asks for it."""

    def snapshot(self, name: str, revision: str | None = None) -> Snapshot:
        raise OriginGone(f"{name}@{revision} is no repository")

    def read(self, file: RemoteFile) -> bytes:
        return _file(file.origin).read_bytes()

    def open(self, origin: str, digest: Digest, size: int) -> RangedRemote:
        return RangedRemote(LocalBackend(DIRECTORY), _file(origin).name, origin)

    def local_copies(self, origin: str, digest: Digest) -> Sequence[Path]:
        """None, so that everything is streamed."""
        return ()

    def check(self, origin: str, digest: Digest, size: int) -> OriginStatus:
        return OriginStatus.OK if _file(origin).exists() else OriginStatus.GONE

    def progress(self, name: str, size: int) -> Quiet:
        return Quiet()


def _file(origin: str) -> Path:
    return DIRECTORY / origin.removeprefix(f"{SCHEME}://")
