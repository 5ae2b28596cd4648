"""How close is taking in a file to what the disk and the hash allow, and does an unchanged file cost nothing again?

One file, through `cas` itself without MLflow. The peers do one part of the work each: `cp` writes the same bytes,
blake3 hashes them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from benchmarks.data import make_file
from benchmarks.harness import CORE, Aim, Options, Result, Sample, rotated, sampler
from benchmarks.places import Place
from benchmarks.stats import paired_ratio, spread

NEW, HASHING = "new file", "hashing"
COPY, CLONE, BLAKE3 = "cp --reflink=never + fdatasync", "cp --reflink=always + fdatasync", "blake3 update_mmap"
SEALED = "cas.ingest.hash_sealed"
_PARTS = (1000, 100, 10, 1)  # of five times --size: by default 10 MB, 100 MB, 1 GB, 10 GB


def ingest(store: str, source: str, root: str) -> Callable[[], object]:
    import cas

    where = cas.Store.open(store).artifact_root(root)
    return lambda: where.ingest_file(source, "model.safetensors")


def copy(source: str, target: str, reflink: str) -> Callable[[], object]:
    def run() -> None:
        subprocess.run(["cp", f"--reflink={reflink}", source, target], check=True)
        descriptor = os.open(target, os.O_RDONLY)
        os.fdatasync(descriptor)
        os.close(descriptor)

    return run


def hash_alone(source: str) -> Callable[[], object]:
    from blake3 import blake3

    def run() -> None:
        blake3(max_threads=blake3.AUTO).update_mmap(source).digest()

    return run


def hash_sealed(source: str) -> Callable[[], object]:
    from cas.ingest import hash_sealed

    def run() -> None:
        hash_sealed(Path(source))

    return run


def run(options: Options, place: Place) -> Result:
    result = Result(f"ingest: a file of {options.size / 1e9:g} GB", place.name, "cas")
    source = place.directory / "new.bin"
    make_file(source, options.size, seed=7)
    contenders = ["cas", COPY, *([CLONE] if place.reflinks else []), BLAKE3, SEALED]
    for number, contender in rotated(options.rounds, contenders):
        result.samples += _once(contender, number, source, options.size, place)
    source.unlink()
    result.samples += _unchanged(options, place, result)
    _judge(result, place)
    return result


def _once(contender: str, number: int, source: Path, size: int, place: Place) -> list[Sample]:
    with sampler(place, contender, number, CORE if contender in ("cas", SEALED) else ("blake3",)) as sampling:
        store = sampling.work / "store"
        if contender == "cas":
            _create(store)
            return [sampling.take(NEW, ingest, store, source, "root", store=store, logical=size)]
        if contender == BLAKE3:
            return [sampling.take(step, hash_alone, source, logical=size) for step in (NEW, HASHING)]
        if contender == SEALED:
            return [sampling.take(HASHING, hash_sealed, source, logical=size)]
        target, mode = sampling.work / "copy", "always" if contender == CLONE else "never"
        return [sampling.take(NEW, copy, source, target, mode, store=target, logical=size)]


def _unchanged(options: Options, place: Place, result: Result) -> list[Sample]:
    """Each size is taken in once, then again in every round, always by another process into another root."""
    samples = []
    for part in _PARTS:
        size = 5 * options.size // part
        if place.free < size * (1.2 if place.reflinks else 2.2):
            result.notes.append(f"{_size(size)} unchanged: left out, the disk has not the room.")
            continue
        with sampler(place, "cas", 0, CORE) as sampling:
            store, source = sampling.work / "store", sampling.work / "unchanged.bin"
            _create(store)
            make_file(source, size, seed=part)
            samples.append(
                sampling.take(f"{_size(size)}, once", ingest, store, source, "0", store=store, logical=size)
            )
            for number in range(options.rounds):
                step = f"{_size(size)}, unchanged"
                again = sampling.take(step, ingest, store, source, f"again-{number}", store=store)
                again.round = number
                samples.append(again)
    return samples


def _judge(result: Result, place: Place) -> None:
    samples = result.samples
    if place.reflinks:
        ratio = paired_ratio(samples, NEW, "cas", BLAKE3)
        result.aims.append(Aim("new file by reflink, durable: time / hashing alone", 1.3, ratio))
    else:
        ratio = paired_ratio(samples, NEW, "cas", COPY)
        result.aims.append(Aim(f"new file, durable: time / {COPY}", 1.15, ratio))
    speed = 1 / paired_ratio(samples, HASHING, SEALED, BLAKE3)
    result.aims.append(Aim(f"hashing: speed / {BLAKE3}", 0.85, speed, at_least=True))
    unchanged: dict[str, list[float]] = {}
    for each in samples:
        if each.step.endswith("unchanged"):
            unchanged.setdefault(each.step, []).append(each.wall)
    (first, *_, last) = unchanged.values()
    result.aims.append(
        Aim(f"{list(unchanged)[-1]}: time / {next(iter(unchanged))}", 2, spread(last).median / spread(first).median)
    )
    peak = max(each.memory - each.memory_before for each in samples if each.contender == "cas")
    result.aims.append(Aim("peak memory above that of the imports, in MB, at any size", 100, peak / 1e6))


def _create(store: Path) -> None:
    import cas

    shutil.rmtree(store, ignore_errors=True)
    cas.Store.create(store)


def _size(size: int) -> str:
    return f"{size / 1e9:g} GB" if size >= 1e9 else f"{size / 1e6:g} MB"
