"""Collection of a local store, and its command."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cas
from cas import collect
from cas.backends import LocalBackend, MemoryBackend, Unfinished
from cas.blobs import Blobs
from cas.cache import Cache
from cas.digest import digest_of
from cas.errors import BlobNotFound
from cas.keys import BLOBS, CONDEMNED, INTENTS, UPLOADS, blob_key
from cas.testing.collection import collected, keys, sizes
from cas.ulid import new_ulid

WEIGHTS = b"weights" * 20_000
DAY = 86_400.0


def run(*arguments: str | Path, stdin: int | None = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("cas")), *map(str, arguments)]
    return subprocess.run(command, text=True, capture_output=True, check=False, stdin=stdin)


@pytest.fixture
def filled(store: cas.Store, root: cas.ArtifactRoot) -> cas.Store:
    """One blob that is needed, and one that is not."""
    root.ingest_bytes(WEIGHTS, "kept/weights")
    root.ingest_bytes(WEIGHTS[::-1], "removed/weights")
    root.remove("removed")
    return store


# The local store


def test_directories_go_with_their_blobs(filled: cas.Store):
    collected(filled)
    assert all(any(directory.iterdir()) for directory in Path(filled.name).glob("blobs/*/*/*/"))
    assert len(list(Path(filled.name).glob("blobs/*/*/*/"))) == 1


def test_a_blob_is_stored_though_its_directory_is_taken_away_all_the_time(store: cas.Store):
    """A collector removes directories that are empty, and a writer may have just made one."""
    code = f"""
import os, sys, cas
taken = []
def take(event, arguments):
    if event == "os.rename" and "/blobs/" in str(arguments[1]) and len(taken) < 3:
        taken.append(os.path.dirname(arguments[1]))
        os.rmdir(taken[-1])
sys.addaudithook(take)
cas.Store.open({store.name!r}).artifact_root("a").ingest_bytes(b"x" * 50_000, "x")
assert len(taken) == 3
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"CAS_STAT_CACHE": "off"})
    assert sizes(store) == [50_000]


def test_a_blob_that_goes_between_finding_and_opening_it_is_not_there(
    store: cas.Store, root: cas.ArtifactRoot, monkeypatch: pytest.MonkeyPatch
):
    """Whoever reads a reference whose bytes another model lent then asks its origin."""
    root.ingest_bytes(b"weights" * 10_000, "weights")
    entry, find = root.entry("weights"), Blobs.find

    def find_too_late(self: Blobs, *which: Any) -> str:
        key = find(self, *which)
        root.remove("weights")
        collect.execute(store, collect.plan(store, grace=0))
        return key

    monkeypatch.setattr(Blobs, "find", find_too_late)
    with pytest.raises(BlobNotFound):
        store.blobs.open(entry.digest, entry.size, entry.blob)


def test_a_touched_blob_that_goes_while_it_is_rehashed_is_of_no_use(
    store: cas.Store, root: cas.ArtifactRoot, monkeypatch: pytest.MonkeyPatch
):
    root.ingest_bytes(b"weights" * 10_000, "weights")
    entry, verify = root.entry("weights"), Blobs.verify
    assert entry.blob is not None
    blob = Path(store.name, entry.blob)
    os.utime(blob)

    def gone_when_it_was_read(self: Blobs, key: str) -> bool:
        good = verify(self, key)
        blob.unlink()
        return good

    monkeypatch.setattr(Blobs, "verify", gone_when_it_was_read)
    assert not store.blobs.is_usable(entry.blob, entry.size)


