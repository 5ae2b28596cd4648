"""What this is for, in a minute: one tiny model, logged in each of MLflow's three ways, three times over.

Makes a store, a tracking server, a Llama of 48 MB and a Hugging Face Hub on loopback to serve it, all in one
directory. From there on MLflow works, by its own unmodified calls: only its artifact locations say `cas:`.
Progress goes to stderr, the result to stdout; the exit code is 0 if every model loaded says what the original says.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from cas import Store
from cas.stats import stats
from tests.support.hub import LoopbackHub
from tests.support.models import generate, text_pipeline, tiny_llama
from tests.support.servers import MlflowServer

MEGABYTES, SHARDS, ROUNDS = 48, 6, 3
ON_HUB, REGISTERED, MARK = "demo/tiny-llama", "tiny-llama", ".made-by-the-demo"
# Without them MLflow finds out the requirements by loading the model once more, in another process.
REQUIREMENTS = ["transformers", "torch"]
say = partial(print, file=sys.stderr, flush=True)


class Way(NamedTuple):
    """One way to log, in an experiment of its own: straight into the store, or by the tracking server."""

    title: str
    experiment: str
    by_server: bool = False


PATH = Way("checkpoint path", "path")
CHECKPOINT = Way("  by cas_mlflow.log_checkpoint", "checkpoint")
PATH_BY_SERVER = Way("  the same, by the server", "path-by-server", by_server=True)
PIPELINE = Way("pipeline", "pipeline")
REFERENCE = Way("reference to the Hub", "reference")
HUB_MODEL = Way("  by cas_mlflow.log_reference", "hub-model")


class Row(NamedTuple):
    """What came of logging in one way. ``added`` are the bytes the store grew by, log by log."""

    title: str
    uri: str
    logical: int
    added: list[int]
    seconds: list[float]


class Demo(NamedTuple):
    directory: Path
    store: Path
    hub: LoopbackHub
    server: MlflowServer

    def environment(self, name: str) -> dict[str, str]:
        """For a process with a Hugging Face cache of its own, so that none profits from what another fetched."""
        return {
            **self.hub.environment(self.directory / "hub-caches" / name),
            "MLFLOW_TRACKING_URI": self.server.uri,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
            "CAS_CACHE": str(self.directory / "fetched"),
            "CAS_STAT_CACHE": str(self.directory / "stat-cache.sqlite3"),
        }


def make_original(checkpoint: Path) -> str:
    return generate(text_pipeline(tiny_llama(checkpoint, megabytes=MEGABYTES, shards=SHARDS)))


def log_repeatedly(way: Way, store: Path, checkpoint: Path) -> Row:
    import mlflow

    location = f"{'mlflow-artifacts:' if way.by_server else f'cas://{store}'}/{way.experiment}"
    mlflow.set_experiment(experiment_id=mlflow.create_experiment(way.experiment, location))
    model = what_to_log(way, checkpoint)
    added, seconds = [], []
    for _ in range(ROUNDS):
        before, start = stored_bytes(store), time.monotonic()
        info = function_of(way)(**model, name="model", pip_requirements=REQUIREMENTS)
        seconds.append(time.monotonic() - start)
        added.append(stored_bytes(store) - before)
    return Row(way.title, info.model_uri, logical_bytes(store, way.experiment), added, seconds)


def function_of(way: Way) -> Callable[..., Any]:
    import mlflow

    import cas_mlflow

    ours = {CHECKPOINT: cas_mlflow.log_checkpoint, HUB_MODEL: cas_mlflow.log_reference}
    return ours.get(way, mlflow.transformers.log_model)


def what_to_log(way: Way, checkpoint: Path) -> dict[str, Any]:
    if way == CHECKPOINT:
        return {"directory": checkpoint, "task": "text-generation"}
    if way == HUB_MODEL:
        return {"repo_id": ON_HUB, "task": "text-generation"}
    if way == PIPELINE:
        return {"transformers_model": text_pipeline(checkpoint)}
    if way == REFERENCE:
        return {"transformers_model": text_pipeline(Path(ON_HUB)), "save_pretrained": False}
    return {"transformers_model": str(checkpoint), "task": "text-generation"}


def persist_and_register(way: Way, uri: str, store: Path) -> Row:
    """Have the weights that a reference stands for in the store, and give that model a name and a version."""
    import cas_mlflow

    stored, logical, start = stored_bytes(store), logical_bytes(store, way.experiment), time.monotonic()
    cas_mlflow.persist(uri)
    seconds, added = time.monotonic() - start, stored_bytes(store) - stored
    logical = logical_bytes(store, way.experiment) - logical
    version = cas_mlflow.register_model(uri, REGISTERED).version
    title = f"{' ' * (len(way.title) - len(way.title.strip()))}  the last one, persisted"
    return Row(title, f"models:/{REGISTERED}/{version}", logical, [added], [seconds])


def load_and_generate(uri: str) -> str:
    import mlflow

    return generate(mlflow.transformers.load_model(uri, device="cpu"))


def stored_bytes(store: Path) -> int:
    """Bytes of all files of the store, however many names they have, without those still being written."""
    found = (file.stat() for file in store.rglob("*") if file.is_file() and store / "tmp" not in file.parents)
    return sum({status.st_ino: status.st_size for status in found}.values())


def logical_bytes(store: Path, experiment: str) -> int:
    """Bytes that were logged into an experiment, counted as often as they were."""
    return stats(Store.open(store)).experiments[experiment].logical


def demonstrate(demo: Demo) -> tuple[list[Row], dict[str, bool]]:
    """Log, load, persist and register. Returns the rows, and by their titles whether the copy is as good."""
    checkpoint, rows = demo.directory / "checkpoint", []
    with fresh_process(demo, "writer") as call:
        say(f"making a Llama of {MEGABYTES} MB in {SHARDS} shards, and asking it to continue a sentence")
        original = call(make_original, checkpoint)
        demo.hub.add_repo(ON_HUB, checkpoint)
        for way in (PATH, PATH_BY_SERVER, CHECKPOINT, PIPELINE, REFERENCE, HUB_MODEL):
            say(f"logging it {ROUNDS} times: {way.title.strip()}")
            rows.append(call(log_repeatedly, way, demo.store, checkpoint))
        equal = load_all(demo, "reader", rows, original)
        persisted = []
        for way, row in ((REFERENCE, rows[-2]), (HUB_MODEL, rows[-1])):
            say(f"persisting the last one, and registering it: {way.title.strip()}")
            persisted.append(call(persist_and_register, way, row.uri, demo.store))
    say("taking the Hub down")
    demo.hub.down()
    rows[-1:-1] = persisted[:1]
    rows.append(persisted[1])
    return rows, equal | load_all(demo, "offline-reader", persisted, original)


def load_all(demo: Demo, name: str, rows: list[Row], original: str) -> dict[str, bool]:
    """Whether the last model of each row says what the original said, when a fresh process loads it."""
    say(f"loading in a fresh process: {', '.join(row.uri for row in rows)}")
    with fresh_process(demo, name) as call:
        return {row.title: call(load_and_generate, row.uri) == original for row in rows}


@contextmanager
def fresh_process(demo: Demo, name: str) -> Iterator[Callable[..., Any]]:
    """A new Python process, and a function that calls functions there. What they print goes to a log."""
    start = (demo.environment(name), demo.directory / "demo.log")
    with ProcessPoolExecutor(1, get_context("spawn"), enter_process, start) as process:
        yield lambda function, *arguments: process.submit(function, *arguments).result()


def enter_process(environment: Mapping[str, str], log: Path) -> None:
    os.environ.update(environment)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), sys.stdout.fileno())
    os.dup2(sys.stdout.fileno(), sys.stderr.fileno())


def report(demo: Demo, rows: list[Row], equal: Mapping[str, bool]) -> None:
    table = Table("logged as", title=f"\n{MEGABYTES} MB in {SHARDS} shards", title_justify="left", box=None)
    for heading in ("logged", "stored: 1st", "2nd", "3rd", "1st log", "again", "output"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        sizes = [f"+{decimal(size)}" for size in row.added] + [""] * (ROUNDS - len(row.added))
        times = [f"{row.seconds[0]:.1f} s", f"{min(row.seconds[1:]):.1f} s" if row.seconds[1:] else ""]
        table.add_row(row.title, decimal(row.logical), *sizes, *times, "equal" if equal[row.title] else "DIFFERS")
    Console(highlight=False, width=None if sys.stdout.isatty() else 100).print(table)
    logical, stored = sum(row.logical for row in rows), stored_bytes(demo.store)
    programs, database = Path(sys.executable).parent, demo.server.log.with_name("mlflow.db")
    print(f"""
