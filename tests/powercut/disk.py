"""The disk of the machine, and the file system on it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from pathlib import Path

from tests.powercut.flakey import Flakey

MAKERS = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-E", "nodiscard"),
    "xfs": ("mkfs.xfs", "-q", "-f", "-K"),
    "btrfs": ("mkfs.btrfs", "-q", "-f", "-K"),
}
_EAGER = {"ext4": "commit=1", "btrfs": "commit=1"}
_libc = ctypes.CDLL(None, use_errno=True)


class Disk:
    """A file system on a disk that can be cut off."""

    directory = Path("/mnt")

    def __init__(self, backing: str, file_system: str) -> None:
        self._device = Flakey(backing)
        self._type = file_system
        self._options = ""
        self._mounted = False
        self.directory.mkdir(exist_ok=True)

    def make(self, *, eager: bool) -> None:
        """An empty file system. ``eager``: the kernel writes back by itself all the time, in its own order."""
        if self._mounted:
            unmount(self.directory)
        subprocess.run([*MAKERS[self._type], self._device.path], check=True)
        self._options = _EAGER.get(self._type, "") if eager else ""
        for name in ("dirty_expire_centisecs", "dirty_writeback_centisecs"):
            Path("/proc/sys/vm", name).write_text("5" if eager else "3000", encoding="ascii")
        self._mount()

    def arm(self) -> None:
        self._device.arm()

    def cut(self) -> None:
        self._device.cut()

    def revive(self) -> None:
        """As after a power cut: what was in memory is gone, the disk works again, the journal is replayed."""
        unmount(self.directory)  # what this writes is lost
        self._mounted = False
        self._device.restore()
        Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")
        self._mount()

    def _mount(self) -> None:
        mount(self._device.path, self.directory, self._type, self._options)
        self._mounted = True


def mount(source: str, target: Path, file_system: str, options: str = "") -> None:
    target.mkdir(parents=True, exist_ok=True)
    _check(_libc.mount(source.encode(), bytes(target), file_system.encode(), 0, options.encode()), target)


def unmount(target: Path) -> None:
    for _ in range(50):
        if _libc.umount2(bytes(target), 0) == 0:
            return
        time.sleep(0.1)  # of a process that was killed, the last threads may still be inside a call
    _check(-1, target)


def _check(result: int, path: Path) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(path))
