"""What do many small files cost: logged as one directory, one by one, listed, downloaded?

Nothing is deleted before the end, and little should have been in the minutes before; see ``Sampler``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.data import make_small_files
from benchmarks.harness import REPOSITORIES, Aim, Options, Result, Sample, Sampler, rotated, sampler
from benchmarks.places import Place
from benchmarks.stats import paired_ratio, spread

TREE, ONE_BY_ONE = "as one directory", "one by one"
COLD, WARM = "list, new process", "list again"
COLD_SINGLE = "list what came one by one, new process"
DOWNLOAD = "download to a directory"
CAS, LOCAL = "cas", "MLflow local (not synced)"
_SMALLEST, _LARGEST = 4 << 10, 40 << 10


def _repository(kind: str, root: str) -> Any:
    if kind == CAS:
        from cas_mlflow.repository import CasArtifactRepository

        return CasArtifactRepository(f"cas://{root}")
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    return LocalArtifactRepository(root)


def log_tree(kind: str, root: str, source: str) -> Callable[[], object]:
    repository = _repository(kind, root)
    return lambda: repository.log_artifacts(source, "files")


def log_each(kind: str, root: str, source: str, count: int) -> Callable[[], object]:
    repository = _repository(kind, root)
    files = sorted(Path(source).iterdir())
    chosen = files[:: max(1, len(files) // count)][:count]  # of all sizes

    def run() -> int:
        for file in chosen:
            repository.log_artifact(file, "files")
        return len(chosen)

    return run


def list_all(kind: str, root: str, before: bool) -> Callable[[], object]:
    repository = _repository(kind, root)
    if before:
        repository.list_artifacts("files")
    return lambda: len(repository.list_artifacts("files"))


def download(kind: str, root: str, target: str) -> Callable[[], object]:
    repository = _repository(kind, root)
    Path(target).mkdir()

    def run() -> None:
        repository.download_artifacts("files", target)

    return run


def run(options: Options, place: Place) -> Result:
    count = max(300, int(10_000 * options.scale))
    single = count // 10
    source = place.directory / "files"
    size = make_small_files(source, count, _SMALLEST, _LARGEST)
    result = Result(f"small files: {count} of 4–40 KiB, {size / 1e6:.0f} MB", place.name, CAS)  # noqa: RUF001
    for number, contender in rotated(options.rounds, (CAS, LOCAL)):
        with sampler(place, contender, number, REPOSITORIES, keep=True) as sampling:
            result.samples += _sequence(contender, sampling, source, single, size)
    _judge(result, count, single)
    return result


def _sequence(contender: str, sampling: Sampler, source: Path, single: int, size: int) -> Iterator[Sample]:
    store = sampling.work / "store"
    if contender == CAS:
        import cas

        cas.Store.create(store)
    else:
        store.mkdir()
    tree, singles = (store / f"1/{run}/artifacts" for run in ("a" * 32, "b" * 32))

    def written(path: Path) -> Path | None:
        return path if contender == LOCAL else None

    yield sampling.take(TREE, log_tree, contender, tree, source, store=store, sync=written(tree), logical=size)
    yield sampling.take(COLD, list_all, contender, tree, False)
    yield sampling.take(WARM, list_all, contender, tree, True)
    target = sampling.work / "target"
    yield sampling.take(DOWNLOAD, download, contender, tree, target, store=store, logical=size)
    yield sampling.take(
        ONE_BY_ONE, log_each, contender, singles, source, single, store=store, sync=written(singles)
    )
    yield sampling.take(COLD_SINGLE, list_all, contender, singles, False)


def _judge(result: Result, count: int, single: int) -> None:
    samples = result.samples

    def median(step: str) -> float:
        return spread(each.wall for each in samples if each.step == step and each.contender == CAS).median

    for each in samples:
        expected = {COLD: count, WARM: count, COLD_SINGLE: single, ONE_BY_ONE: single}.get(each.step)
        if expected is not None and each.answer != expected:
            raise AssertionError(f"{each.contender}, {each.step}: {each.answer} files, not {expected}")
    result.aims = [
        Aim(f"{TREE}, durable: time / MLflow local, not synced", 2, paired_ratio(samples, TREE, CAS, LOCAL)),
        Aim(
            f"{single} files one by one, each durable: files a second",
            200,
            single / median(ONE_BY_ONE),
            at_least=True,
        ),
        Aim(f"{COLD}: seconds", 1, median(COLD)),
        Aim(f"{WARM}: seconds", 1, median(WARM)),
    ]
    result.notes.append(f"{ONE_BY_ONE}: {single} of the files, into an artifact root of their own.")
