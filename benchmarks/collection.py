"""What collection and verification cost when there are very many small blobs, on a disk and in a bucket:
`python -m benchmarks.collection`.

Not one of the questions of `make bench`: nobody else has a collector to compare with, and making the blobs takes
longer than collecting them. Each step runs in a process of its own, whose largest memory is its.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

import cas
from cas import collect
from cas.keys import BLOBS, MANIFESTS
from cas.verify import verify
from tests.support.s3_server import S3Server, s3_server

_FILES = 5
"""Of one model, each a blob of its own."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.collection", description=__doc__)
    parser.add_argument("--models", type=int, nargs="+", default=[2_000, 20_000], help=f"of {_FILES} blobs each")
    parser.add_argument("--directory", type=Path, help="on a disk; by default the system's for temporary files")
    parser.add_argument("--s3", action=argparse.BooleanOptionalAction, default=True, help="in a bucket, too")
    parser.add_argument("--only", nargs="+", choices=STEPS, default=list(STEPS), help="these steps")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps(measure(arguments.store, STEPS[arguments.step])))
        return
    shown = Table("store", "blobs", "step", "s", "MB at most", "before", "requests", "what", box=SIMPLE)
    with tempfile.TemporaryDirectory(prefix="cas-bench-", dir=arguments.directory) as name:
        for models in arguments.models:
            for row in _rows(Path(name) / str(models), models, arguments.only, in_bucket=arguments.s3):
                print(*row, sep="  ", flush=True)
                shown.add_row(*row)
    Console(width=100).print(shown)


def _rows(directory: Path, models: int, only: Sequence[str], *, in_bucket: bool) -> Iterator[tuple[str, ...]]:
    directory.mkdir()
    local = str(directory / "store")
    os.environ |= {"CAS_STAT_CACHE": "off", "XDG_CACHE_HOME": str(directory / "cache")}
    # In memory, where nothing waits for syncs.
    with tempfile.TemporaryDirectory(prefix="cas-bench-", dir="/dev/shm") as memory:
        _fill(f"{memory}/store", models)
        shutil.copytree(f"{memory}/store", local)
    if in_bucket:
        with _bucket(directory / "server") as (server, bucket):
            _copy(local, bucket)
            yield from _steps("S3", bucket, models, only, server.requests)
    yield from _steps("disk", local, models, only, lambda: 0)


def _steps(
    where: str, store: str, models: int, only: Sequence[str], requests: Callable[[], int]
) -> Iterator[tuple[str, ...]]:
    for step in only:
        before = requests()
        command = [sys.executable, "-m", "benchmarks.collection", "--step", step, "--store", store]
        told = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        asked = requests() - before
        numbers = f"{told['seconds']:.1f}", f"{told['memory']:.0f}", f"{told['before']:.0f}"
        yield where, f"{models * _FILES:,}", step, *numbers, f"{asked:,}" if asked else "-", told["said"]


def _plan(store: cas.Store) -> str:
    made = collect.plan(store, grace=0)
    return f"{made.blobs} blobs to go"


def _collect(store: cas.Store) -> str:
    return f"{collect.execute(store, collect.plan(store, grace=0)).blobs} blobs gone"


def _verify(store: cas.Store) -> str:
    report = verify(store)
    assert not report.problems
    return f"{report.blobs} blobs sound"


STEPS = {
    "verify": _verify,
    "plan": _plan,
    "plan and execute": _collect,
    "nothing to collect": _collect,
}


def measure(uri: str, step: Callable[[cas.Store], str]) -> dict[str, Any]:
    """Do one step in this process: seconds, MB of memory at most, and before."""
    store = cas.Store.open(uri)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the most there was: a child begins with its parent's
    before, began = _most(), time.perf_counter()
    said = step(store)
    return {"seconds": time.perf_counter() - began, "memory": _most(), "before": before, "said": said}


def _most() -> float:
    """The most memory this process had, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _fill(uri: str, models: int) -> None:
    """Every second model is removed again."""
    store = cas.Store.create(uri, inline_limit=0)
    for number in range(models):
        root = store.artifact_root(f"1/models/m-{number}/artifacts")
        with root.log_call() as writer:
            for each in range(_FILES):
                writer.put_bytes(f"{each:04}", b"%d %d" % (number, each))
            writer.commit()
        if number % 2:
            root.remove()


@contextmanager
def _bucket(directory: Path) -> Iterator[tuple[S3Server, str]]:
    with s3_server(directory) as server:
        os.environ |= server.environment()
        yield server, f"cas-s3://{server.make_bucket('collection')}/store"


def _copy(local: str, bucket: str) -> None:
    """The same keys; logging them once more would take hours."""
    source, target = cas.Store.open(local).backend, cas.Store.create(bucket, inline_limit=0).backend
    keys = itertools.chain(source.keys(BLOBS), source.keys(MANIFESTS))
    with ThreadPoolExecutor(16) as pool:
        for _ in pool.map(lambda key: target.put(key, [source.read(key)], create=False), keys):
            pass


if __name__ == "__main__":
    main()