def test_what_dead_processes_left_goes(filled: cas.Store):
    code = f"""
import os, cas
store = cas.Store.open({filled.name!r})
(store.scratch.tree() / "file").write_bytes(b"left")
with store.artifact_root("a").log_call() as writer:
    writer.put_bytes("never", b"never" * 10_000)
    writer.hold()
    os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"CAS_STAT_CACHE": "off"})
    assert len(keys(filled, INTENTS)) == 1
    made = collect.plan(filled, grace=0, now=time.time() + 25 * 3600)
    assert len(made.dead) == 1
    collect.execute(filled, made)
    assert sizes(filled) == [len(WEIGHTS)]
    assert keys(filled, INTENTS) == []
    assert [path.name for path in (Path(filled.name) / "tmp").iterdir()] == [filled.scratch.directory.name]


def test_downloads_nobody_goes_on_with_go(filled: cas.Store):
    directory = Path(filled.name) / "tmp/downloads/0-sha256-ab"
    directory.mkdir(parents=True)
    (directory / "data").write_bytes(b"half")
    collected(filled, after=DAY)
    assert directory.exists()
    collected(filled, after=3 * DAY)
    assert not directory.exists()


def test_a_cache_is_not_collected(tmp_path: Path, root: cas.ArtifactRoot):
    cache = Cache(tmp_path / "cache")
    cache._make()
    backend = LocalBackend(tmp_path / "cache")
    backend.put(f"{BLOBS}blake3/00/{'00' * 32}/{'0' * 26}", [b"cached"], create=True)
    done = run("gc", "--yes", tmp_path / "cache")
    assert (done.returncode, done.stdout) == (1, "")
    assert "cas cache prune" in done.stderr
    assert len(list(backend.keys(BLOBS))) == 1


# The command


def test_gc_condemns_and_says_when_to_come_again(filled: cas.Store):
    done = run("gc", "--yes", filled.name)
    assert done.returncode == 0
    assert "condemned 1: run this again in 24 hours" in done.stdout
    assert len(sizes(filled)) == 2
    assert "the grace period is not over" in run("gc", "--yes", filled.name).stdout


def test_gc_without_grace_gives_the_bytes_back(filled: cas.Store):
    done = run("gc", "--grace", "0s", "--yes", filled.name)
    assert done.returncode == 0
    assert "deleted 1 blobs, which freed 140.0 kB" in done.stdout
    assert sizes(filled) == [len(WEIGHTS)]
    assert "there is nothing to do" in run("gc", "--grace", "0s", "--yes", filled.name).stdout


def test_a_dry_run_prints_the_plan_and_does_nothing(filled: cas.Store):
    before = keys(filled)
    done = run("gc", "--grace", "0s", "--dry-run", filled.name)
    assert done.returncode == 0
    assert "named by no manifest, and pinned by no writer" in done.stdout
    assert "1 blobs go, which frees 140.0 kB" in done.stdout
    assert keys(filled) == before


def test_the_plan_as_json_is_what_is_done(filled: cas.Store):
    planned = json.loads(run("gc", "--grace", "0s", "--dry-run", "--json", filled.name).stdout)
    done = json.loads(run("gc", "--grace", "0s", "--yes", "--json", filled.name).stdout)
    assert planned == {key: value for key, value in done.items() if key != "done"}
    assert (
        (planned["blobs"], planned["bytes"]) == (done["done"]["blobs"], done["done"]["bytes"]) == (1, len(WEIGHTS))
    )
    [step] = planned["plan"]
    assert time.time() - step["oldest"] < 3600


def test_gc_asks_a_terminal_and_refuses_where_there_is_none(filled: cas.Store):
    done = run("gc", "--grace", "0s", filled.name)
    assert done.returncode == 2
    assert "--yes" in done.stderr
    ours, theirs = pty.openpty()
    for answer, returncode, left in ((b"n\n", 1, 2), (b"y\n", 0, 1)):
        os.write(ours, answer)
        assert run("gc", "--grace", "0s", filled.name, stdin=theirs).returncode == returncode
        assert len(sizes(filled)) == left
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("arguments", [("--grace", "soon"), ("--json",)])
def test_a_wrong_command_line_deletes_nothing(filled: cas.Store, arguments: tuple[str, ...]):
    assert run("gc", *arguments, filled.name).returncode == 2
    assert len(sizes(filled)) == 2


def test_gc_names_what_it_cannot_read_and_deletes_nothing(filled: cas.Store):
    filled.backend.put(f"{CONDEMNED}{'0' * 26}.json", [b"garbage"], create=True)
    done = run("gc", "--grace", "0s", "--yes", filled.name)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{CONDEMNED}{'0' * 26}.json" in done.stderr
    assert len(sizes(filled)) == 2


def test_a_pinned_model_outlives_its_run_until_it_is_unpinned(filled: cas.Store, root: cas.ArtifactRoot):
    made = json.loads(run("pin", "--json", f"{filled.name}/{root.path}/kept").stdout)
    root.remove()
    collected(filled)
    assert sizes(filled) == [len(WEIGHTS)]
    assert json.loads(run("pins", "--json", filled.name).stdout) == [made]
    listed = json.loads(run("ls", "-r", "--json", made["place"]).stdout)
    assert [each["path"].endswith(f"{root.path}/kept/weights") for each in listed] == [True]
    assert run("unpin", filled.name, made["pin"]).returncode == 0
    assert json.loads(run("pins", "--json", filled.name).stdout) == []
    collected(filled)
    assert sizes(filled) == []


def test_what_is_not_there_cannot_be_pinned(filled: cas.Store, root: cas.ArtifactRoot):
    for arguments in (("pin", f"{filled.name}/{root.path}/none"), ("unpin", filled.name, "0" * 26)):
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (1, "")


class Parts(MemoryBackend):
    """Knows of uploads by parts that were neither completed nor aborted."""

    def __init__(self) -> None:
        super().__init__()
        self.uploads: list[Unfinished] = []

    def unfinished(self) -> Iterator[Unfinished]:
        return iter(self.uploads)

    def abort(self, key: str, upload_id: str) -> None:
        self.uploads = [each for each in self.uploads if (each.key, each.upload_id) != (key, upload_id)]


def test_uploads_nobody_goes_on_with_are_aborted_and_those_of_living_writers_are_not():
    backend = Parts()
    root = cas.Store.create(backend).artifact_root("a")
    root.ingest_bytes(b"x", "x")
    with root.log_call() as writer:
        writer.announce()
        now = time.time()
        living, dead = (blob_key(digest_of(b"weights"), intent) for intent in (writer.intent, new_ulid()))
        staged, foreign = f"{UPLOADS}{'0' * 64}/{new_ulid()}", "somebody/else's"
        for key, days in ((living, 3), (dead, 3), (dead, 1), (staged, 3), (foreign, 3)):
            backend.uploads.append(Unfinished(key, f"{key} {days}", now - days * DAY))
        collect.execute(root.store, collect.plan(root.store))
        assert [each.upload_id for each in backend.uploads] == [f"{living} 3", f"{dead} 1", f"{foreign} 3"]
