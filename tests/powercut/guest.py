"""What runs in the machine, as its first process."""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import sys
import termios
import traceback
import tty
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.powercut.outcome import CONTROLS, Outcome

MODULES = Path("/modules")
DISK = "/dev/vda"
_SERIES = 5
"""Cuts of one file system, before the next is made."""
_TRIES = 8
"""Cuts until a control must have shown what it is for."""
_FINIT_MODULE = 313  # x86-64
_POWER_OFF = 0x4321FEDC
_libc = ctypes.CDLL(None, use_errno=True)


def boot() -> None:
    """What an init system does, as far as it is needed here."""
    from tests.powercut.disk import mount

    for kind, target in {"proc": "/proc", "sysfs": "/sys", "devtmpfs": "/dev", "tmpfs": "/tmp"}.items():
        mount(kind, Path(target), kind)
    for module in sorted(MODULES.iterdir()):  # named in the order they need each other
        descriptor = os.open(module, os.O_RDONLY)
        if _libc.syscall(_FINIT_MODULE, descriptor, b"", 0) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(module))
        os.close(descriptor)
    os.environ.update(HOME="/tmp", PATH="/usr/sbin:/sbin:/usr/bin:/bin")


def outcomes(options: argparse.Namespace) -> Iterator[Outcome]:
    from tests.powercut.disk import Disk
    from tests.powercut.trial import Trial

    gc.freeze()
    trial = Trial(Disk(DISK, options.fs), options.seed)
    fresh = True
    for number in range(options.first, options.first + options.cuts):
        if fresh or number % _SERIES == 0:
            trial.begin(number)
        outcome = trial.cut(number)
        fresh = bool(outcome.problems)
        yield outcome
    for control in CONTROLS if options.controls else ():
        for number in range(_TRIES):
            trial.begin(number, control)
            outcome = trial.cut(number, control)
            yield outcome
            if outcome.problems:
                break


def parser() -> argparse.ArgumentParser:
    """What the machine is told, and its maker passes on."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--cuts", type=int, default=50, help="how many (50)")
    parser.add_argument("--first", type=int, default=0, help="the number of the first, to repeat one (0)")
    parser.add_argument("--seed", type=int, help="what is logged, and when it is cut, follows from it (random)")
    parser.add_argument("--fs", choices=("ext4", "xfs", "btrfs"), default="ext4", help="the file system (ext4)")
    parser.add_argument(
        "--no-controls", dest="controls", action="store_false", help="do not break the order of writes on purpose"
    )
    return parser


def main(arguments: Sequence[str]) -> None:
    try:
        boot()
        port = os.open("/dev/ttyS1", os.O_RDWR | os.O_NOCTTY)
        tty.setraw(port, termios.TCSANOW)
        with os.fdopen(port, "w", buffering=1) as report:
            for outcome in outcomes(parser().parse_args(arguments)):
                print(outcome.encode(), file=report)
            print("finished", file=report, flush=True)
            termios.tcdrain(port)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        _libc.reboot(_POWER_OFF)
