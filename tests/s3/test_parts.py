"""Reading a part of a model in a bucket moves that part."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import torch
from safetensors.torch import save_file

import cas_mlflow
from cas import Store
from tests.support.s3_faults import FaultProxy
from tests.support.s3_server import S3Server

from .conftest import MB, PLACE

SHARDS, TENSORS = 8, 256
"""Tensors of 1 MB in each shard: 2 GB in all."""


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


def write_shard(path: Path, shard: int) -> None:
    """Zeros, which take no space here, but for its last tensor."""
    spans = {f"{shard}.{number}": [number * MB, (number + 1) * MB] for number in range(TENSORS)}
    tensors = {name: {"dtype": "F32", "shape": [256, 1024], "data_offsets": span} for name, span in spans.items()}
    header = json.dumps(tensors).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.seek((TENSORS - 1) * MB, 1)
        file.write(torch.full((256, 1024), shard + 0.5).numpy().tobytes())


@pytest.fixture
def huge(s3_environment: S3Server, uri: str, tmp_path: Path) -> Iterator[Store]:
    """A model of 2 GB that came to the server without the proxy, which remembers all that passes it."""
    store = Store.create(uri)
    root = store.artifact_root(PLACE)
    for shard in range(SHARDS):
        write_shard(tmp_path / "shard", shard)
        root.ingest_file(tmp_path / "shard", f"model-{shard}.safetensors")
    (tmp_path / "shard").unlink()
    root.ingest_bytes(b"flavors: {}", "MLmodel")
    yield store
    store.backend.delete([key for key, _ in store.blobs.listing()])


@pytest.mark.timeout(600)
def test_one_tensor_of_a_large_model_moves_less_than_3_mb(huge: Store, request: pytest.FixtureRequest) -> None:
    assert sum(size for _, size in huge.blobs.listing()) > 2_000 * MB
    proxy = request.getfixturevalue("proxy")
    with cas_mlflow.open_tensors(f"{huge.uri}/{PLACE}") as tensors:
        assert torch.equal(tensors[f"5.{TENSORS - 1}"], torch.full((256, 1024), 5.5))
    moved = sum(len(each.body) + len(each.answer) for each in proxy.log)
    assert MB < moved < 3 * MB
