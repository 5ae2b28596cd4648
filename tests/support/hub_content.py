"""The content of emulated Hub repositories, and its description in the Hub's JSON.

Commits are immutable: a file is copied into the store when it is added, so editing the directory it came
from, or adding that directory again, leaves every earlier commit as it was.
"""

from __future__ import annotations

import hashlib
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

LFS_THRESHOLD = 10 * 1000 * 1000
CHUNK = 256 * 1024
MAIN = "main"


@dataclass(frozen=True)
class StoredFile:
    """A file of a commit. ``stored`` is the hub's own copy, named by its SHA-256."""

    path: str
    size: int
    sha256: str
    git_oid: str
    stored: Path

    @property
    def is_lfs(self) -> bool:
        """Whether the bytes are served by the CDN instead of the Hub."""
        return self.path.endswith(".safetensors") or self.size > LFS_THRESHOLD

    @property
    def pointer(self) -> bytes:
        """What git holds in place of an LFS file."""
        version = "https://git-lfs.github.com/spec/v1"
        return f"version {version}\noid sha256:{self.sha256}\nsize {self.size}\n".encode()

    @property
    def blob_id(self) -> str:
        """The git object id, which for an LFS file is that of its pointer."""
        return _git_oid(self.pointer) if self.is_lfs else self.git_oid


def store_file(source: Path, path: str, store: Path) -> StoredFile:
    """Copy ``source`` into ``store``, to be served as ``path``."""
    size = source.stat().st_size
    sha256, sha1 = hashlib.sha256(), hashlib.sha1(_git_header(size))
    for chunk in read(source, 0, size):
        sha256.update(chunk)
        sha1.update(chunk)
    stored = store / sha256.hexdigest()
    if not stored.exists():
        shutil.copyfile(source, stored)
    return StoredFile(path, size, sha256.hexdigest(), sha1.hexdigest(), stored)


@dataclass(frozen=True)
class Commit:
    """An immutable set of files."""

    sha: str
    files: Mapping[str, StoredFile]


@dataclass
class Repo:
    """A repository: every commit ever added, and the one ``main`` points to."""

    repo_id: str
    commits: dict[str, Commit] = field(default_factory=dict)
    main: str | None = None

    def add(self, files: list[StoredFile]) -> Commit:
        """Commit these files and move ``main`` there.

        The commit id depends on the repository's name and content only. The name takes part because no
        two real repositories share a commit, whatever their content.
        """
        listing = "".join(f"{file.path}\0{file.sha256}\n" for file in files)
        sha = hashlib.sha1(f"{self.repo_id}\n{listing}".encode()).hexdigest()
        self.commits[sha] = Commit(sha, {file.path: file for file in files})
        self.main = sha
        return self.commits[sha]

    def find(self, revision: str) -> Commit | None:
        """The commit that ``main`` or a full commit id stands for."""
        sha = self.main if revision == MAIN else revision
        return self.commits.get(sha) if sha else None


def model_info(repo_id: str, commit: Commit, *, blobs: bool, gated: bool = False) -> dict[str, Any]:
    """What ``/api/models/{repo}`` says; ``blobs`` adds the size and digest of each file."""

    def sibling(file: StoredFile) -> dict[str, Any]:
        entry: dict[str, Any] = {"rfilename": file.path}
        if blobs:
            entry |= {"size": file.size, "blobId": file.blob_id}
        if blobs and file.is_lfs:
            entry["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": len(file.pointer)}
        return entry

    return {
        "_id": hashlib.sha1(repo_id.encode()).hexdigest()[:24],
        "id": repo_id,
        "modelId": repo_id,
        "author": repo_id.partition("/")[0],
        "sha": commit.sha,
        "lastModified": "2026-01-01T00:00:00.000Z",
        "private": False,
        "gated": "manual" if gated else False,
        "disabled": False,
        "tags": ["transformers"],
        "pipeline_tag": "text-generation",
        "library_name": "transformers",
        "downloads": 0,
        "likes": 0,
        "siblings": [sibling(file) for file in commit.files.values()],
    }


def tree(commit: Commit, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    """The files and folders below ``folder``, in order; empty if there is no such folder."""
    root = PurePosixPath(folder)
    entries: dict[str, dict[str, Any]] = {}
    for file in commit.files.values():
        path = PurePosixPath(file.path)
        if root not in path.parents:
            continue
        for parent in path.parents:
            if root in parent.parents and (recursive or parent.parent == root):
                entries[str(parent)] = _folder_entry(commit, str(parent))
        if recursive or path.parent == root:
            entries[file.path] = _file_entry(file)
    return [entries[path] for path in sorted(entries)]


def _folder_entry(commit: Commit, path: str) -> dict[str, Any]:
    oid = hashlib.sha1(f"{commit.sha}/{path}".encode()).hexdigest()
    return {"type": "directory", "oid": oid, "size": 0, "path": path}


def _file_entry(file: StoredFile) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "oid": file.blob_id, "size": file.size, "path": file.path}
    if file.is_lfs:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": len(file.pointer)}
    return entry


@dataclass(frozen=True)
class FileRange:
    """The bytes of a file from ``start`` up to ``stop``, for the kernel to send, or to be looked at in pieces."""

    path: Path
    start: int
    stop: int

    def __iter__(self) -> Iterator[bytes]:
        return read(self.path, self.start, self.stop)

    def send(self, connection: socket.socket) -> int:
        with self.path.open("rb") as file:
            return connection.sendfile(file, self.start, self.stop - self.start) if self.stop > self.start else 0


def read(path: Path, start: int, stop: int) -> Iterator[bytes]:
    """The bytes from ``start`` up to ``stop``, in pieces, so that large files never sit in memory."""
    with path.open("rb") as stream:
        stream.seek(start)
        while chunk := stream.read(min(CHUNK, stop - stream.tell())):
            yield chunk


def _git_header(size: int) -> bytes:
    return f"blob {size}\0".encode()


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(_git_header(len(content)) + content).hexdigest()
