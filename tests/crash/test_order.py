"""The order of system calls, which no injected failure can check: a missing fsync shows only after a power cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cas.digest import digest_of
from cas.keys import blobs_prefix
from tests.crash.operations import BATCH, GARBAGE, NEW, OLD, WEIGHTS
from tests.crash.tracing import SYSTEM_CALLS, Call, calls, copy_of, run_traced

_WRITES = {"write", "copy_file_range", "ftruncate", "fchmod", "utimensat"}


class Trace:
    """What one operation did, call by call, and questions about it."""

    def __init__(self, prepared: Path, directory: Path, name: str) -> None:
        self.store = copy_of(prepared, directory) / "store"
        traced = ",".join((*SYSTEM_CALLS, "ftruncate", "writev"))
        outcome = run_traced(directory, name, ["-s", "100", "-e", f"trace={traced}"])
        assert outcome.acknowledged
        self.calls = calls(outcome.log)

    def find(self, matches: Callable[[Call], bool]) -> list[int]:
        return [number for number, call in enumerate(self.calls) if matches(call)]

    def named(self, below: str) -> list[int]:
        """Where files got a name below a directory of the store."""
        start = f"{self.store}/{below}/"
        return self.find(lambda call: call.name in {"rename", "linkat"} and call.target.startswith(start))

    def written(self, path: str) -> list[int]:
        return self.find(lambda call: call.name in _WRITES and call.target == path)

    def synced(self, path: str, name: str = "fsync") -> list[int]:
        return self.find(lambda call: call.name == name and call.target == path)

    @property
    def acknowledged(self) -> int:
        (number,) = self.find(lambda call: call.name == "writev")
        return number

    def is_synced_before_it_is_named(self, number: int) -> bool:
        """Whether the private file that got a name was written, then synced, and not touched after."""
        temporary = self.calls[number].paths[-2]
        written, synced = self.written(temporary), self.synced(temporary)
        return bool(written) and bool(synced) and max(written) < max(synced) < number

    def directories_synced(self, number: int, until: int) -> bool:
        """Whether the named file's directory is synced after it got its name, and those above, up to the store,
        after what leads there was made (by this process; what others made, at any time)."""
        since, path = number, Path(self.calls[number].target)
        while path != self.store:
            if not any(since < each < until for each in self.synced(str(path.parent))):
                return False
            path = path.parent
            made = self.find(lambda call, path=str(path): call.name == "mkdir" and call.target == path)
            since = max(made, default=-1)
        return True


@pytest.fixture
def trace_of(prepared: Path, tmp_path: Path) -> Callable[[str], Trace]:
    return lambda name: Trace(prepared, tmp_path / "traced", name)


def test_a_blob_is_durable_before_its_fragment_is_named(trace_of: Callable[[str], Trace]) -> None:
    trace = trace_of("a tree")
    (fragment,) = trace.named("manifests")
    blobs = trace.named("blobs")
    assert len(blobs) == 2
    for blob in blobs:
        assert blob < fragment
        assert trace.is_synced_before_it_is_named(blob)
        assert trace.directories_synced(blob, fragment)


@pytest.mark.parametrize("name", ["a tree", "small bytes", "many blobs"])
def test_a_fragment_is_durable_before_it_is_acknowledged(trace_of: Callable[[str], Trace], name: str) -> None:
    """In a directory that was there, too: whoever made it may have died before it was synced."""
    trace = trace_of(name)
    (fragment,) = trace.named(f"manifests/{OLD if name == 'small bytes' else NEW}")
    assert trace.calls[fragment].name == "linkat", "create-only"
    assert trace.is_synced_before_it_is_named(fragment)
    assert trace.directories_synced(fragment, trace.acknowledged)


def test_an_intent_is_visible_before_any_blob_is(trace_of: Callable[[str], Trace]) -> None:
    trace = trace_of("a tree")
    (intent,) = trace.named("intents")
    assert intent < min(trace.named("blobs"))


def test_an_intent_goes_after_the_commit(trace_of: Callable[[str], Trace]) -> None:
    trace = trace_of("a tree")
    gone = trace.find(lambda call: call.name == "unlink" and call.target.startswith(f"{trace.store}/intents/"))
    (fragment,) = trace.named("manifests")
    directory = str(Path(trace.calls[fragment].target).parent)
    assert min(trace.synced(directory)) < min(gone)


def test_a_known_blob_is_pinned_before_the_condemned_lists_are_read(trace_of: Callable[[str], Trace]) -> None:
    """The writer's half of the protocol: list, pin, read what is condemned, look again, commit."""
    trace = trace_of("known bytes")
    (fragment,) = trace.named("manifests")
    _, pinned = trace.named("intents")
    listed = trace.find(
        lambda call: call.name == "openat" and call.target.startswith(f"{trace.store}/blobs/blake3/")
    )
    condemned = trace.find(
        lambda call: call.name == "openat" and call.target.startswith(f"{trace.store}/condemned")
    )
    assert trace.named("blobs") == []
    assert min(listed) < pinned < min(condemned) < max(condemned) < fragment


