"""A process killed before any of its system calls, and one of whose system calls any fails."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.crash.operations import OPERATIONS
from tests.crash.tracing import SYSTEM_CALLS, Outcome, check_goes_on, check_whole, copy_of, run_traced, unfinished

# Of many blobs, which are named one after the other, each so-manyth call stands for those between.
_STRIDE = {"many blobs": 13, "a collection": 3, "a log call that folds": 9}
_RARE = {"fsync", "syncfs", "linkat"}  # of these, each counts everywhere
_AT_ONCE = 3  # they wait for the disk more than they compute
_FULL = ("openat", "write", "copy_file_range", "fsync", "syncfs", "mkdir", "rename", "linkat")  # ask for space

Interrupt = Callable[[str, tuple[str, ...], str, Callable[[Path, Outcome], None]], None]


@pytest.fixture
def at_every_call(prepared: Path, tmp_path: Path) -> Interrupt:
    """Runs an operation again and again, disturbed at its first call, its second, and so on to its last."""

    def interrupt(
        name: str, names_of_calls: tuple[str, ...], injection: str, check: Callable[[Path, Outcome], None]
    ) -> None:
        def disturb(point: tuple[str, int]) -> None:
            call, number = point
            spoiled = copy_of(prepared, tmp_path / f"{call}-{number}")
            fault = f"inject={call}:{injection.format(number)}"
            outcome = run_traced(spoiled, name, ["-e", f"trace={call}", "-e", fault])
            try:
                if outcome.injected:
                    check(spoiled, outcome)
                else:
                    assert outcome.acknowledged, outcome
            except BaseException as error:
                error.add_note(f"{name!r} with {fault}: {outcome}")
                raise

        outcome = run_traced(
            copy_of(prepared, tmp_path / "undisturbed"), name, ["-e", f"trace={','.join(names_of_calls)}"]
        )
        assert outcome.acknowledged, outcome
        counts = Counter(re.findall(r"^\d+ +(\w+)\(", outcome.log, re.MULTILINE))
        points = [
            (call, number)
            for call, count in counts.items()
            for number in range(1, count + 1, 1 if call in _RARE else _STRIDE.get(name, 1))
        ]
        assert len(points) > 20
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(disturb, points))

    return interrupt


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_killed_process_leaves_what_is_whole(at_every_call: Interrupt, name: str) -> None:
    """Killed as it enters a call. The last of them, writev, is its answer, when everything was done."""

    def check(directory: Path, outcome: Outcome) -> None:
        assert outcome.killed
        check_whole(directory, OPERATIONS[name], acknowledged="writev" in outcome.log)
        check_goes_on(directory, name)

    at_every_call(name, (*SYSTEM_CALLS, "writev"), "signal=SIGKILL:when={}", check)


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_failing_disk_is_reported_and_leaves_nothing_unfinished(at_every_call: Interrupt, name: str) -> None:
    """One call fails with EIO."""

    def check(directory: Path, outcome: Outcome) -> None:
        _check_failed_cleanly(directory, name, outcome)

    at_every_call(name, SYSTEM_CALLS, "error=EIO:when={}", check)


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_full_disk_is_reported_and_leaves_nothing_unfinished(at_every_call: Interrupt, name: str) -> None:
    """From one call on, all fail with ENOSPC."""

    def check(directory: Path, outcome: Outcome) -> None:
        _check_failed_cleanly(directory, name, outcome)

    at_every_call(name, _FULL, "error=ENOSPC:when={}+", check)


def _check_failed_cleanly(directory: Path, name: str, outcome: Outcome) -> None:
    assert outcome.acknowledged or "OSError" in outcome.error
    assert unfinished(directory) == []
    left = {path.name for path in (directory / "store/intents").iterdir()}
    assert left <= {(directory / "dead").read_text()}
    check_whole(directory, OPERATIONS[name], acknowledged=outcome.acknowledged)
    check_goes_on(directory, name)
