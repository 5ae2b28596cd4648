"""Test data: incompressible, different in every block, the same for the same seed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 16 << 20


def make_file(path: Path, size: int, seed: int) -> None:
    with open(path, "wb", buffering=0) as file:
        for block in _random(size, seed):
            view = block
            while view:
                view = view[file.write(view) :]


def make_shards(directory: Path, size: int, shards: int, seed: int = 1) -> list[Path]:
    """``size`` bytes as equal files, named as models are."""
    directory.mkdir(parents=True)
    paths = [directory / f"model-{number:05}-of-{shards:05}.safetensors" for number in range(1, shards + 1)]
    for number, path in enumerate(paths):
        make_file(path, size // shards, seed * 1000 + number)
    return paths


def make_small_files(directory: Path, count: int, smallest: int, largest: int) -> int:
    """Files of evenly spread sizes; returns their bytes in total."""
    directory.mkdir(parents=True)
    total = 0
    for number in range(count):
        size = smallest + (largest - smallest) * number // max(1, count - 1)
        make_file(directory / f"file-{number:05}.bin", size, 10_000_000 + number)
        total += size
    return total


def make_checkpoint(directory: Path, size: int, shards: int) -> None:
    """A real checkpoint of transformers of about ``size`` bytes. Imports torch: run it apart."""
    os.environ["OMP_NUM_THREADS"] = "1"
    from tests.support.models import tiny_llama

    tiny_llama(directory, megabytes=max(1, size // 1_000_000), shards=shards)


def weights_size(directory: Path) -> int:
    return sum(shard.stat().st_size for shard in directory.glob("*.safetensors"))


def copy_tree(source: Path, target: Path) -> None:
    """New inodes with bytes of their own, as when a model is saved again: never by reflink, nor old times."""
    target.mkdir(parents=True)
    for name in sorted(os.listdir(source)):
        with open(source / name, "rb") as reading, open(target / name, "wb") as writing:
            shutil.copyfileobj(reading, writing, 1 << 20)


def _random(size: int, seed: int) -> Iterator[memoryview]:
    from numpy.random import SFC64

    generator = SFC64(seed)
    for start in range(0, size, _BLOCK):
        length = min(_BLOCK, size - start)
        yield generator.random_raw((length + 7) // 8).data.cast("B")[:length]
