"""Contenders that get a model from a Hub. Each function sets up, and returns what is measured."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

REPO = "bench/llama"
REQUIREMENTS = ["torch", "transformers"]
"""Given to MLflow, so that it infers none."""
_RANGE, _READ, _CONNECTIONS = 8 << 20, 1 << 20, 8

Run = Callable[[], object]


def enter(endpoint: str, work: str) -> None:
    """Point this process at the Hub, with caches of its own. Before huggingface_hub is imported."""
    from tests.support.hub_process import environment

    known = sys.modules.get("huggingface_hub.constants")
    assert known is None or endpoint == known.ENDPOINT, "it was imported too early"
    os.environ.update(environment(endpoint, Path(work) / "hf"))
    os.environ["CAS_CACHE"] = str(Path(work) / "cas-cache")
    os.environ["CAS_STAT_CACHE"] = str(Path(work) / "stat.sqlite3")


def stream(endpoint: str, work: str) -> Run:
    """References of all large files, persisted: verified by sha256 and blake3, and durable."""
    from cas import Store
    from cas.references import persist
    from cas.sources import source

    enter(endpoint, work)
    root = Store.create(Path(work) / "store").artifact_root("m")
    with root.log_call() as writer:
        for file in source("hf").snapshot(REPO).files:
            if file.digest is not None:
                writer.put_known(file.path, file.digest, file.size, file.origin)
        writer.commit()
    return lambda: str(persist(root).bytes)


def snapshot(endpoint: str, work: str) -> Run:
    """With its defaults, into an empty cache."""
    enter(endpoint, work)
    from huggingface_hub import HfApi, snapshot_download

    HfApi().model_info(REPO)  # its client is set up by the first request; that of the others is, too
    return lambda: str(snapshot_download(REPO))


def link(endpoint: str, work: str) -> Run:
    """The Hugging Face cache has everything."""
    run = stream(endpoint, work)
    snapshot(endpoint, work)()
    return run


def hash_cached(endpoint: str, work: str) -> Run:
    """What linking cannot do without: sha256 and blake3 of the same files, two files at a time."""
    from cas.ingest import hash_file

    blobs = list(Path(str(snapshot(endpoint, work)())).rglob("*.safetensors"))

    def run() -> object:
        with ThreadPoolExecutor(2) as pool:
            return str(list(pool.map(lambda path: hash_file(path.resolve(), ("sha256", "blake3")).digest, blobs)))

    return run


def bare(endpoint: str, work: str) -> Run:
    """Parallel ranges with the same client library and no more: nothing is hashed, recorded, or synced."""
    import urllib3

    enter(endpoint, work)
    from cas.sources import source

    files = [file for file in source("hf").snapshot(REPO).files if file.digest is not None]
    pool = urllib3.PoolManager(maxsize=_CONNECTIONS)

    def fetch(part: tuple[int, str, int, int]) -> None:
        descriptor, url, start, stop = part
        response = pool.request("GET", url, headers={"Range": f"bytes={start}-{stop - 1}"}, preload_content=False)
        while start < stop:
            data = response.read1(min(_READ, stop - start))
            os.pwrite(descriptor, data, start)
            start += len(data)
        response.release_conn()

    def run() -> None:
        parts = []
        for file in files:
            commit = file.origin.partition("@")[2][:40]
            url = f"{endpoint}/{REPO}/resolve/{commit}/{quote(file.path)}"
            target = str(pool.request("GET", url, redirect=False).headers["Location"])
            descriptor = os.open(Path(work) / file.path, os.O_WRONLY | os.O_CREAT)
            starts = range(0, file.size, _RANGE)
            parts += [(descriptor, target, start, min(file.size, start + _RANGE)) for start in starts]
        with ThreadPoolExecutor(_CONNECTIONS) as workers:
            list(workers.map(fetch, parts))

    return run


def log_stock(endpoint: str, work: str) -> str:
    """A reference model as plain MLflow logs it, in a store of ours; returns its URI."""
    enter(endpoint, work)
    import mlflow
    import transformers

    from cas import Store

    Store.create(Path(work) / "store")
    mlflow.set_tracking_uri(f"sqlite:///{work}/mlflow.db")
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("bench", f"cas://{work}/store/1"))
    pipeline = transformers.pipeline("text-generation", model=REPO, device="cpu")
    info = mlflow.transformers.log_model(pipeline, name="m", save_pretrained=False, pip_requirements=REQUIREMENTS)
    return str(info.model_uri)


def persist_ours(endpoint: str, work: str, uri: str) -> Run:
    import mlflow

    enter(endpoint, fresh(work))
    mlflow.set_tracking_uri(f"sqlite:///{work}/mlflow.db")
    import cas_mlflow

    return lambda: str(cas_mlflow.persist(uri).fetched.bytes)


def persist_mlflow(endpoint: str, work: str, uri: str) -> Run:
    import mlflow

    enter(endpoint, fresh(work))
    mlflow.set_tracking_uri(f"sqlite:///{work}/mlflow.db")
    return lambda: mlflow.transformers.persist_pretrained_model(uri)


def fresh(work: str) -> str:
    """A place for caches in which nothing is yet."""
    return tempfile.mkdtemp(prefix="caches-", dir=work)
