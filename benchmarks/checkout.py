"""How long does it take to write out a large model: into a tree that is thrown away, and where the user says?

A hundred blobs, five times --size together, with real bytes. The store is filled once; each sample makes a tree.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.data import make_shards
from benchmarks.harness import CORE, Aim, Options, Result, rotated, sampler
from benchmarks.places import Place
from benchmarks.stats import spread

BLOBS = 100
DISPOSABLE, ELSEWHERE, OWN = "disposable tree", "disposable tree on /dev/shm", "user's directory"
CAS, COPY, CLONE = "cas", "cp -r --reflink=never (not synced)", "cp -r --reflink=auto (not synced)"
_SHM = Path("/dev/shm")


def check_out(store: str, target: str, disposable: bool) -> Callable[[], object]:
    import cas

    root = cas.Store.open(store).artifact_root("model")

    def run() -> dict[str, int]:
        return {str(mode): count for mode, count in root.checkout("", target, disposable=disposable).files.items()}

    return run


def copy(source: str, target: str, reflink: str) -> Callable[[], object]:
    def run() -> None:
        subprocess.run(["cp", "-r", f"--reflink={reflink}", source, target], check=True)

    return run


def run(options: Options, place: Place) -> Result:
    size = 5 * options.size
    result = Result(f"checkout: {BLOBS} blobs, {size / 1e9:g} GB", place.name, CAS)
    store, tree = place.directory / "store", place.directory / "tree"
    _fill(store, tree, size)
    cases = [
        (DISPOSABLE, CAS),
        (ELSEWHERE, CAS),
        (OWN, CAS),
        (OWN, COPY),
        *([(OWN, CLONE)] if place.reflinks else []),
    ]
    if not _SHM.is_dir():
        cases.remove((ELSEWHERE, CAS))
    if not place.reflinks:
        result.notes.append(
            "No reflinks here: cp --reflink=auto is cp --reflink=never. A user's directory gets copies."
        )
    for number, (step, contender) in rotated(options.rounds, cases):
        with sampler(place, contender, number, CORE) as sampling, _target(step, sampling.work) as target:
            if contender == CAS:
                sample = sampling.take(step, check_out, store, target, step != OWN, store=store, logical=size)
            else:
                mode = "never" if contender == COPY else "auto"
                sample = sampling.take(step, copy, tree, target, mode, store=store, sync=target, logical=size)
            result.samples.append(sample)
    shutil.rmtree(store)
    shutil.rmtree(tree)
    for step in (DISPOSABLE, ELSEWHERE, *([OWN] if place.reflinks else [])):
        own = [each for each in result.samples if each.step == step and each.contender == CAS]
        if own:
            modes = ", ".join(f"{count} by {mode}" for mode, count in own[0].answer.items())
            result.aims.append(Aim(f"{step}: seconds ({modes})", 0.2, spread(each.wall for each in own).median))
    return result


def _fill(store: Path, tree: Path, size: int) -> None:
    """A store with the blobs, and for cp a tree that shares them by hardlink: the bytes are on the disk once."""
    import cas

    source = tree.with_name("source")
    make_shards(source, size, BLOBS)
    root = cas.Store.create(store).artifact_root("model")
    root.ingest_tree(source)
    shutil.rmtree(source)
    tree.mkdir()
    for entry in root.manifest():
        path = root.local_path(entry)
        assert path is not None
        (tree / entry.path).hardlink_to(path)


@contextmanager
def _target(step: str, work: Path) -> Iterator[Path]:
    """A place for a tree, gone afterwards."""
    if step != ELSEWHERE:
        yield work / "target"
        return
    with tempfile.TemporaryDirectory(dir=_SHM) as directory:
        yield Path(directory) / "target"
