"""Random histories with kills, on a local store and in a bucket: `make soak`, for minutes or for hours.

Prints each history that went wrong with its seed, and what is wrong; exit code 1 if any did. The store of such a
history is kept.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
import uuid
from pathlib import Path

from tests.soak.history import run
from tests.support.s3_server import S3Server, s3_server, why_not


def main() -> int:
    arguments = _arguments()
    home = Path(tempfile.mkdtemp(prefix="cas-soak-"))
    os.environ |= {"CAS_STAT_CACHE": "off", "CAS_CACHE": str(home / "cache"), "XDG_CACHE_HOME": str(home / "user")}
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 32)
    print(f"seed {seed}, in {home}", flush=True)
    failed = _soak(home, arguments, seed, None)
    if arguments.s3 and (reason := why_not()):
        print(f"not in a bucket: {reason}")
        failed += 1
    elif arguments.s3:
        with s3_server(home / "server") as server:
            os.environ |= server.environment()
            failed += _soak(home, arguments, seed, server)
    if not failed:
        shutil.rmtree(home)
    return int(failed > 0)


def _soak(home: Path, arguments: argparse.Namespace, seed: int, server: S3Server | None) -> int:
    """Histories until their number, or the time, is over; returns how many went wrong."""
    where = "a bucket" if server else "a local store"
    end = time.monotonic() + arguments.minutes * 60 if arguments.minutes else float("inf")
    start, count, kills, failed = time.monotonic(), 0, 0, 0
    while count < arguments.histories and time.monotonic() < end:
        directory = home / f"{'s3' if server else 'local'}-{count}"
        directory.mkdir()
        store = (
            f"cas-s3://{server.make_bucket(f'soak-{uuid.uuid4().hex[:12]}')}/s" if server else str(directory / "s")
        )
        told = run(store, directory, seed + count)
        kills += told.kills
        for fault in told.faults:
            print(f"{where}, history {count}, seed {seed + count}: {fault}", flush=True)
        failed += bool(told.faults)
        if not told.faults:
            shutil.rmtree(directory)
        count += 1
    seconds = time.monotonic() - start
    print(f"{where}: {count} histories, {kills} kills, {failed} went wrong, {seconds:.0f} s", flush=True)
    return failed


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--histories", type=int, default=1000, help="so many, on each kind of store")
    parser.add_argument("--minutes", type=float, help="or until so long has passed, on each")
    parser.add_argument("--seed", type=int, help="of the first history; the next ones count up")
    parser.add_argument("--s3", action=argparse.BooleanOptionalAction, default=True, help="in a bucket, too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