Together: {logical} bytes logged, {stored} bytes stored, ratio {logical / stored:.2f}
A pipeline is saved anew, as one file: other bytes than the shards. A persisted model is the Hub's own files, and
those were here already: the checkpoint is what the Hub serves.

Where to look next
  the store       {demo.store}
  what it holds   {programs}/cas ls {demo.store}
  what it saves   {programs}/cas stats {demo.store}
  is it intact?   {programs}/cas verify {demo.store}
  MLflow's UI     {programs}/mlflow server --backend-store-uri sqlite:///{database} \\
                      --artifacts-destination cas://{demo.store}
  what was said   {demo.directory / "demo.log"}, {demo.server.log}
  the manual      README.md""")


def prepare(directory: Path) -> None:
    """An empty directory with our mark. One that is neither empty nor marked is not ours to empty."""
    if (directory / MARK).exists():
        shutil.rmtree(directory)
    elif directory.exists() and any(directory.iterdir()):
        sys.exit(f"demo: {directory} is not empty, and not from an earlier demo; choose another --directory")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MARK).touch()


def run(directory: Path, *, keep: bool) -> int:
    store = directory / "store"
    say(f"starting a tracking server on a new store, {store}")
    Store.create(store)
    server = MlflowServer(directory / "server", artifacts_destination=f"cas://{store}")
    with server, LoopbackHub() as hub:
        demo = Demo(directory, store, hub, server)
        rows, equal = demonstrate(demo)
        report(demo, rows, equal)
        if keep:
            say(f"\nthe server stays up at {server.uri} until you press Ctrl-C")
            with suppress(KeyboardInterrupt):
                signal.pause()
    return 0 if all(equal.values()) else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path(".demo"), help="where to work (default: .demo)")
    parser.add_argument("--keep", action="store_true", help="keep the server up at the end, until Ctrl-C")
    arguments = parser.parse_args()
    directory = arguments.directory.absolute()
    prepare(directory)
    try:
        return run(directory, keep=arguments.keep)
    except KeyboardInterrupt:
        say("demo: interrupted; the server and the Hub are stopped")
        return 130
    except Exception as error:
        with (directory / "demo.log").open("a") as log:
            traceback.print_exc(file=log)
        say(f"demo: {error}\ndemo: more in {directory / 'demo.log'}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
