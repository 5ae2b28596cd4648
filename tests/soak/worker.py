"""One process of a history: it logs, refers, persists, removes, mirrors, folds, collects, verifies and reads at
random, until it is killed or has done its share.

Each worker alone writes to one artifact root, so it knows what has to be in it; blobs are everybody's. Before an
operation it writes down what the root will hold, and after it that this is so: whoever comes after a kill finds
one or the other.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path

from cas import ArtifactRoot, Store
from cas import collect as collection
from cas.digest import Digest, Hasher
from cas.errors import CasError, IntentAborted, KeyNotFound
from cas.manifest import Entry
from cas.mirror import mirror
from cas.references import persist
from cas.verify import verify
from tests.support.origin import SCHEME, install

State = dict[str, str]
"""Digests by path; of a reference, also that its bytes may be at their origin only."""

CONTENTS = [bytes([number]) * size for number, size in enumerate((10, 5_000, 20_000, 40_000, 90_000, 300_000))]
_PATHS = ("a", "b", "model/c", "model/d")
_REFERRED = ("persisted/e", "persisted/f")
_AT_ORIGIN = " at its origin"


def place(number: int) -> str:
    return f"7/models/m-{number}/artifacts"


class Journal:
    """What one worker is about to do, and has done. It is lost with the machine, not with the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.before: State = {}
        self.after: State | None = None
        """What the root holds if the operation that was going on was carried out."""
        for line in path.read_text().splitlines() if path.exists() else ():
            said, state = json.loads(line)
            if said == "begin":
                self.after = state
            else:
                self.before, self.after = state, None

    def begin(self, after: State) -> None:
        self._write("begin", after)

    def done(self, state: State) -> None:
        self.before, self.after = state, None
        self._write("done", state)

    def _write(self, said: str, state: State) -> None:
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps([said, state]) + "\n")


def digests(root: ArtifactRoot) -> State:
    """What an artifact root says it holds."""
    return {entry.path: str(entry.digest) + _AT_ORIGIN * _is_reference(entry) for entry in root.manifest()}


def _is_reference(entry: Entry) -> bool:
    return entry.blob is None and entry.inline is None


def make_origin(directory: Path) -> None:
    """What references refer to, and that `cas` finds it."""
    (directory / "origin").mkdir()
    for number, data in enumerate(CONTENTS):
        (directory / "origin" / str(number)).write_bytes(data)
    install(directory / "packages")


def use_origin(directory: Path) -> None:
    """In this process."""
    os.environ["CAS_TEST_ORIGIN"] = str(directory / "origin")
    sys.path.insert(0, str(directory / "packages"))


def settled(root: ArtifactRoot, journal: Journal) -> State:
    """What a root holds after a kill: as before the operation that was going on, or as after it."""
    found = digests(root)
    for state in (journal.before, journal.after):
        if state is not None and _is_as(found, state):
            return state
    raise AssertionError(f"{root!r} holds {found}; it should be {journal.before} or {journal.after}")


def _is_as(found: State, state: State) -> bool:
    """A reference whose bytes are in the store because another has them is as good."""
    return found.keys() == state.keys() and all(
        state[path] in (digest, digest + _AT_ORIGIN) for path, digest in found.items()
    )


def work(
    store: str,
    supply: str,
    directory: Path,
    *,
    environment: dict[str, str],
    number: int,
    seed: int,
    operations: int,
) -> None:
    """The whole life of a process, in an ``environment`` that may be younger than the server that forked it."""
    os.environ.update(environment)
    use_origin(directory)
    chance = random.Random(seed)
    opened = Store.open(store)
    if opened.blobs.local is None:
        time.sleep(0.3)  # a request of the one that was killed may still be on its way
    root = opened.artifact_root(place(number))
    journal = Journal(directory / f"worker-{number}.journal")
    journal.done(settled(root, journal))
    for _ in range(operations):
        try:
            _one(opened, Store.open(supply), root, journal, chance)
        except IntentAborted:  # taken for dead: nothing was committed
            journal.done(settled(root, journal))
    os._exit(0)


def _one(store: Store, supply: Store, root: ArtifactRoot, journal: Journal, chance: random.Random) -> None:
    what = chance.choices(
        ("log", "refer", "persist", "remove", "mirror", "fold", "collect", "read", "verify"),
        weights=(35, 8, 8, 15, 5, 5, 15, 15, 5),
    )[0]
    state = dict(journal.before)
    if what == "log":
        _log(root, state, journal, chance)
    elif what == "refer":
        _refer(root, state, journal, chance)
    elif what == "persist":
        state = {path: digest.removesuffix(_AT_ORIGIN) for path, digest in state.items()}
        journal.begin(state)
        persist(root)
        journal.done(state)
    elif what == "remove" and (mine := sorted(state.keys() & {*_PATHS, *_REFERRED})):
        path = chance.choice(mine)
        del state[path]
        journal.begin(state)
        root.remove(path)
        journal.done(state)
    elif what == "mirror":
        state |= digests(supply.artifact_root(root.path))
        journal.begin(state)
        report = mirror(supply, store, root.path)
        if report.failed:
            raise AssertionError(report.failed)
        journal.done(state)
    elif what == "fold":
        root.fold()
    elif what == "collect":
        collection.execute(store, collection.plan(store, grace=0))
    elif what == "verify":
        _expect_sound(store)
    else:
        _read(root, state)


def _log(root: ArtifactRoot, state: State, journal: Journal, chance: random.Random) -> None:
    new = {path: chance.choice(CONTENTS) for path in chance.sample(_PATHS, chance.randrange(1, 4))}
    state |= {path: str(_digest(data)) for path, data in new.items()}
    journal.begin(state)
    with root.log_call(new) as writer:
        for path, data in new.items():
            writer.put_bytes(path, data)
            if chance.random() < 0.2:
                writer.hold()
        writer.commit()
    journal.done(state)


def _refer(root: ArtifactRoot, state: State, journal: Journal, chance: random.Random) -> None:
    new = {path: chance.randrange(len(CONTENTS)) for path in _REFERRED}
    known = {path: _digest(CONTENTS[number], "sha256") for path, number in new.items()}
    state |= {path: str(digest) + _AT_ORIGIN for path, digest in known.items()}
    journal.begin(state)
    with root.log_call(new) as writer:
        for path, number in new.items():
            writer.put_known(path, known[path], len(CONTENTS[number]), f"{SCHEME}://{number}")
        writer.commit()
    journal.done(state)


def _read(root: ArtifactRoot, state: State) -> None:
    """Everything that was acknowledged is there, with its bytes."""
    assert _is_as(digests(root), state), (digests(root), state)
    for entry in root.manifest():
        assert _digest(_bytes(root, entry), entry.digest.algorithm) == entry.digest, entry


def _bytes(root: ArtifactRoot, entry: Entry) -> bytes:
    while True:
        try:
            with root.open_entry(entry) as file:
                return file.read()
        except KeyNotFound:
            # Another model lent a reference its bytes, and went, without grace, while they came from the bucket.
            if entry.blob is not None:
                raise


def _digest(data: bytes, algorithm: str = "blake3") -> Digest:
    hasher = Hasher((algorithm,))
    hasher.update(data)
    return hasher.digest(algorithm)


def _expect_sound(store: Store) -> None:
    """Others may remove, and collect, what the report of a moment ago needs: only damage is a fault here."""
    bad = [problem for problem in verify(store).problems if problem.kind != "missing"]
    if bad:
        raise CasError(f"{store.name}: {bad}")
