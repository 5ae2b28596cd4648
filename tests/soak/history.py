"""One random history: workers that are killed and started again, and then everything is looked at."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from cas import Store
from cas import collect as collection
from cas.condemned import CondemnedList
from cas.keys import BLOBS, CONDEMNED, INTENTS, QUARANTINE, parse_blob_key
from cas.verify import verify
from tests.soak.worker import CONTENTS, Journal, place, settled, work

WORKERS, ROUNDS, OPERATIONS = 3, 3, 60
_LONG = 4 * collection.GRACE  # by then, every lease has ended
_context = get_context("forkserver")
_context.set_forkserver_preload(["tests.soak.worker"])  # not obstore: its threads do not survive a fork


@dataclass
class Told:
    """What came of a history."""

    kills: int = 0
    faults: list[str] = field(default_factory=list)


def run(store_uri: str, directory: Path, seed: int) -> Told:
    """Make a store at ``store_uri``, and live through one history in it."""
    chance, told = random.Random(seed), Told()
    store, supply = Store.create(store_uri), Store.create(directory / "supply")
    for number in range(WORKERS):
        root = supply.artifact_root(place(number))
        root.ingest_bytes(CONTENTS[-1], "mirrored/one")
        root.ingest_bytes(chance.choice(CONTENTS), "mirrored/two")
    for _ in range(ROUNDS):
        _round(store_uri, str(directory / "supply"), directory, chance, told)
    if not told.faults:
        told.faults += _looked_at(store, directory)
    return told


def _round(store: str, supply: str, directory: Path, chance: random.Random, told: Told) -> None:
    """All workers at once; each is killed at some moment, or allowed to end."""
    processes = []
    for number in range(WORKERS):
        how: dict[str, Any] = {"number": number, "seed": chance.randrange(1 << 30), "operations": OPERATIONS}
        how["environment"] = dict(os.environ)
        processes.append(_context.Process(target=work, args=(store, supply, directory), kwargs=how))
    for process in processes:
        process.start()
    for process in sorted(processes, key=lambda _: chance.random()):
        process.join(chance.uniform(0.05, 0.4))
        if process.is_alive() and chance.random() < 0.8:
            process.kill()
    for process in processes:
        process.join(120)
        if process.exitcode == -signal.SIGKILL:
            told.kills += 1
        elif process.exitcode != 0:
            process.kill()
            told.faults.append(f"a worker ended with {process.exitcode}")


def _looked_at(store: Store, directory: Path) -> list[str]:
    """Nothing acknowledged is missing or wrong; and when all is over, nothing is left over."""
    faults = []
    time.sleep(0 if store.blobs.local is not None else 0.3)
    for number in range(WORKERS):
        try:
            settled(store.artifact_root(place(number)), Journal(directory / f"worker-{number}.journal"))
        except AssertionError as error:
            faults.append(str(error))
    later = time.time() + _LONG
    for _ in range(2):
        collection.execute(store, collection.plan(store, grace=0, now=later))
    faults += [f"{problem.kind}: {problem.key} of {problem.models}" for problem in verify(store).problems]
    backend = store.backend
    faults += [f"left over: {key}" for prefix in (INTENTS, QUARANTINE) for key in backend.keys(prefix)]
    stored = {key for key in backend.keys(BLOBS) if parse_blob_key(key)[2] is None}
    for key in backend.keys(CONDEMNED):
        # What was relied on before it was condemned stays, and so does the list that warns of it.
        if stored.isdisjoint(CondemnedList.decode(key, backend.read(key)).keys):
            faults.append(f"left over: {key}")
    needed = {entry.blob for root in store.artifact_roots() for entry in root.manifest() if entry.blob}
    faults += [f"left over: {key}" for key in stored - needed]
    return faults
