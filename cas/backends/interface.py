"""What a store asks of the place it is kept in.

Only what object stores can do: no rename, no lock, no append. A backend knows keys and bytes; digests,
manifests and protocols are the business of the layers above. :class:`cas.testing.BackendContract` is the
conformance suite.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from cas.scratch import Scratch
from cas.sources import Remote


class Listing(NamedTuple):
    """One key of a listing and the size of its object in bytes."""

    key: str
    size: int


class Unfinished(NamedTuple):
    """An upload by parts that was neither completed nor aborted, begun at ``started`` seconds since 1970."""

    key: str
    upload_id: str
    started: float


class Backend(Protocol):
    """Objects by key. Every method may be called from many threads and processes at once.

    Keys are relative POSIX paths that passed the checks of :mod:`cas.keys`. What a finished ``put`` stored is
    durable, and seen by every later ``read`` and ``list``, from any process.
    """

    @property
    def name(self) -> str:
        """What to call this place in messages: a path or a URL without secrets."""
        ...

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """The bytes from ``start`` on, at most ``length``; shorter only at the end of the object.

        Raises :class:`~cas.errors.KeyNotFound`.
        """
        ...

    def read_into(self, key: str, start: int, buffer: memoryview) -> int:
        """Fill ``buffer`` from ``start`` on; returns how many bytes, fewer only at the end of the object."""
        ...

    def size(self, key: str) -> int:
        """The object's size in bytes. Raises :class:`~cas.errors.KeyNotFound`."""
        ...

    def list(self, prefix: str) -> Iterator[Listing]:
        """Every object whose key starts with ``prefix``, which ends in "/", in no order one may rely on.

        An object that comes or goes meanwhile may be listed or not; one that does neither is listed.
        """
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys that :meth:`list` would give, where sizes may cost extra."""
        ...

    def put(self, key: str, parts: Iterable[bytes], *, create: bool, size: int = 0) -> None:
        """Store the concatenated ``parts``, atomically: readers see all of it or nothing.

        With ``create``, raises :class:`~cas.errors.KeyExists` if the key is taken: of any number of
        concurrent creators exactly one succeeds. Without, replaces what is there. If ``parts`` raises, nothing
        is stored and the error passes through. ``size`` says about how many bytes come, where that is known.
        """
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; a key that is not there is no error."""
        ...


@runtime_checkable
class SupportsRemote(Protocol):
    """A backend whose objects are read with parallel ranges, straight into a file, more cheaply than by
    :meth:`Backend.read_into`."""

    def remote(self, key: str, size: int) -> Remote:
        """The object of ``size`` bytes under ``key``, open for ranged reads."""
        ...


@runtime_checkable
class SupportsSignedUrls(Protocol):
    """A backend whose objects can be given to people who have no credentials for it, one by one and for a while."""

    def signed_url(self, key: str, *, seconds: int, file_name: str, media_type: str) -> str | None:
        """An address from which anybody can get the object under ``key`` for ``seconds``, as a file of this name
        and type; None if these credentials cannot sign. It is a secret."""
        ...


@runtime_checkable
class SupportsCopy(Protocol):
    """A backend that may be able to copy objects without their bytes coming here."""

    def copy_from(self, source: Backend, source_key: str, key: str, size: int, *, etag: str | None = None) -> bool:
        """Store the ``size`` bytes that ``source`` holds under ``source_key`` under ``key``, which nobody else
        writes; False, and nothing was done, if these two places cannot do that: then the bytes have to be read
        and put. With ``etag``, the object must still be the one that was seen with it.

        Raises :class:`~cas.errors.KeyNotFound`, and :class:`~cas.errors.FileChanged` if the source was replaced.
        """
        ...


@runtime_checkable
class SupportsPartUploads(Protocol):
    """A backend that keeps the parts of uploads that were broken off. They are not visible, and cost money."""

    def unfinished(self) -> Iterator[Unfinished]:
        """The uploads below this place that are neither completed nor aborted: also those that go on right now."""
        ...

    def abort(self, key: str, upload_id: str) -> None:
        """Give an upload up, and delete its parts. One that is completed or gone is no error."""
        ...


@runtime_checkable
class SupportsTimes(Protocol):
    """A backend that knows when each object was stored, by its own clock."""

    def modified(self, prefix: str) -> Iterator[tuple[str, float]]:
        """The keys that :meth:`Backend.list` would give, with seconds since 1970."""
        ...


@runtime_checkable
class SupportsLocalFiles(Protocol):
    """A backend whose objects are files of this machine: the extra power behind zero-copy links."""

    @property
    def scratch(self) -> Scratch:
        """This process's private directory on the same file system."""
        ...

    def path(self, key: str) -> Path:
        """Where the file of a key lies, whether it exists or not."""
        ...

    def sync(self) -> None:
        """Make durable whatever is visible now, whoever put it: its writer may be about to."""
        ...

    def publish(self, staged: Sequence[tuple[Path, str]]) -> None:
        """Move finished scratch files to keys nobody else writes, durably, in one go.

        When it returns, all are visible, read-only and safe from a power cut; if it raises, some may be visible
        whole, and the scratch files left over are gone.
        """
        ...

    def settle(self, keys: Sequence[str]) -> None:
        """Make sure that objects which :meth:`publish` made visible, in whatever process, stay so after a power
        cut. Raises FileNotFoundError for one that is gone."""
        ...

    def quarantine(self, key: str) -> None:
        """Move a damaged object out of its key, keeping the bytes. Gone already is no error."""
        ...
