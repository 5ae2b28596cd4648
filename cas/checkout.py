"""Writing entries out as files of a directory, by link where that is safe.

Two kinds of place: one the user named gets files of its own, which anybody may write to; a disposable one gets
links to the store. Small files are always copied: MLflow rewrites some of them in place after a download.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self

from cas.atomic import write_all
from cas.errors import DestinationExists, InvalidInput
from cas.links import DISPOSABLE, OWN, Mode, place
from cas.paths import check_path, join, relative_to

LINK_FROM = 1 << 20
"""Files below this size in bytes are copied wherever they go."""
_READ = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class CheckoutReport:
    """Where the files went, and how many files and bytes got there by which mode."""

    destination: Path
    files: Counter[Mode] = field(default_factory=Counter)
    bytes: Counter[Mode] = field(default_factory=Counter)


def link_modes(*, disposable: bool, override: str | None = None) -> tuple[Mode, ...]:
    """The modes to try, in order. ``override`` names one mode, or several separated by commas; copy comes last."""
    if not override:
        return DISPOSABLE if disposable else OWN
    try:
        chosen = tuple(Mode(word.strip()) for word in override.split(","))
    except ValueError as error:
        raise InvalidInput(f"unknown link mode: {error}; known: {', '.join(Mode)} (from CAS_LINK?)") from None
    return (*(mode for mode in chosen if mode is not Mode.COPY), Mode.COPY)


class Checkout:
    """Writes files below ``destination``, which is made if it is missing, and nowhere else.

    An existing file of the same name is replaced, as MLflow's downloads do, by a new file: nothing is written
    through a link that lies there. Two entries that the file system takes for one name (it may fold case, or
    Unicode forms) are an error, not a loss. Use as a context manager.
    """

    def __init__(self, destination: Path, modes: tuple[Mode, ...]) -> None:
        self.report = CheckoutReport(destination)
        self._modes = modes
        self._chain: list[_Directory] = []

    def __enter__(self) -> Self:
        try:
            os.makedirs(self.report.destination, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise DestinationExists(f"{self.report.destination} is, or lies below, what is no directory") from None
        # The user's own path to the destination may lead through links; below it, none is followed.
        self._chain.append(_Directory("", os.open(self.report.destination, _DIRECTORY & ~os.O_NOFOLLOW)))
        return self

    def __exit__(self, *_: object) -> None:
        while self._chain:
            os.close(self._chain.pop().descriptor)

    def link(self, path: str, source: Path, size: int) -> Mode:
        """Place the file ``source`` of the store at ``path``."""
        modes = self._modes if size >= LINK_FROM else (Mode.COPY,)

        def make(temporary: str, directory: int) -> Mode:
            return place(source, temporary, modes, directory=directory)

        return self._replace(path, size, make)

    def write(self, path: str, file: BinaryIO, size: int) -> Mode:
        """Write the bytes of ``file`` to ``path``."""

        def make(temporary: str, directory: int) -> Mode:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(temporary, flags, 0o666, dir_fd=directory)
            try:
                while chunk := file.read(_READ):
                    write_all(descriptor, chunk)
            finally:
                os.close(descriptor)
            return Mode.COPY

        return self._replace(path, size, make)

    def write_bytes(self, path: str, data: bytes) -> Mode:
        """Write ``data`` to ``path``."""
        return self.write(path, io.BytesIO(data), len(data))

    def _replace(self, path: str, size: int, make: Callable[[str, int], Mode]) -> Mode:
        """Make a new file beside its place, then give it the name."""
        parent, _, name = check_path(path).rpartition("/")
        directory = self._directory(parent)
        if name not in directory.names and _exists(name, directory.descriptor) and directory.lacks(name):
            raise DestinationExists(
                f"{path!r} and another file are one name on the file system of {self.report.destination}"
            )
        temporary = f".cas-{os.urandom(8).hex()}"
        try:
            mode = make(temporary, directory.descriptor)
            os.rename(temporary, name, src_dir_fd=directory.descriptor, dst_dir_fd=directory.descriptor)
        except IsADirectoryError:
            raise DestinationExists(f"{self.report.destination / path} is a directory") from None
        finally:
            # Not only after a failure: rename does nothing if both names are links to one file.
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory.descriptor)
        directory.names.add(name)
        self.report.files[mode] += 1
        self.report.bytes[mode] += size
        return mode

    def _directory(self, path: str) -> _Directory:
        """The open directory ``path`` below the destination, made on the way, following no link.

        Entries come sorted, so the directories from the destination to the current one are all that stay open.
        """
        while relative_to(path, self._chain[-1].path) is None:
            os.close(self._chain.pop().descriptor)
        below = relative_to(path, self._chain[-1].path) or ""
        for name in below.split("/") if below else ():
            above = self._chain[-1]
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=above.descriptor)
            try:
                descriptor = os.open(name, _DIRECTORY, dir_fd=above.descriptor)
            except OSError as error:
                where = self.report.destination / join(above.path, name)
                raise DestinationExists(f"{where} is a link, or no directory: {error.strerror}") from error
            self._chain.append(_Directory(join(above.path, name), descriptor))
        return self._chain[-1]


class _Directory:
    """An open directory, and the names known to be in it."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.names = set(os.listdir(descriptor))

    def lacks(self, name: str) -> bool:
        """Look again: another checkout may have made ``name`` since."""
        self.names.update(os.listdir(self.descriptor))
        return name not in self.names


def _exists(name: str, directory: int) -> bool:
    try:
        os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return False
    return True
