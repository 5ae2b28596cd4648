"""How long does a model take through MLflow when artifacts are in a bucket: logged, logged again, loaded, and
loaded again on the same machine?

A checkpoint is logged by its path, as MLflow's guide to large models has it, and loaded by ``mlflow.transformers``.
What MLflow itself does is in every time: by path it copies all of the checkpoint to TMPDIR first, and a load
makes a model of what came.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.checkpoint import import_what_any_needs
from benchmarks.data import make_checkpoint, weights_size
from benchmarks.harness import Aim, Options, Result, Sample, rotated, run_apart, sampler
from benchmarks.hub_peers import REQUIREMENTS
from benchmarks.places import Place
from benchmarks.stats import paired_ratio
from tests.support.s3_server import S3Server, s3_server

_SHARDS = 4
OURS, PATH, OWN = "log_checkpoint, cas-s3://", "MLflow by path, cas-s3://", "MLflow by path, s3://"
LOGS, LOADS = ("log", "log again"), ("load", "load again")


def log_with(way: str, work: str, model: str, address: str) -> Callable[[], object]:
    """One log call into a run of its own. Leaves its model's address in the work directory."""
    import mlflow
    import mlflow.transformers

    import cas_mlflow

    experiment = _enter(work, address)
    import_what_any_needs(model)
    log = cas_mlflow.log_checkpoint if way == OURS else mlflow.transformers.log_model

    def run() -> str:
        with mlflow.start_run(experiment_id=experiment):
            logged = log(model, name="m", task="text-generation", pip_requirements=REQUIREMENTS)
        Path(work, "model").write_text(logged.model_uri)
        return str(logged.model_uri)

    return run


def load_with(_way: str, work: str, model: str, address: str) -> Callable[[], object]:
    """Load the model that was logged last. Each load is by another process."""
    import mlflow.transformers

    _enter(work, address)
    import_what_any_needs(model)
    uri = Path(work, "model").read_text()
    return lambda: str(type(mlflow.transformers.load_model(uri)))


def _enter(work: str, address: str) -> str:
    """Set up the tracking database, if there is none; returns the experiment whose artifacts are at ``address``."""
    import mlflow

    from cas import Store

    os.environ["CAS_CACHE"] = f"{work}/cache"
    os.environ["CAS_STAT_CACHE"] = f"{work}/stat.sqlite3"
    mlflow.set_tracking_uri(f"sqlite:///{work}/mlflow.db")
    known = mlflow.get_experiment_by_name("bench")
    if known is not None:
        return str(known.experiment_id)
    if address.startswith("cas"):
        Store.create(address)
    return str(mlflow.create_experiment("bench", f"{address}/1"))


def run(options: Options, place: Place) -> Result:
    result = Result(f"bucket_models: {options.size / 1e9:g} GB in {_SHARDS} shards, S3", place.name, OURS)
    model = place.directory / "model"
    run_apart(make_checkpoint, model, options.size, _SHARDS)
    size = weights_size(model)
    for number, way in rotated(options.rounds, [OURS, PATH, OWN]):
        # A new server each time: all that it keeps is in memory.
        with tempfile.TemporaryDirectory() as directory, s3_server(Path(directory) / "s3") as server:
            os.environ.update(server.environment())
            result.samples += _sequence(place, way, number, server=server, model=model, size=size)
    result.aims = list(_aims(result.samples))
    return result


def _sequence(place: Place, way: str, number: int, *, server: S3Server, model: Path, size: int) -> Iterator[Sample]:
    address = f"{way.rpartition(' ')[2]}{server.make_bucket('bench')}/team"
    with sampler(place, way, number, ("mlflow", "cas_mlflow")) as taking:
        for step in (*LOGS, *LOADS):
            operation = log_with if step in LOGS else load_with
            yield taking.take(step, operation, way, taking.work, model, address, logical=size, watch=True)


def _aims(samples: list[Sample]) -> Iterator[Aim]:
    for step in (*LOGS, *LOADS):
        for way in (OURS, PATH):
            yield Aim(f"{step}: {way} / {OWN}", 1, paired_ratio(samples, step, way, OWN))
