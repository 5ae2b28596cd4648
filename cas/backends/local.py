"""A store on a local file system: keys are files below one directory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from cas.atomic import Publisher, Staged, remove, sync_directory, sync_file_system, write_private
from cas.backends.interface import Listing
from cas.directories import check_way
from cas.errors import KeyExists, KeyNotFound
from cas.keys import INTENTS, SCRATCH, quarantine_key
from cas.scratch import Scratch
from cas.sharing import make_directory


class LocalBackend:
    """Implements :class:`~cas.backends.interface.Backend`, ``SupportsTimes`` and ``SupportsLocalFiles``.

    Needs of the file system: atomic rename and link, and fsync that means it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._publisher = Publisher(root)
        self.scratch = Scratch(root / SCRATCH.rstrip("/"))

    @property
    def name(self) -> str:
        return str(self.root)

    def path(self, key: str) -> Path:
        """Where the bytes of a key are. Raises :class:`cas.errors.Damaged` if a link lies on the way."""
        root = self.name
        check_way(root, f"{root}/{key}".rpartition("/")[0])
        return self.root / key

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        with os.fdopen(self._open(key), "rb", buffering=0) as file:
            file.seek(start)
            # A record may claim any length: no memory is asked for what is not there.
            there = max(0, os.fstat(file.fileno()).st_size - start)
            return file.read(there if length is None else min(there, length))

    def read_into(self, key: str, start: int, buffer: memoryview) -> int:
        descriptor = self._open(key)
        try:
            done = 0
            while done < len(buffer):
                count = os.preadv(descriptor, [buffer[done:]], start + done)
                if count == 0:
                    break
                done += count
            return done
        finally:
            os.close(descriptor)

    def size(self, key: str) -> int:
        try:
            status = os.stat(self.path(key), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            raise KeyNotFound(key) from None
        if not stat.S_ISREG(status.st_mode):
            raise KeyNotFound(key)
        return status.st_size

    def list(self, prefix: str) -> Iterator[Listing]:
        for key, entry in self._files(prefix):
            with suppress(FileNotFoundError):  # gone since
                yield Listing(key, entry.stat(follow_symlinks=False).st_size)

    def keys(self, prefix: str) -> Iterator[str]:
        return (key for key, _ in self._files(prefix))

    def _files(self, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        names = self._names(prefix)
        if names:  # most of what is asked for is not there
            check_way(self.name, f"{self.name}/{prefix}".rstrip("/"))
        return self._below(prefix, names)

    def _below(self, prefix: str, names: Iterable[os.DirEntry[str]]) -> Iterator[tuple[str, os.DirEntry[str]]]:
        for entry in names:
            if entry.is_dir(follow_symlinks=False):
                below = f"{prefix}{entry.name}/"
                yield from self._below(below, self._names(below))
            elif entry.is_file(follow_symlinks=False):
                yield prefix + entry.name, entry

    def _names(self, prefix: str) -> Sequence[os.DirEntry[str]]:
        try:
            # All names first: a directory that changes during a slow walk would be listed half old, half new.
            # NFS keeps a deleted file that is still open under such a name.
            return [entry for entry in os.scandir(self.root / prefix) if not entry.name.startswith(".nfs")]
        except (FileNotFoundError, NotADirectoryError):
            return ()

    def put(self, key: str, parts: Iterable[bytes], *, create: bool, size: int = 0) -> None:  # noqa: ARG002
        temporary = self.scratch.file()
        write_private(temporary, parts)
        # An intent protects a writer that lives from a collector that runs. After a power cut there is neither,
        # so intents need to be atomic, but not to be synced (docs/decisions/0002).
        durable = not key.startswith(INTENTS)
        try:
            self._publisher.publish(
                [Staged(temporary, self.path(key))], "create" if create else "replace", durable=durable
            )
        except FileExistsError:
            raise KeyExists(key) from None

    def delete(self, keys: Sequence[str]) -> None:
        remove(self.path(key) for key in keys)

    def modified(self, prefix: str) -> Iterator[tuple[str, float]]:
        """By the time of the last change of the inode: that of modification is the seal."""
        for key, entry in self._files(prefix):
            with suppress(FileNotFoundError):
                yield key, entry.stat(follow_symlinks=False).st_ctime

    def sync(self) -> None:
        sync_file_system(self.root)

    def publish(self, staged: Sequence[tuple[Path, str]]) -> None:
        self._publisher.publish([Staged(temporary, self.path(key)) for temporary, key in staged], "unique")

    def settle(self, keys: Sequence[str]) -> None:
        self._publisher.settle([self.path(key) for key in keys])

    def quarantine(self, key: str) -> None:
        target = self.path(quarantine_key(key))
        make_directory(target.parent)
        with suppress(FileNotFoundError):
            os.rename(self.path(key), target)
            sync_directory(target.parent)

    def _open(self, key: str) -> int:
        try:
            descriptor = os.open(self.path(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise KeyNotFound(key) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise KeyNotFound(key)
        return descriptor
