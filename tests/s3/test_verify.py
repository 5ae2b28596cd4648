"""Verification of a store in a bucket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cas import Store
from cas.backups import Directory
from cas.errors import StoreUnavailable
from cas.repair import repair
from cas.verify import Kind, verify
from tests.support.s3_faults import Exchange, FaultProxy, Times, flipped

from .conftest import PLACE


def is_blob(exchange: Exchange) -> bool:
    return exchange.is_download


def flip_once(exchange: Exchange) -> None:
    exchange.answer = flipped(exchange.answer)


def flip_elsewhere_each_time() -> Callable[[Exchange], None]:
    position = 0

    def flip(exchange: Exchange) -> None:
        nonlocal position
        position += 1
        answer = bytearray(exchange.answer)
        answer[-position] ^= 1
        exchange.answer = bytes(answer)

    return flip


def key_of(store: Store, large: Path) -> str:
    root = store.artifact_root(PLACE)
    root.ingest_file(large, "model/large")
    key = root.entry("model/large").blob
    assert key is not None
    return key


def test_a_damaged_blob_is_kept_in_quarantine_and_logging_it_again_heals(store: Store, large: Path) -> None:
    key = key_of(store, large)
    store.backend.put(key, [b"\0" * large.stat().st_size], create=False)
    (problem,) = verify(store).problems
    assert (problem.kind, problem.models) == (Kind.DAMAGED, (f"{PLACE}/model/large",))
    (kept,) = store.backend.keys("quarantine/")
    assert store.backend.size(kept) == large.stat().st_size
    store.artifact_root(PLACE).ingest_file(large, "model/again")
    assert verify(store).problems == []


def test_a_bit_that_falls_over_on_the_way_is_no_damage(store: Store, large: Path, proxy: FaultProxy) -> None:
    key_of(store, large)
    proxy.after = Times(1, flip_once, is_blob)
    assert verify(store).problems == []


def test_a_machine_that_reads_badly_moves_nothing(store: Store, large: Path, proxy: FaultProxy) -> None:
    key = key_of(store, large)
    proxy.after = Times(10**6, flip_elsewhere_each_time(), is_blob)
    with pytest.raises(StoreUnavailable, match="different each time"):
        verify(store)
    proxy.after = None
    assert [*store.backend.keys("quarantine/")] == []
    assert store.backend.size(key) == large.stat().st_size


def test_quick_reads_no_blob(store: Store, large: Path, proxy: FaultProxy) -> None:
    key = key_of(store, large)
    before = proxy.downloaded()
    assert verify(store, quick=True).blobs == 1
    store.backend.put(key, [b"\0"], create=False)
    assert [each.kind for each in verify(store, quick=True).problems] == [Kind.DAMAGED]
    assert proxy.downloaded() - before < 1 << 20


def test_a_bucket_is_repaired_from_a_directory(store: Store, large: Path, tmp_path: Path) -> None:
    key = key_of(store, large)
    store.backend.put(key, [b"\0" * large.stat().st_size], create=False)
    assert [each.kind for each in verify(store).problems] == [Kind.DAMAGED]
    backup = tmp_path / "backup"
    backup.mkdir()
    (backup / "name").write_bytes(large.read_bytes())
    assert repair(store, directories=[Directory(backup)]).lost == []
    assert verify(store).problems == []
    with store.artifact_root(PLACE).open("model/large") as file:
        assert file.read() == large.read_bytes()
