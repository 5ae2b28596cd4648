"""How long does logging a checkpoint directory through MLflow take, and what does it copy?"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.harness import Aim, Options, Result, rotated, run_apart, sampler
from benchmarks.places import Place
from benchmarks.stats import paired_ratio

OURS, PATH, LOCAL = "log_checkpoint", "MLflow by path, cas store", "MLflow by path, local files"
FIRST, AGAIN = "first", "again"


def log_with(way: str, work: str, model: str) -> Callable[[], object]:
    """Set up a tracking database if there is none, and return one log call; it returns bytes left in TMPDIR."""
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
    options = {"name": "m", "task": "text-generation", "pip_requirements": ["torch"]}
    # What MLflow imports to log any checkpoint is not what is asked for.
    import transformers

    transformers.AutoTokenizer.from_pretrained(model)
    transformers.pipelines.check_task("text-generation")

    def run() -> object:
        if way == OURS:
            cas_mlflow.log_checkpoint(model, **options)
        else:
            mlflow.transformers.log_model(model, **options)
        return None

    return run


def run(options: Options, place: Place) -> Result:
    result = Result(f"log_checkpoint: {options.size / 1e9:g} GB in 4 shards", place.name, OURS)
    model = place.directory / "model"
    run_apart(_make_model, model, options.size // 1_000_000)
    size = sum(shard.stat().st_size for shard in model.glob("*.safetensors"))
    for number, way in rotated(options.rounds, [OURS, PATH, LOCAL]):
        with sampler(place, way, number, ("mlflow", "cas_mlflow")) as sampling:
            for step in (FIRST, AGAIN):
                store = sampling.work / "store"
                arguments = (way, str(sampling.work), str(model))
                result.samples.append(sampling.take(step, log_with, *arguments, store=store, logical=size))
    mine = [each for each in result.samples if each.contender == OURS]
    first = median(each.disk_written for each in mine if each.step == FIRST) / size
    result.aims = [
        Aim("first: bytes written / bytes of the weights", 0.01 if place.reflinks else 1.02, first),
        Aim("again: seconds", 2, median(each.wall for each in mine if each.step == AGAIN)),
        Aim(
            "first: log_checkpoint / MLflow by path, cas store", 1, paired_ratio(result.samples, FIRST, OURS, PATH)
        ),
    ]
    return result


def _make_model(directory: Path, megabytes: int) -> None:
    from tests.support.models import tiny_llama

    os.environ["OMP_NUM_THREADS"] = "1"
    tiny_llama(directory, megabytes=megabytes, shards=4)
