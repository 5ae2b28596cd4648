"""How long does logging a checkpoint directory through MLflow take, and what does it copy?

MLflow's transformers flavor takes the path of a checkpoint, too; it copies all of it to TMPDIR, and logs the copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from benchmarks.data import make_checkpoint, weights_size
from benchmarks.harness import Aim, Options, Result, Sample, rotated, run_apart, sampler
from benchmarks.hub_peers import REQUIREMENTS
from benchmarks.places import Place
from benchmarks.stats import paired_ratio

_SHARDS = 4
OURS, PATH, LOCAL = "log_checkpoint", "MLflow by path, cas store", "MLflow by path, local files (not synced)"
FIRST, AGAIN = "first", "again"
_TINY = 0.01
"""Of the weights: what may be written where none of them is."""


def log_with(way: str, work: str, model: str) -> Callable[[], object]:
    """Set up a tracking database if there is none, and return one log call."""
    import mlflow
    import mlflow.transformers

    import cas_mlflow
    from cas import Store

    store = Path(work) / "store"
    if not store.exists():
        store.mkdir()
        if way != LOCAL:
            Store.create(store)
    mlflow.set_tracking_uri(f"sqlite:///{work}/mlflow.db")
    location = f"{'file' if way == LOCAL else 'cas'}://{store}/1"
    known = mlflow.get_experiment_by_name("bench")
    experiment = known.experiment_id if known else mlflow.create_experiment("bench", location)
    mlflow.set_experiment(experiment_id=experiment)
    import_what_any_needs(model)
    log = cas_mlflow.log_checkpoint if way == OURS else mlflow.transformers.log_model
    return lambda: str(log(model, name="m", task="text-generation", pip_requirements=REQUIREMENTS).model_uri)


def import_what_any_needs(model: str) -> None:
    """To log any checkpoint, MLflow imports torch and much of transformers: not what is asked for."""
    import transformers

    transformers.AutoTokenizer.from_pretrained(model)
    transformers.pipelines.check_task("text-generation")


def run(options: Options, place: Place) -> Result:
    result = Result(f"log_checkpoint: {options.size / 1e9:g} GB in {_SHARDS} shards", place.name, OURS)
    model = place.directory / "model"
    run_apart(make_checkpoint, model, options.size, _SHARDS)
    size = weights_size(model)
    for number, way in rotated(options.rounds, [OURS, PATH, LOCAL]):
        with sampler(place, way, number, ("mlflow", "cas_mlflow")) as sampling:
            store = sampling.work / "store"
            for step in (FIRST, AGAIN):
                arguments, synced = (way, sampling.work, model), store if way == LOCAL else None
                taken = sampling.take(
                    step, log_with, *arguments, store=store, sync=synced, logical=size, watch=True
                )
                result.samples.append(taken)
    result.aims = list(_aims(result.samples, size, reflinks=place.reflinks))
    return result


def _aims(samples: list[Sample], size: int, *, reflinks: bool) -> Iterator[Aim]:
    mine = [each for each in samples if each.contender == OURS]
    first, again = ([each for each in mine if each.step == step] for step in (FIRST, AGAIN))
    written = median(each.disk_written for each in first) / size
    yield Aim("first: bytes written / bytes of the weights", _TINY if reflinks else 1 + 2 * _TINY, written)
    temporary = max(each.temporary or 0 for each in mine) / size
    yield Aim("bytes in TMPDIR at most / bytes of the weights", _TINY, temporary)
    yield Aim("again: seconds", 2, median(each.wall for each in again))
    yield Aim("again: bytes written / bytes of the weights", _TINY, median(e.disk_written for e in again) / size)
    by_path = paired_ratio(samples, FIRST, OURS, PATH)
    yield Aim("first: time of log_checkpoint / MLflow by path, cas store", 1, by_path)
