"""Small helpers to make trees, and to look at those in repositories."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cas.digest import digest_of
from cas.keys import fragment_key
from cas.ulid import new_ulid

MEGABYTE = 1 << 20


def pattern(size: int, seed: int = 0) -> bytes:
    """``size`` bytes in which no two places look alike, different for different seeds."""
    return hashlib.shake_128(seed.to_bytes(8, "big")).digest(size)


def write_tree(directory: Path, files: Mapping[str, bytes]) -> Path:
    for path, content in files.items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return directory


def read_tree(directory: Path) -> dict[str, bytes]:
    return {
        file.relative_to(directory).as_posix(): file.read_bytes()
        for file in sorted(directory.rglob("*"))
        if file.is_file()
    }


def plant_record(store: Path, run: str, path: str, data: bytes) -> Path:
    """A fragment that says anything of ``path``, as whoever may write to the store's directory could make one."""
    intent = new_ulid()
    row = {"path": path, "size": len(data), "digest": str(digest_of(data)), "inline": 0}
    header = json.dumps({"intent": intent, "puts": [row], "removed": []}).encode()
    record = store / fragment_key(run, intent)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_bytes(b"cas-fragment 1 %d %s\n" % (len(header), digest_of(header).hex.encode()) + header + data)
    return record


def log_tree(repository: Any, files: Mapping[str, bytes], artifact_path: str | None = None) -> None:
    """Log files as one directory."""
    repository.log_artifacts(str(write_tree(Path(tempfile.mkdtemp()), files)), artifact_path)


def names(repository: Any, path: str | None = None) -> list[str]:
    """What lies directly in a directory."""
    return [info.path for info in repository.list_artifacts(path)]


def every_file(repository: Any, path: str | None = None) -> list[str]:
    """All files at or below a path, sorted."""
    found: list[str] = []
    for info in repository.list_artifacts(path):
        found += every_file(repository, info.path) if info.is_dir else [info.path]
    return sorted(found)


def content(repository: Any, path: str) -> bytes:
    """The bytes of one file."""
    return Path(repository.download_artifacts(path, tempfile.mkdtemp())).read_bytes()
