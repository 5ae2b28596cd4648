"""Reading a part of a model in a bucket moves that part."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest
import torch
from safetensors.torch import save_file

import cas_mlflow
from cas import Store
from tests.support.s3_faults import FaultProxy

from .conftest import PLACE


@pytest.fixture
def sharded(store: Store, tmp_path: Path) -> str:
    """A model of 160 MB in 4 shards of 40 tensors of 1 MB each."""
    root = store.artifact_root(PLACE)
    for shard in range(4):
        tensors = {f"{shard}.{number}": torch.full((256, 1024), shard * 40.0 + number) for number in range(40)}
        save_file(tensors, tmp_path / "shard")
        root.ingest_file(tmp_path / "shard", f"model-{shard}.safetensors")
    root.ingest_bytes(b"flavors: {}", "MLmodel")
    return f"{store.uri}/{PLACE}"


def test_one_tensor_costs_its_own_bytes(sharded: str, proxy: FaultProxy) -> None:
    proxy.log.clear()
    with cas_mlflow.open_tensors(sharded) as tensors:
        assert torch.equal(tensors["2.7"], torch.full((256, 1024), 87.0))
    assert proxy.downloaded() < 1.1 * (1 << 20)


def test_a_file_system_reads_ranges(sharded: str, proxy: FaultProxy) -> None:
    proxy.log.clear()
    filesystem, path = fsspec.url_to_fs(sharded)
    assert len(filesystem.cat_file(f"{path}/model-1.safetensors", 20_000_000, 20_000_100)) == 100
    assert proxy.downloaded() < 3 << 20
