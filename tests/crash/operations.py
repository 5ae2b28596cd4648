"""What is interrupted: log calls and a fold, each run by a process of its own that has imported everything before.

Also what the artifact roots of the prepared store hold before and after each.
"""

from __future__ import annotations

import codecs
import json
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import cas
import cas.verify
from cas import collect
from cas.condemned import condemned_key, encode_condemned
from cas.digest import digest_of
from cas.keys import BLOBS, CONDEMNED, INTENTS, blob_key, fragments_prefix, intent_key
from cas.ulid import new_ulid

# Imported when first used, which would be one more call to be killed in.
codecs.lookup("ascii")

Files = dict[str, bytes]

OLD = "1/models/old/artifacts"
NEW = "1/models/new/artifacts"
MANY = "1/models/many/artifacts"
FOLDED = "1/models/folded/artifacts"
GARBAGE = 4  # blobs nobody needs
WEIGHTS = b"old weights" * 9000
BEFORE: dict[str, Files] = {
    OLD: {"replaced": b"old", "kept": b"kept", "weights": WEIGHTS},
    NEW: {},
    FOLDED: {"one": b"1", "two": b"2"},
    MANY: {f"{number:02}": b"%d" % number for number in range(31)},
}
TREE: Files = {
    "MLmodel": b"flavors: {}",
    "data/config.json": b"{}",
    "data/small blob": b"new weights" * 3000,  # read and written
    "data/large blob": b"new weights" * 120_000,  # copied by the kernel
}
BATCH: Files = {f"{number:02}.bin": b"%d." % number * 10_000 for number in range(34)}


class Operation(NamedTuple):
    """One call; ``adds`` is what its artifact root holds more after it."""

    root: str
    adds: Files
    run: Callable[[cas.ArtifactRoot, Path], None]
    check: Callable[[cas.Store], None] = lambda _: None

    @property
    def before(self) -> Files:
        return BEFORE[self.root]

    @property
    def after(self) -> Files:
        return self.before | self.adds


def _fold_and_delete(root: cas.ArtifactRoot, _: Path) -> None:
    """A fold leaves what it replaced to the next."""
    root.fold()
    root.fold()


def _log_and_delete(root: cas.ArtifactRoot, _: Path) -> None:
    """The 32nd log call folds; the next fold deletes what that replaced."""
    root.ingest_bytes(b"31", "31")
    root.fold()


def _collect(root: cas.ArtifactRoot, _: Path) -> None:
    """Everything goes at once: what is condemned, its list, a dead writer's intent, what was folded."""
    collect.execute(root.store, collect.plan(root.store, grace=0, now=time.time() + 25 * 3600))


def _is_clean(store: cas.Store) -> None:
    """Nothing is there but what is needed (and directories that are empty)."""
    needed = {entry.blob for root in store.artifact_roots() for entry in root.manifest()}
    assert {key for key, _ in store.blobs.listing()} == needed - {None}
    for prefix in (CONDEMNED, INTENTS):
        assert list(store.backend.keys(prefix)) == []
    assert len(list(store.backend.keys(fragments_prefix(FOLDED)))) == 1


OPERATIONS = {
    "a tree": Operation(NEW, TREE, lambda root, sources: root.ingest_tree(sources / "tree")),
    "small bytes": Operation(OLD, {"replaced": b"new"}, lambda root, _: root.ingest_bytes(b"new", "replaced")),
    "known bytes": Operation(OLD, {"again": WEIGHTS}, lambda root, _: root.ingest_bytes(WEIGHTS, "again")),
    "a fold": Operation(OLD, {}, _fold_and_delete),
    "a log call that folds": Operation(MANY, {"31": b"31"}, _log_and_delete),
    "a collection": Operation(OLD, {}, _collect, _is_clean),
    "many blobs": Operation(NEW, BATCH, lambda root, sources: root.ingest_tree(sources / "batch")),
}


def prepare(directory: Path) -> None:
    """Make the store, and the user's files, that every operation starts from."""
    store = cas.Store.create(directory / "store")
    for path, files in BEFORE.items():
        for name, data in files.items():
            store.artifact_root(path).ingest_bytes(data, name)
    old = store.artifact_root(OLD)
    old.ingest_bytes(b"removed", "removed")
    old.remove("removed")
    condemned = [blob_key(digest_of(b"of another"), new_ulid())]
    store.backend.put(condemned_key(new_ulid()), [encode_condemned(condemned, unneeded=False)], create=True)
    for number in range(GARBAGE):
        old.ingest_bytes(b"%d" % number * 20_000, "garbage")
    old.remove("garbage")
    condemned = [each.key for each in store.backend.list(BLOBS) if each.size == 20_000][:2]
    store.backend.put(condemned_key(new_ulid()), [encode_condemned(condemned, unneeded=True)], create=True)
    store.artifact_root(FOLDED).fold()
    (directory / "dead").write_text(_leave_an_intent(store))
    for name, files in (("tree", TREE), ("batch", BATCH)):
        for path, data in files.items():
            source = directory / "sources" / name / path
            source.parent.mkdir(parents=True, exist_ok=True)
            source.write_bytes(data)


def _leave_an_intent(store: cas.Store) -> str:
    """As a writer does that is killed before its commit; returns its name."""
    with store.artifact_root(NEW).log_call(["never"]) as writer:
        writer.put_bytes("never", b"never" * 5000)
        writer.hold()
        key = intent_key(writer.intent)
        left = store.backend.read(key)
    store.backend.put(key, [left], create=True)
    return key.rpartition("/")[2]


def perform(channel: Connection, package: str, name: str, directory: str) -> None:
    """In the child: open the store, wait to be let go, do it, say how it went, and vanish without cleaning up."""
    assert package == cas.__file__
    os.environ["CAS_STAT_CACHE"] = "off"
    operation = OPERATIONS[name]
    root = cas.Store.open(Path(directory) / "store").artifact_root(operation.root)
    channel.send("ready")
    channel.recv()
    try:
        operation.run(root, Path(directory) / "sources")
        said = {"acknowledged": True}
    except BaseException as error:
        said = {"error": [each.__name__ for each in type(error).__mro__], "message": str(error)}
    # writev, which nothing else calls: the failures injected into write must not reach this.
    os.writev(channel.fileno(), [json.dumps(said).encode()])
    os._exit(0)
