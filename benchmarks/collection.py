"""How long collection takes, and how much memory, with very many blobs: `python -m benchmarks.collection`.

Not one of the questions of `make bench`: nobody else has a collector to compare with, and making the blobs takes
longer than collecting them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cas
from cas import collect

_PER_CALL = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blobs", type=int, default=100_000)
    parser.add_argument("--directory", type=Path, help="on a disk; by default the system's for temporary files")
    parser.add_argument("--only", choices=["dry-run", "gc"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        _collect(arguments.directory, dry_run=arguments.only == "dry-run")
        return
    with tempfile.TemporaryDirectory(prefix="cas-bench-", dir=arguments.directory) as directory:
        store = Path(directory) / "store"
        _fill(store, arguments.blobs)
        for only in ("dry-run", "gc", "gc"):
            # Each in a process of its own, whose largest memory is its.
            command = [sys.executable, "-m", "benchmarks.collection", "--only", only, "--directory", str(store)]
            subprocess.run(command, check=True)


def _fill(store: Path, blobs: int) -> None:
    """A run for each thousand blobs; every second is removed."""
    os.environ["CAS_STAT_CACHE"] = "off"
    opened = cas.Store.create(store, inline_limit=0)
    began = time.perf_counter()
    for number in range(blobs // _PER_CALL):
        root = opened.artifact_root(f"1/models/m-{number}/artifacts")
        with root.log_call() as writer:
            for each in range(_PER_CALL):
                writer.put_bytes(f"{each:04}", b"%d %d" % (number, each))
            writer.commit()
        if number % 2:
            root.remove()
    print(f"{blobs} blobs in {blobs // _PER_CALL} log calls: {time.perf_counter() - began:.1f} s")


def _collect(store: Path, *, dry_run: bool) -> None:
    opened = cas.Store.open(store)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the most there was: a child begins with its parent's
    before = _most()
    began = time.perf_counter()
    plan = collect.plan(opened, grace=0)
    planned = time.perf_counter()
    done = None if dry_run else collect.execute(opened, plan)
    ended = time.perf_counter()
    print(
        f"plan {planned - began:.1f} s, execute {ended - planned:.1f} s, {plan.blobs} to go,"
        f" {done.blobs if done else 0} gone; memory {_most():.0f} MB, of which {before:.0f} MB before"
    )


def _most() -> float:
    """The most memory this process had, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main()
