"""Power cuts in a virtual machine, again and again: is everything there that was acknowledged?

Exit code 1 if anything is lost, damaged or torn, or if a control, which breaks the order of writes on purpose,
goes unnoticed.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

from tests.powercut import guest, machine
from tests.powercut.image import make_image
from tests.powercut.outcome import CONTROLS, Outcome
from tests.powercut.report import Report

_BOOT = 300
_ONE = 120
"""Seconds, at most, for one cut; a busy machine needs ten."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.powercut", description=__doc__, parents=[guest.parser()])
    parser.add_argument("--directory", type=Path, default=Path(".powercut"), help="where to work (.powercut)")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1_000_000)
    directory = options.directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    began, report = time.monotonic(), Report(options.cuts, options.seed, options.fs, controls=options.controls)
    arguments = [f"--{name}={getattr(options, name)}" for name in ("cuts", "first", "seed", "fs")]
    arguments += [] if options.controls else ["--no-controls"]
    print(f"powercut: booting a machine, seed {options.seed}", flush=True)
    timeout = _BOOT + _ONE * (options.cuts + 8 * len(CONTROLS))
    for line in machine.run(make_image(directory), directory, arguments, timeout):
        if line == "finished":
            report.finished = True
        else:
            report.add(Outcome.decode(line))
    report.conclude(time.monotonic() - began)
    if not report.finished:
        console = (directory / "console.log").read_text(encoding="utf-8", errors="replace")
        print(f"powercut: the machine stopped early; its last words:\n{console[-4000:]}", file=sys.stderr)
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
