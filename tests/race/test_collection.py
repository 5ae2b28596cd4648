"""Several processes log, fold and remove, while others collect without any grace: nothing acknowledged is lost."""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cas
from cas import collect
from cas.keys import INTENTS
from cas.verify import verify
from tests.support.reading import read

LOGGERS, COLLECTORS, CALLS = 4, 2, 60
_context = get_context("spawn")


def _place(number: int) -> str:
    return f"7/models/m-{number}/artifacts"


def _contents(number: int) -> bytes:
    """Few different ones, so that what one process removes another is about to log."""
    return b"%d" % number * 20_000


def _log(barrier: Any, running: Any, number: int, store: str, calls: int) -> dict[str, bytes]:
    """Log, remove and read; returns what was acknowledged, and not removed since."""
    chance = random.Random(number)
    root = cas.Store.open(store).artifact_root(_place(number))
    acknowledged: dict[str, bytes] = {}
    barrier.wait()
    try:
        for _ in range(calls):
            path = f"file-{chance.randrange(2)}"
            if path in acknowledged and chance.random() < 0.7:
                root.remove(path)
                del acknowledged[path]
                continue
            data = _contents(chance.randrange(6))
            if chance.random() < 0.2:
                with root.log_call([path, f"{path}-again"]) as writer:
                    writer.put_bytes(path, data)
                    writer.hold()
                    writer.put_bytes(f"{path}-again", data)
                    writer.commit()
                acknowledged[f"{path}-again"] = data
            else:
                root.ingest_bytes(data, path)
            acknowledged[path] = data
            assert read(root, path) == data
            if chance.random() < 0.1:
                root.fold()
    finally:
        running.get()
    return acknowledged


def _collect(barrier: Any, running: Any, store: str) -> int:
    """Returns how many blobs went."""
    deleted = 0
    opened = cas.Store.open(store)
    barrier.wait()
    while not running.empty():
        deleted += collect.execute(opened, collect.plan(opened, grace=0)).blobs
    return deleted


def _run(store: str, calls: int) -> tuple[list[dict[str, bytes]], int]:
    with _context.Manager() as manager, ProcessPoolExecutor(LOGGERS + COLLECTORS, _context) as pool:
        barrier, running = manager.Barrier(LOGGERS + COLLECTORS), manager.Queue()
        for number in range(LOGGERS):
            running.put(number)  # each logger takes one when it is done
        logging = [pool.submit(_log, barrier, running, number, store, calls) for number in range(LOGGERS)]
        collecting = [pool.submit(_collect, barrier, running, store) for _ in range(COLLECTORS)]
        return [each.result() for each in logging], sum(each.result() for each in collecting)


def _check(store: str, acknowledged: list[dict[str, bytes]]) -> None:
    opened = cas.Store.open(store)
    for number, expected in enumerate(acknowledged):
        root = opened.artifact_root(_place(number))
        assert {entry.path: read(root, entry.path) for entry in root.manifest()} == expected
    assert verify(opened).problems == []
    assert list(opened.backend.keys(INTENTS)) == []
    collect.execute(opened, collect.plan(opened, grace=0))
    needed = {entry.blob for root in opened.artifact_roots() for entry in root.manifest()}
    assert {key for key, _ in opened.blobs.listing()} == needed


def test_processes_that_log_while_two_collect_lose_nothing(tmp_path: Path) -> None:
    cas.Store.create(tmp_path / "store")
    acknowledged, deleted = _run(str(tmp_path / "store"), CALLS)
    assert deleted > 0
    _check(str(tmp_path / "store"), acknowledged)


def test_nor_do_they_in_a_bucket(bucket: str) -> None:
    uri = f"cas-s3://{bucket}/store"
    cas.Store.create(uri)
    acknowledged, deleted = _run(uri, 15)
    assert deleted > 0
    _check(uri, acknowledged)
