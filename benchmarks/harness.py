"""Taking samples: a process for each, contenders interleaved, nothing cached from one to the next.

A *contender* is asked one *step* at a time. An operation is a module-level function that sets up (opens what is
not part of the question) and returns the callable whose run is the sample; see :mod:`benchmarks.child`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from shutil import rmtree
from typing import Any, TypeVar

from benchmarks.places import Place, usage

T = TypeVar("T")
Operation = Callable[..., Callable[[], object]]
_REPOSITORY = Path(__file__).resolve().parents[1]
_LOOK_SECONDS = 0.02

CORE = ("cas",)
"""What a sampler imports for a contender that needs no MLflow."""
REPOSITORIES = ("mlflow.store.artifact.local_artifact_repo", "cas_mlflow.stores", "cas_mlflow.trees")


@dataclass(frozen=True, slots=True)
class Options:
    size: int
    shards: int
    rounds: int

    @property
    def scale(self) -> float:
        """What is counted in pieces, not bytes, shrinks with --size, too, but never grows."""
        return min(1.0, self.size / 2e9)


@dataclass(slots=True)
class Sample:
    """One run of one operation in a process of its own. Times in seconds, the rest in bytes."""

    step: str
    contender: str
    round: int
    wall: float
    synced: float | None
    """With a final sync of what was written, for contenders that sync nothing themselves."""
    cpu: float
    disk_written: int
    """``write_bytes`` of /proc/self/io, with children: pages made dirty, without the file system's own records."""
    wchar: int
    stored: int
    """st_blocks of the contender's store after it, each inode once."""
    grown: int
    """By how much the st_blocks of the work directory grew; on a private file system, its used blocks."""
    memory: int
    """Peak resident memory of the process (VmHWM), or of a child it waited for if that is larger."""
    memory_before: int
    """The same when the imports were done, before the operation."""
    logical: int | None = None
    """The bytes the operation was about."""
    answer: Any = None
    """What the operation returned."""
    temporary: int | None = None
    """The most st_blocks that were seen below TMPDIR at once, if it was watched."""


@dataclass(slots=True)
class Aim:
    """What the design promises, and what was measured."""

    text: str
    limit: float
    value: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass(slots=True)
class Result:
    """The answer to one question on one file system."""

    question: str
    place: str
    reference: str
    """The contender others are compared with."""
    samples: list[Sample] = field(default_factory=list)
    aims: list[Aim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Sampler:
    """Takes samples of one contender in the directory ``work``, empty at first.

    It goes with everything in it; with ``keep``, when the place does. That is for many files: ext4 without a
    journal gives no inode out again for minutes, so creating a file steps over all that were just deleted.
    """

    def __init__(
        self, place: Place, contender: str, number: int, modules: Sequence[str] = (), *, keep: bool = False
    ) -> None:
        self._keep = keep
        self.work = Path(tempfile.mkdtemp(prefix="work-", dir=place.directory))
        self.temporary = self.work / "tmp"
        self.temporary.mkdir()
        self._place, self._contender, self._number = place, contender, number
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.child", *modules],
            cwd=_REPOSITORY,
            env=_environment(self.work, self.temporary),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def take(
        self,
        step: str,
        operation: Operation,
        *arguments: object,
        store: Path | None = None,
        sync: Path | None = None,
        logical: int | None = None,
        watch: bool = False,
    ) -> Sample:
        """Run ``operation(*arguments)``. ``sync`` is what a contender that syncs nothing wrote. ``watch`` looks
        into TMPDIR meanwhile, which costs a little of the machine's time: only where few files are in it."""
        answer = self.work / "answer.json"
        job = {
            "operation": f"{operation.__module__}:{operation.__qualname__}",
            "arguments": [str(each) if isinstance(each, Path) else each for each in arguments],
            "work": str(self.work),
            "private": self._place.private,
            "sync": str(sync) if sync else None,
            "answer": str(answer),
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with _watching(self.temporary if watch else None) as most:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            status = self._process.stdout.readline().strip()
        found = json.loads(answer.read_text()) if answer.exists() else {}
        if status != "0" or "error" in found:
            raise RuntimeError(f"{self._contender}, {step}: exit status {status or 'none'}: {found.get('error')}")
        answer.unlink()
        stored = usage(store) if store else 0
        found |= {"stored": stored, "logical": logical, "temporary": max(most) if watch else None}
        return Sample(step, self._contender, self._number, **found)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        if not self._keep:
            rmtree(self.work)


@contextmanager
def sampler(
    place: Place, contender: str, number: int, modules: Sequence[str] = (), *, keep: bool = False
) -> Iterator[Sampler]:
    """A sampler whose processes have ``modules`` imported, for one contender in one round."""
    opened = Sampler(place, contender, number, modules, keep=keep)
    try:
        yield opened
    finally:
        opened.close()


def run_apart(function: Callable[..., T], *arguments: object) -> T:
    """Run what prepares samples in a new process: its imports and its memory are no part of them."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def rotated(rounds: int, contenders: Sequence[T]) -> Iterator[tuple[int, T]]:
    """Each round has every contender once, and starts with another one."""
    for number in range(rounds):
        first = number % len(contenders)
        for each in (*contenders[first:], *contenders[:first]):
            yield number, each


@contextmanager
def _watching(directory: Path | None) -> Iterator[list[int]]:
    """What was seen in use below ``directory``; the list is complete when the block is left."""
    seen, ended = [0], threading.Event()

    def look() -> None:
        while directory is not None and not ended.wait(_LOOK_SECONDS):
            with suppress(FileNotFoundError):  # gone between listing and looking
                seen.append(usage(directory) - directory.stat().st_blocks * 512)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()


def _environment(work: Path, temporary: Path) -> dict[str, str]:
    caches = work / "caches"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("CAS_", "MLFLOW_"))}
    return inherited | {
        "CAS_STAT_CACHE": str(caches / "stat.sqlite3"),
        "DVC_SITE_CACHE_DIR": str(caches / "dvc"),
        "TMPDIR": str(temporary),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
