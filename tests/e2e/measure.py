"""What lies on the disk, found by looking at it and not by asking the code under test."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_MAPPED_FILE = re.compile(r"^\S+ \S+ \S+ \S+ (?P<inode>[1-9]\d*) +(?P<path>/.*)$", re.MULTILINE)


class Mapped(NamedTuple):
    """A file that is mapped into memory, by the name it was opened with."""

    name: str
    inode: int


def stored_bytes(store: Path) -> int:
    """Bytes of the files of a store, each inode once, without unfinished ones and disposable trees."""
    return bytes_of(_walk(store, without=store / "tmp"))


def disk_usage(*directories: Path) -> int:
    """Bytes of all files below directories, each inode once."""
    return bytes_of(path for directory in directories for path in _walk(directory))


def bytes_of(paths: Iterable[Path]) -> int:
    found = [path.lstat() for path in paths]
    return sum({(status.st_dev, status.st_ino): status.st_size for status in found}.values())


def file_sizes(directory: Path) -> dict[str, int]:
    return {str(path.relative_to(directory)): path.stat().st_size for path in _walk(directory)}


def digests(directory: Path, pattern: str = "*") -> dict[str, str]:
    """SHA-256 of files by their path relative to ``directory``."""
    paths = [path for path in directory.rglob(pattern) if path.is_file()]
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def blob_inodes(store: Path) -> set[int]:
    return {path.stat().st_ino for path in _walk(store / "blobs")}


def mapped_files() -> set[Mapped]:
    """Files mapped by this process."""
    with open("/proc/self/maps", encoding="utf-8") as file:
        return {Mapped(found["path"], int(found["inode"])) for found in _MAPPED_FILE.finditer(file.read())}


def _walk(directory: Path, without: Path | None = None) -> Iterator[Path]:
    for parent, folders, names in os.walk(directory):
        if without is not None and Path(parent) == without:
            folders.clear()
            continue
        yield from (Path(parent, name) for name in names)
