"""QEMU, without hardware help: any machine can run it, and nothing it does reaches this one's disks."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.powercut.image import INSTALL, Image

_DISK = 512 << 20
_MEMORY = "768M"


def run(image: Image, directory: Path, arguments: Sequence[str], timeout: float) -> Iterator[str]:
    """What the machine says, line by line, until it is off. Its console goes to a file in ``directory``."""
    program = shutil.which("qemu-system-x86_64")
    if program is None:
        sys.exit(f"powercut: qemu-system-x86_64 is not installed; as root: {INSTALL}")
    disk = directory / "disk"
    with disk.open("wb") as file:
        file.truncate(_DISK)
    command = [
        *(program, "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", _MEMORY),
        *("-nodefaults", "-display", "none", "-no-reboot", "-net", "none"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
        *("-append", " ".join(("console=ttyS0 panic=-1 loglevel=4 mitigations=off --", *arguments))),
        # The machine is not cut off itself, so this one's disks need not hear of its syncs.
        *("-drive", f"file={disk},if=virtio,format=raw,cache=unsafe"),
        *("-serial", f"file:{directory / 'console.log'}", "-serial", "stdio"),
    ]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                yield line.strip()
            if process.wait() != 0:
                print(f"powercut: QEMU ended with {process.returncode} (-9: it was killed)", file=sys.stderr)
        finally:
            timer.cancel()
            process.kill()
            disk.unlink()
