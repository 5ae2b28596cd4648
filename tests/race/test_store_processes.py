"""Several processes use one store at the same time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

import cas
from cas.backends import LocalBackend
from cas.errors import KeyExists, StoreExists
from cas.keys import BLOBS, INTENTS, MANIFESTS
from cas.verify import verify
from tests.support.reading import read

PLACE = "7/models/m-1/artifacts"
SHARED = b"what every process logs" * 2000
_context = get_context("spawn")


def _at_once(count: int, work: Callable[..., Any], *arguments: object) -> list[Any]:
    """Call ``work(barrier, number, *arguments)`` in as many new processes."""
    with _context.Manager() as manager, ProcessPoolExecutor(count, _context) as pool:
        barrier = manager.Barrier(count)
        started = [pool.submit(work, barrier, number, *arguments) for number in range(count)]
        return [each.result() for each in started]


def _root(store: Path) -> cas.ArtifactRoot:
    return cas.Store.open(store).artifact_root(PLACE)


def _own_files(number: int) -> dict[str, bytes]:
    """What one process logs: some of it small, some the same as others log."""
    files = {f"{number}/{each}": b"%d.%d" % (number, each) * (1 if each % 3 else 9000) for each in range(15)}
    return files | {f"{number}/shared": SHARED, "everybody's": SHARED}


def _log(barrier: Any, number: int, store: Path) -> None:
    root = _root(store)
    barrier.wait()
    for path, data in _own_files(number).items():
        root.ingest_bytes(data, path)
        if path.endswith("/7"):
            root.fold()


def test_processes_that_log_at_once_lose_nothing(tmp_path: Path) -> None:
    store = cas.Store.create(tmp_path / "store")
    _at_once(4, _log, tmp_path / "store")
    root = _root(tmp_path / "store")
    expected = {path: data for number in range(4) for path, data in _own_files(number).items()}
    assert {entry.path: read(root, entry.path) for entry in root.manifest()} == expected
    assert verify(store).problems == []
    assert list(store.backend.list(INTENTS)) == []


def _log_same(barrier: Any, number: int, store: Path) -> None:
    root = _root(store)
    for attempt in range(10):
        barrier.wait()
        root.ingest_bytes(b"%d" % attempt * 20_000, f"{number}/{attempt}")


def test_processes_that_log_the_same_bytes_at_once_agree(tmp_path: Path) -> None:
    """Each may store a blob of its own, but no digest has more of them than processes."""
    store = cas.Store.create(tmp_path / "store")
    _at_once(3, _log_same, tmp_path / "store")
    root = _root(tmp_path / "store")
    assert len(root.manifest()) == 30
    assert all(read(root, entry.path) == entry.path[2:].encode() * 20_000 for entry in root.manifest())
    assert 10 <= len(list(store.backend.list(BLOBS))) <= 30


def _write_and_fold(barrier: Any, number: int, store: Path) -> list[str]:
    """Number 0 folds, 1 logs, the others look whether all that was there is there."""
    lost: list[str] = []
    if number == 0:
        barrier.wait()
        for _ in range(120):
            _root(store).fold()
    elif number == 1:
        root = _root(store)
        barrier.wait()
        for each in range(120):
            root.ingest_bytes(b"%d" % each, f"new/{each}")
    else:
        known = _root(store)
        barrier.wait()
        seen = 0
        for turn in range(150):
            root = known if turn % 3 == 0 else _root(store)
            manifest = root.manifest()
            lost += [f"old/{each}" for each in range(40) if manifest.get(f"old/{each}") is None]
            lost += [f"new/{each}" for each in range(seen) if manifest.get(f"new/{each}") is None]
            seen = max(seen, len(manifest) - 40)
            path = f"old/{turn % 40}"
            if read(root, path) != path.encode():
                lost.append(path)
    return lost


def test_a_reader_never_misses_a_file_while_others_fold(tmp_path: Path) -> None:
    root = cas.Store.create(tmp_path / "store").artifact_root(PLACE)
    for each in range(40):
        root.ingest_bytes(f"old/{each}".encode(), f"old/{each}")
    assert _at_once(4, _write_and_fold, tmp_path / "store") == [[]] * 4
    assert len(root.manifest()) == 160


def _fold(barrier: Any, number: int, store: Path) -> None:
    root = _root(store)
    barrier.wait()
    root.fold()


def test_folds_at_once_change_nothing(tmp_path: Path) -> None:
    root = cas.Store.create(tmp_path / "store").artifact_root(PLACE)
    for each in range(25):
        root.ingest_bytes(b"%d" % each, f"{each % 20}")
    root.remove("19")
    before = root.manifest().digest
    _at_once(4, _fold, tmp_path / "store")
    after = _root(tmp_path / "store")
    assert after.manifest().digest == before
    assert all(read(after, entry.path) for entry in after.manifest())
    after.fold()
    after.fold()
    assert len(list(root.store.backend.list(MANIFESTS))) == 1
    assert after.manifest().digest == before


def _create(barrier: Any, number: int, place: Path) -> list[str]:
    """The ids of the stores this process created."""
    created = []
    for attempt in range(20):
        barrier.wait()
        with suppress(StoreExists):
            created.append(cas.Store.create(place / str(attempt)).settings.id)
    return created


def test_of_processes_that_create_a_store_exactly_one_succeeds(tmp_path: Path) -> None:
    created = [each for ids in _at_once(4, _create, tmp_path) for each in ids]
    assert sorted(created) == sorted(cas.Store.open(tmp_path / str(attempt)).settings.id for attempt in range(20))


def _create_keys(barrier: Any, number: int, place: Path) -> list[int]:
    backend = LocalBackend(place)
    won = []
    for attempt in range(30):
        barrier.wait()
        try:
            backend.put(f"condemned/{attempt}", [b"%d" % number * 1000], create=True)
            won.append(attempt)
        except KeyExists:
            pass
    return won


def test_of_processes_that_create_a_key_exactly_one_succeeds(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    winners = _at_once(4, _create_keys, tmp_path)
    assert sorted(attempt for won in winners for attempt in won) == list(range(30))
    backend = LocalBackend(tmp_path)
    for number, won in enumerate(winners):
        assert all(backend.read(f"condemned/{attempt}") == b"%d" % number * 1000 for attempt in won)


def _stage_and_wait(channel: Connection, store: Path) -> None:
    """Begin a log call; finish it when told to."""
    opened = cas.Store.open(store)
    staging = opened.staging()
    staging.write(SHARED)
    tree = opened.scratch.tree()
    (tree / "file").write_bytes(b"in use")
    channel.send(str(opened.scratch.directory))
    channel.recv()
    opened.artifact_root(PLACE).ingest_staged(staging.finish(), "finished")
    channel.send((tree / "file").exists())


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


def _begin(stack: ExitStack, store: Path) -> tuple[Any, Connection, Path]:
    ours, theirs = _context.Pipe()
    process = _context.Process(target=_stage_and_wait, args=(theirs, store))
    process.start()
    stack.callback(process.join)
    stack.callback(process.kill)
    stack.callback(ours.close)
    theirs.close()
    return process, ours, Path(ours.recv())


def test_what_a_killed_process_left_is_swept_by_the_next(tmp_path: Path, stack: ExitStack) -> None:
    cas.Store.create(tmp_path / "store")
    process, _, scratch = _begin(stack, tmp_path / "store")
    assert [path for path in scratch.iterdir() if path.is_file()]
    process.kill()
    process.join()
    _root(tmp_path / "store").ingest_bytes(b"x", "x")
    assert not scratch.exists()


def test_what_a_living_process_uses_is_not_swept(tmp_path: Path, stack: ExitStack) -> None:
    """Nor what one uses that was only stopped."""
    cas.Store.create(tmp_path / "store")
    process, channel, scratch = _begin(stack, tmp_path / "store")
    os.kill(process.pid, signal.SIGSTOP)
    _root(tmp_path / "store").ingest_bytes(b"x", "x")
    assert scratch.exists()
    os.kill(process.pid, signal.SIGCONT)
    channel.send("finish")
    assert channel.recv() is True
    assert read(_root(tmp_path / "store"), "finished") == SHARED


def test_a_killed_process_that_nobody_waited_for_is_dead(tmp_path: Path) -> None:
    """A zombie keeps its pid and start time; its scratch may stay until it is reaped, and then goes."""
    cas.Store.create(tmp_path / "store")
    with ExitStack() as stack:
        process, _, scratch = _begin(stack, tmp_path / "store")
        os.kill(process.pid, signal.SIGKILL)
        _root(tmp_path / "store").ingest_bytes(b"x", "x")
    _root(tmp_path / "store").ingest_bytes(b"y", "y")
    assert not scratch.exists()


_FORKS = """
import os, sys
import cas
store = cas.Store.open(sys.argv[1])
tree = store.scratch.tree()
(tree / "file").write_bytes(b"in use")
child = os.fork()
if child == 0:
    own = store.scratch.tree()
    assert own.parent != tree.parent
    store.artifact_root("a").ingest_bytes(b"from the child" * 2000, "child")
    sys.exit(0)  # runs what atexit was told
assert os.waitpid(child, 0)[1] == 0
assert (tree / "file").read_bytes() == b"in use"
store.artifact_root("a").ingest_bytes(b"from the parent" * 2000, "parent")
"""


def test_a_forked_child_takes_nothing_of_its_parents_away(tmp_path: Path) -> None:
    store = cas.Store.create(tmp_path / "store")
    subprocess.run([sys.executable, "-c", _FORKS, tmp_path / "store"], check=True)
    assert {entry.path for entry in store.artifact_root("a").manifest()} == {"child", "parent"}
    assert list(store.scratch.parent.iterdir()) == [store.scratch.directory]


def test_a_process_that_ends_takes_its_scratch_along(tmp_path: Path) -> None:
    store = cas.Store.create(tmp_path / "store")
    code = "import cas, sys; cas.Store.open(sys.argv[1]).scratch.tree()"
    subprocess.run([sys.executable, "-c", code, tmp_path / "store"], check=True)
    assert list(store.scratch.parent.iterdir()) == [store.scratch.directory]
