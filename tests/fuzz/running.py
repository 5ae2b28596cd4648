"""Fuzzing one target in a process of its own, whose memory is measured and whose hangs end it."""

from __future__ import annotations

import faulthandler
import os
import re
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple

MEMORY = 100 << 20
"""Bytes by which a target may grow, over what its imports and its preparation take."""
PATIENCE = 60
"""Seconds for one example, on a machine that is busy with others: far above what any takes."""

Example = Callable[[Random], None]


class Hang(BaseException):
    """No Exception, so that nothing takes it for one it may expect."""


class Outcome(NamedTuple):
    """``failures`` are tracebacks, each with what it takes to run that example again."""

    examples: int
    grown: int
    failures: list[str]


class Outside:
    """A tree of files around what is fuzzed, which nobody may add to, change, or take away from."""

    def __init__(self, directory: Path, *inside: Path) -> None:
        self._directory = directory
        self._inside = inside
        for path in ("secret", "etc/passwd", "a/b", "x/secret", "neighbour/cas-json"):
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_bytes(b"nobody may read this")
        self._before = self._seen()

    def check(self) -> None:
        now = self._seen()
        assert now == self._before, f"outside: {sorted(now ^ self._before)}"

    def _seen(self) -> set[tuple[str, int, int, int]]:
        return set(self._walk(self._directory))

    def _walk(self, directory: Path) -> Iterator[tuple[str, int, int, int]]:
        with os.scandir(directory) as entries:
            for entry in entries:
                path = Path(entry.path)
                if path in self._inside:
                    continue
                status = entry.stat(follow_symlinks=False)
                yield entry.path, status.st_ino, status.st_size, status.st_mtime_ns
                if entry.is_dir(follow_symlinks=False):
                    yield from self._walk(path)


def fuzz(prepare: Callable[[Path], Example], seed: str, count: int, directory: Path) -> Outcome:
    """Run ``count`` examples, each of which depends on the seed and on its number only.

    Called in a process of its own. An example that hangs ends it, with a traceback on stderr.
    """
    os.environ |= {
        "CAS_STAT_CACHE": "off",
        "CAS_CACHE": str(directory / "cache"),
        "XDG_CACHE_HOME": str(directory / "user"),
        "HF_HUB_OFFLINE": "1",  # nobody is asked for an origin that somebody made up
    }
    with _watched(seed):
        example = prepare(directory)
    baseline = _reset_peak()
    failures: list[str] = []
    for number in range(count):
        name = f"{seed}/{number}"
        try:
            with _watched(name):
                example(Random(name))
        except (Exception, Hang):
            failures.append(f"example {name}:\n{traceback.format_exc()}")
            if len(failures) == 10:
                break
    return Outcome(count, _peak() - baseline, failures)


@contextmanager
def _watched(name: str) -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise Hang(f"{name} took more than {PATIENCE} seconds")

    # Python code is interrupted; C code that never returns to it ends the process.
    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    faulthandler.dump_traceback_later(2 * PATIENCE, exit=True)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()


def _reset_peak() -> int:
    """Forget the highest memory use so far (of imports); returns the use now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1]) << 10
