"""Tensors by their ranges, and files that lie about what they hold."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import cas_mlflow
from cas import Store
from cas.errors import MalformedRecord
from cas_mlflow.tensors import read_header

PLACE = "models/m-0123456789abcdef/artifacts"
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.float8_e4m3fn]


@pytest.fixture
def model(store: Store, tmp_path: Path) -> tuple[str, dict[str, torch.Tensor]]:
    """The address of a model in two shards, and its tensors."""
    tensors = {f"layer.{n}": torch.arange(2 * 3 * (n + 1)).reshape(2, 3, -1).to(d) for n, d in enumerate(DTYPES)}
    tensors |= {"scalar": torch.tensor(7.0), "empty": torch.empty(0, 4)}
    names = sorted(tensors)
    save_file({name: tensors[name] for name in names[:4]}, tmp_path / "one.safetensors", {"format": "pt"})
    save_file({name: tensors[name] for name in names[4:]}, tmp_path / "two.safetensors")
    root = store.artifact_root(PLACE)
    root.ingest_files({f"model/{name}.safetensors": tmp_path / f"{name}.safetensors" for name in ("one", "two")})
    root.ingest_bytes(b"flavors: {}", "MLmodel")
    return f"cas://{store.name}/{PLACE}", tensors


def test_every_tensor_is_what_it_was(model: tuple[str, dict[str, torch.Tensor]]) -> None:
    uri, expected = model
    with cas_mlflow.open_tensors(uri) as tensors:
        assert set(tensors) == set(expected)
        for name, tensor in expected.items():
            assert tensors[name].dtype == tensor.dtype
            assert tensors[name].shape == tensor.shape
            assert torch.equal(tensors[name].to(torch.float64), tensor.to(torch.float64))
            assert tensors.info(name).shape == tuple(tensor.shape)
        with pytest.raises(KeyError):
            tensors["none"]


def described(**changes: object) -> dict[str, object]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


def encoded(header: object, data: bytes = b"\0" * 8) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0" * 7, b"\xff" * 64, (10**9).to_bytes(8, "little") + b"{}", encoded(b"not json"), encoded([]),
        encoded(b"[" * 100_000), encoded({"a": 1}), encoded({"a": {}}), encoded({"a": described(dtype="F33")}),
        encoded({"a": described(dtype=["F32"])}), encoded({"a": described(shape=[3])}),
        encoded({"a": described(shape=[-2])}), encoded({"a": described(shape=[2.0])}),
        encoded({"a": described(shape=[True, 2])}), encoded({"a": described(data_offsets=[0, 16], shape=[4])}),
        encoded({"a": described(data_offsets=[8, 0])}), encoded({"a": described(data_offsets=[0])}),
        encoded({"a": described(), "b": described()}),
        encoded({"a": described(shape=[1], data_offsets=[4, 8])}),
    ],
)  # fmt: skip
def test_a_malformed_file_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedRecord, match="file"):
        read_header(io.BytesIO(data), "file", len(data))


def test_a_header_is_read_only_as_far_as_it_may_reach() -> None:
    """A claim of gigabytes costs nothing."""
    file = io.BytesIO((1 << 40).to_bytes(8, "little"))
    with pytest.raises(MalformedRecord, match="header of"):
        read_header(file, "file", 1 << 50)
