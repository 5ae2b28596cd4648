"""Where benchmarks run: a directory of the user's, and a private XFS on a loop device, which has reflinks."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_XFS_SMALLEST = 1 << 30
_SYNC_FILES_BELOW = 32  # the store's own rule: from here on, one syncfs is cheaper than an fsync for each


@dataclass(frozen=True, slots=True)
class Place:
    directory: Path
    private: bool
    """Nobody else uses this file system, so its free blocks tell what an operation took."""
    reflinks: bool
    name: str

    @property
    def free(self) -> int:
        status = os.statvfs(self.directory)
        return status.f_bavail * status.f_frsize


@contextmanager
def given_directory(parent: Path) -> Iterator[Place]:
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mlflow-cas-bench-", dir=parent) as directory:
        yield Place(Path(directory), private=False, reflinks=_has_reflinks(directory), name=_described(directory))


@contextmanager
def loop_xfs(parent: Path, size: int) -> Iterator[Place]:
    """A new XFS in an image file below ``parent``. Needs root."""
    with tempfile.TemporaryDirectory(prefix="mlflow-cas-xfs-", dir=parent) as temporary:
        image, directory = f"{temporary}/image", f"{temporary}/mounted"
        os.mkdir(directory)
        with open(image, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(size, _XFS_SMALLEST))
        _run("mkfs.xfs", "-q", "-m", "reflink=1", image)
        # Direct: what the loop device is asked to write is not cached a second time below it.
        device = _run("losetup", "--find", "--show", "--direct-io=on", image).strip()
        try:
            _run("mount", device, directory)
            try:
                name = f"{_described(directory)}, in a file on {_described(temporary)}"
                yield Place(Path(directory), private=True, reflinks=True, name=name)
            finally:
                _run("umount", directory)
        finally:
            _run("losetup", "--detach", device)


def why_no_xfs(parent: Path, size: int) -> str | None:
    """What hinders :func:`loop_xfs`, or None."""
    if os.geteuid() != 0:
        return "mounting needs root"
    if not (shutil.which("mkfs.xfs") and shutil.which("losetup")):
        return "mkfs.xfs or losetup is not installed"
    status = os.statvfs(parent)
    if status.f_bavail * status.f_frsize < size * 1.2:
        return f"{size / 1e9:.0f} GB are not free in {parent}"
    return None


def usage(root: Path) -> int:
    """Bytes allocated below ``root``, directories included, each inode once."""
    inodes = {}
    for path in _walk(root):
        status = os.lstat(path)
        inodes[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(inodes.values())


def used(work: Path, *, private: bool) -> int:
    """Bytes in use below ``work``; on a private file system, on all of it, shared extents once."""
    if not private:
        return usage(work)
    os.sync()  # blocks are allocated when they are written out
    status = os.statvfs(work)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def sync_tree(root: Path) -> None:
    """What durable means: every file and directory below ``root``, and the name of ``root`` itself."""
    paths = [path for path in _walk(root) if not os.path.islink(path)]
    if len(paths) < _SYNC_FILES_BELOW:
        for path in (*paths, str(root.parent)):
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        return
    descriptor = os.open(root, os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
        raise OSError(ctypes.get_errno(), "syncfs")
    os.close(descriptor)


def _walk(root: Path) -> Iterator[str]:
    if os.path.lexists(root):
        yield str(root)
    for directory, names, files in os.walk(root):
        yield from (os.path.join(directory, name) for name in (*names, *files))


def _has_reflinks(directory: str) -> bool:
    with tempfile.TemporaryDirectory(dir=directory) as temporary:
        source = Path(temporary) / "source"
        source.write_bytes(b"x")
        clone = ["cp", "--reflink=always", str(source), f"{source}-clone"]
        return subprocess.run(clone, capture_output=True, check=False).returncode == 0


def _described(directory: str) -> str:
    source, kind, options = _run("findmnt", "-no", "SOURCE,FSTYPE,OPTIONS", "--target", directory).split()[:3]
    if kind == "ext4" and not any(Path("/proc/fs/jbd2").glob(f"{Path(source).name}-*")):
        kind = "ext4 without a journal"  # it syncs otherwise, and creates files slowly where many were just deleted
    return f"{kind} ({source}, {options})"


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
