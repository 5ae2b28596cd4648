"""A block device that can begin to lose every write, by the kernel's device mapper.

Spoken to by ioctl, not through `dmsetup`: between an acknowledgement and the cut there must be no time for another
log call to sync what this one forgot.
"""

from __future__ import annotations

import fcntl
import os
import struct

_HEADER = struct.Struct("=3I I I I i I I I Q 128s 129s 7x")  # struct dm_ioctl of <linux/dm-ioctl.h>
_TARGET = struct.Struct("=Q Q i I 16s")  # struct dm_target_spec
_CREATE, _SUSPEND_OR_RESUME, _LOAD = 3, 6, 9
_SKIP_LOCKFS = 1 << 10  # else the file system is synced before it is switched


class Flakey:
    """Passes everything on to ``backing``, until it is cut."""

    path = "/dev/dm-0"

    def __init__(self, backing: str) -> None:
        self._backing = backing
        with open(f"/sys/class/block/{os.path.basename(backing)}/size", encoding="ascii") as file:
            self._sectors = int(file.read())
        self._control = os.open("/dev/mapper/control", os.O_RDWR)
        self._ask(_CREATE)
        self.restore()

    def arm(self) -> None:
        """Have the cut ready, so that it takes no time."""
        # Up for 0 seconds, down for an hour; down means: writes succeed, and are lost.
        self._load("flakey", f"{self._backing} 0 0 3600 1 drop_writes")

    def cut(self) -> None:
        """Lose every write that the disk has not completed by now."""
        self._ask(_SUSPEND_OR_RESUME, flags=_SKIP_LOCKFS)

    def restore(self) -> None:
        self._load("linear", f"{self._backing} 0")
        self._ask(_SUSPEND_OR_RESUME, flags=_SKIP_LOCKFS)

    def _load(self, target: str, parameters: str) -> None:
        text = parameters.encode() + b"\0"
        text += b"\0" * (-len(text) % 8)
        spec = _TARGET.pack(0, self._sectors, 0, _TARGET.size + len(text), target.encode())
        self._ask(_LOAD, payload=spec + text, targets=1)

    def _ask(self, command: int, *, flags: int = 0, payload: bytes = b"", targets: int = 0) -> None:
        size = _HEADER.size + len(payload)
        header = _HEADER.pack(4, 0, 0, size, _HEADER.size, targets, 0, flags, 0, 0, 0, b"powercut", b"")
        number = 3 << 30 | _HEADER.size << 16 | 0xFD << 8 | command  # _IOWR(DM_IOCTL, command, struct dm_ioctl)
        fcntl.ioctl(self._control, number, bytearray(header + payload))
