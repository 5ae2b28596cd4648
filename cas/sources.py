"""Sources: where the bytes of an origin can be had again.

An origin is an immutable pointer, such as ``hf://models/org/name@<40-hex commit>/file``; its scheme names the
source. A source is found through the entry-point group ``cas.sources`` (name = scheme, value = a callable that
takes no arguments and returns a :class:`Source`), so a new one is one package and one line.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple, Protocol

from cas.digest import Digest
from cas.errors import InvalidInput

GROUP = "cas.sources"


class OriginStatus(StrEnum):
    """Whether a source still has what an origin promised."""

    OK = "ok"
    GONE = "gone"
    GATED = "gated"
    CHANGED = "changed"


class RemoteFile(NamedTuple):
    """One file of a snapshot. ``size`` is in bytes.

    ``digest`` is what the source promises of a large file; small ones may come without, and are verified by
    :meth:`Source.read` in whatever way the source has.
    """

    path: str
    size: int
    digest: Digest | None
    origin: str


class Snapshot(NamedTuple):
    """All files of one immutable revision. ``name`` is the repository's own, whatever it was asked by."""

    name: str
    commit: str
    files: Sequence[RemoteFile]


class Body(Protocol):
    """The bytes of one range on their way. Not for sharing among threads."""

    def read(self, limit: int, /) -> bytes:
        """Wait for some bytes, at most ``limit``; b"" at the end of the range.

        Raises :class:`~cas.errors.SourceUnavailable` if the connection broke, stalled, or ended early.
        """
        ...

    def close(self) -> None: ...

    def abort(self) -> None:
        """Break a read off that waits in another thread, which then raises. May do nothing."""
        ...


class Remote(Protocol):
    """One file at its source, open for ranged reads by many threads at once."""

    @property
    def name(self) -> str:
        """What to call it in messages: its origin, with no secret."""
        ...

    @property
    def ranged(self) -> bool:
        """Whether ranges that do not start at 0 come at the price of that range. False once the source was seen
        to ignore them; then each range costs all the bytes before it, too."""
        ...

    def open_range(self, start: int, stop: int) -> Body:
        """The bytes from ``start`` up to ``stop``.

        Raises :class:`~cas.errors.SourceUnavailable` for what may pass, any other
        :class:`~cas.errors.SourceError` for what will not.
        """
        ...

    def close(self) -> None: ...


class Progress(Protocol):
    """A progress bar, or what stands for one. Every method may be called from any thread."""

    def update(self, count: int, /) -> object:
        """``count`` more bytes are done."""
        ...

    def close(self) -> object: ...


class Source(Protocol):
    """What resolves and opens origins of one scheme. Every method may be called from any thread."""

    def snapshot(self, name: str, revision: str | None = None) -> Snapshot:
        """Resolve a revision (None: the default one) to a commit, and list its files, downloading none.

        Raises :class:`~cas.errors.OriginGone`, ``OriginGated``, ``OriginMoved``, ``SourceUnavailable``.
        """
        ...

    def read(self, file: RemoteFile) -> bytes:
        """A small file, whole and verified. Raises :class:`~cas.errors.OriginChanged` if it is not as listed."""
        ...

    def open(self, origin: str, digest: Digest, size: int) -> Remote:
        """Open an origin for ranged reads. May touch nothing until the first range is asked for."""
        ...

    def local_copies(self, origin: str, digest: Digest) -> Sequence[Path]:
        """Files of this machine that claim to hold the origin's bytes. They are believed only after hashing."""
        ...

    def check(self, origin: str, digest: Digest, size: int) -> OriginStatus:
        """Ask whether the origin would still give these bytes, without reading them.

        Raises :class:`~cas.errors.SourceUnavailable` if that cannot be found out now.
        """
        ...

    def progress(self, name: str, size: int) -> Progress:
        """A bar for ``size`` bytes, as users of this source know it (and as they switch it off)."""
        ...


def scheme_of(origin: str) -> str:
    scheme, separator, _ = origin.partition("://")
    if not separator or not scheme:
        raise InvalidInput(f"{origin!r} is no origin; one looks like hf://models/org/name@<commit>/file")
    return scheme


def source_of(origin: str) -> Source:
    """The source that an origin belongs to. Raises InvalidInput if no installed package provides one."""
    return source(scheme_of(origin))


@cache
def source(scheme: str) -> Source:
    for each in entry_points(group=GROUP, name=scheme):
        made: Source = each.load()()
        return made
    raise InvalidInput(f"nothing installed here reads {scheme}:// origins; for hf:// install mlflow-cas[hub]")
