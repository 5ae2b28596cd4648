"""Ten thousand inputs that an enemy, a bad disk or a careless writer could make, and what must not happen:

a file read, made or removed outside the store and the destination; another exception than ours; a hang; memory.

The same inputs each time. ``CAS_FUZZ_SEED`` chooses others, ``CAS_FUZZ_TIMES`` so many times as many; a failure
names its example as ``seed/number``, which ``CAS_FUZZ_SEED=seed`` makes again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.fuzz.running import MEMORY, Outcome, fuzz
from tests.support.processes import run_fresh

TARGETS = {
    "names.paths": 2000,
    "names.operations": 600,
    "names.uris": 2000,
    "names.uploads": 1000,
    "records.fragments": 800,
    "records.settings_intents_and_condemned_lists": 2500,
    "records.pointers": 800,
    "records.journals": 250,
    "records.bundles": 600,
    "files.headers": 1500,
    "files.mlmodels": 300,
}


@pytest.fixture
def directory() -> Iterator[Path]:
    """In memory, where there is such a place: syncing it costs nothing, and nothing of this is to be kept."""
    memory = "/dev/shm"
    found = Path(tempfile.mkdtemp(prefix="cas-fuzz-", dir=memory if os.access(memory, os.W_OK) else None))
    yield found
    shutil.rmtree(found)


def test_there_are_ten_thousand() -> None:
    assert sum(TARGETS.values()) >= 10_000


@pytest.mark.timeout(900)
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_hostile_gets_anywhere(target: str, directory: Path) -> None:
    seed = os.environ.get("CAS_FUZZ_SEED", "mlflow-cas")
    count = TARGETS[target] * int(os.environ.get("CAS_FUZZ_TIMES", "1"))
    print(f"CAS_FUZZ_SEED={seed}")
    outcome = run_fresh({}, _run, target, seed, count, directory)
    assert outcome.failures == [], "\n".join(outcome.failures)
    assert outcome.examples == count
    assert outcome.grown < MEMORY


def _run(target: str, seed: str, count: int, directory: Path) -> Outcome:
    module, _, name = target.partition(".")
    prepare: Callable[..., object] = getattr(import_module(f"tests.fuzz.{module}"), name)
    return fuzz(prepare, seed, count, directory)
