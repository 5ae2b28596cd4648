"""How fast is all of a store read and compared with its digests, against hashing alone and against restic?"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from benchmarks.data import make_shards
from benchmarks.harness import Aim, Options, Result, rotated, run_apart, sampler
from benchmarks.places import Place
from benchmarks.stats import paired_ratio

FULL, QUICK = "read everything", "look only"
CAS, BLAKE3, RESTIC = "cas verify", "blake3 alone", "restic check --read-data"
_PASSWORD = {"RESTIC_PASSWORD": "benchmark"}


def make_store(store: str, model: str) -> None:
    from cas import Store

    Store.create(Path(store)).artifact_root("m").ingest_tree(model)


def make_repository(repository: str, model: str) -> None:
    _restic(repository, "init")
    _restic(repository, "backup", model)


def verify_with_cas(store: str, quick: bool) -> Callable[[], object]:
    from cas import Store
    from cas.verify import verify

    os.environ["XDG_CACHE_HOME"] = f"{store}-cache"
    opened = Store.open(Path(store))

    def run() -> str:
        report = verify(opened, quick=quick)
        assert not report.problems
        return f"{report.blobs} blobs"

    return run


def hash_with_blake3(store: str) -> Callable[[], object]:
    """Its own way for files, of the same files: mapped whole, on all cores."""
    from blake3 import blake3

    files = [path for path in Path(store, "blobs").rglob("*") if path.is_file()]
    return lambda: [blake3(max_threads=blake3.AUTO).update_mmap(file).hexdigest() for file in files]


def check_with_restic(repository: str) -> Callable[[], object]:
    return lambda: _restic(repository, "check", "--read-data")


def run(options: Options, place: Place) -> Result:
    result = Result(f"verify: {options.size / 1e9:g} GB in {options.shards} blobs", place.name, CAS)
    model, store, repository = (place.directory / name for name in ("verified", "store", "restic"))
    run_apart(make_shards, model, options.size, options.shards)
    run_apart(make_store, str(store), str(model))
    contenders = [CAS, BLAKE3]
    if shutil.which("restic"):
        make_repository(str(repository), str(model))
        contenders.append(RESTIC)
    else:
        result.notes.append("restic is not installed, so it is left out (apt-get install restic).")
    result.notes.append("dvc is not here: it has no command that reads its cache again.")
    for number, name in rotated(options.rounds, contenders):
        with sampler(place, name, number) as taking:
            if name == CAS:
                for step, quick in ((FULL, False), (QUICK, True)):
                    result.samples.append(taking.take(step, verify_with_cas, store, quick, logical=options.size))
            elif name == BLAKE3:
                result.samples.append(taking.take(FULL, hash_with_blake3, store, logical=options.size))
            else:
                result.samples.append(taking.take(FULL, check_with_restic, repository, logical=options.size))
    for each in (model, store, repository):
        shutil.rmtree(each, ignore_errors=True)
    fraction = paired_ratio(result.samples, FULL, BLAKE3, CAS)
    result.aims = [Aim("speed of cas verify / of blake3 alone", 0.85, fraction, at_least=True)]
    return result


def _restic(repository: str, *words: str) -> None:
    command = ["restic", "--no-cache", "--repo", repository, *words]
    done = subprocess.run(command, env={**os.environ, **_PASSWORD}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