def test_a_blob_that_was_there_is_durable_before_it_is_relied_on(trace_of: Callable[[str], Trace]) -> None:
    """Whoever stored it may have died between its name and the sync of its name."""
    trace = trace_of("known bytes")
    (fragment,) = trace.named("manifests")
    (blob,) = (trace.store / blobs_prefix(digest_of(WEIGHTS))).iterdir()
    for directory in (blob.parent, *blob.parent.parents[:3]):
        assert min(trace.synced(str(directory))) < fragment, directory


def test_small_files_need_no_intent(trace_of: Callable[[str], Trace]) -> None:
    assert trace_of("small bytes").named("intents") == []


def test_many_blobs_are_synced_together_before_and_after_they_are_named(trace_of: Callable[[str], Trace]) -> None:
    trace = trace_of("many blobs")
    blobs = trace.named("blobs")
    (fragment,) = trace.named("manifests")
    (intent,) = trace.named("intents")
    together = trace.find(lambda call: call.name == "syncfs")
    written = [each for blob in blobs for each in trace.written(trace.calls[blob].paths[-2])]
    assert len(blobs) == len(BATCH)
    assert len(written) >= len(BATCH)
    assert intent < min(blobs)
    assert any(max(written) < each < min(blobs) for each in together)
    assert any(max(blobs) < each < fragment for each in together)


@pytest.mark.parametrize("name", ["a fold", "a log call that folds"])
def test_what_was_folded_is_deleted_after_the_fold_is_durable(trace_of: Callable[[str], Trace], name: str) -> None:
    trace = trace_of(name)
    fold = trace.named("manifests")[-1]
    deleted = trace.find(lambda call: call.name == "unlink" and call.target.startswith(f"{trace.store}/manifests/"))
    assert deleted
    assert trace.is_synced_before_it_is_named(fold)
    assert trace.directories_synced(fold, min(deleted))


def test_nothing_is_deleted_before_what_decided_it_is_durable(trace_of: Callable[[str], Trace]) -> None:
    """Also what others put: a collector may have seen a removal that a power cut takes back."""
    trace = trace_of("a collection")
    listed = trace.find(lambda call: call.name == "openat" and f"{trace.store}/manifests" in call.target)
    condemned = trace.named("condemned")
    deleted = trace.find(lambda call: call.name == "unlink" and call.target.startswith(f"{trace.store}/blobs/"))
    dropped = trace.find(lambda call: call.name == "unlink" and call.target.startswith(f"{trace.store}/condemned/"))
    together = trace.synced(str(trace.store), "syncfs")
    assert len(deleted) == GARBAGE + 1  # and what a dead writer left
    assert any(max(listed) < each < min(deleted) for each in together)
    assert max(condemned) < min(deleted)
    assert any(max(deleted) < each < min(dropped) for each in together)


def test_what_is_condemned_is_published_between_two_markings(trace_of: Callable[[str], Trace]) -> None:
    trace = trace_of("a collection")
    first, second = trace.named("condemned")
    for below in ("intents", "manifests"):
        read = trace.find(lambda call: call.name == "openat" and call.target == f"{trace.store}/{below}")  # noqa: B023
        assert min(read) < first
        assert any(first < each < second for each in read)
    intents = trace.find(lambda call: call.name == "openat" and call.target == f"{trace.store}/intents")
    fragments = trace.find(lambda call: call.name == "openat" and call.target == f"{trace.store}/manifests")
    assert max(each for each in intents if each < second) < max(each for each in fragments if each < second)


def test_a_dead_writer_is_fenced_off_before_its_intent_goes(trace_of: Callable[[str], Trace]) -> None:
    trace = trace_of("a collection")
    [tombstone] = trace.named(f"manifests/{NEW}")
    [gone] = trace.find(lambda call: call.name == "unlink" and call.target.startswith(f"{trace.store}/intents/"))
    assert trace.calls[tombstone].name == "linkat", "create-only"
    assert tombstone < gone


@pytest.mark.parametrize("name", ["a tree", "small bytes", "a fold", "a log call that folds", "many blobs"])
def test_everything_is_read_only_before_it_is_named(trace_of: Callable[[str], Trace], name: str) -> None:
    trace = trace_of(name)
    sealed = trace.find(lambda call: call.name == "fchmod" and "0444" in call.text)
    for number in trace.named("blobs") + trace.named("manifests"):
        temporary = trace.calls[number].paths[-2]
        assert any(each < number and trace.calls[each].target == temporary for each in sealed)


def test_user_files_are_only_read(prepared: Path, tmp_path: Path) -> None:
    trace = Trace(prepared, tmp_path / "traced", "a tree")
    touched = trace.find(
        lambda call: call.name != "openat" and any("/sources/" in path for path in call.paths[-1:])
    )
    assert touched == []
