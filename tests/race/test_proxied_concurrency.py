"""Many uploads at once through a server with several workers, beside a client that writes to the store itself.

MLflow sends one file per request; the requests of one model reach all workers, and all log into one manifest.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from tests.adapters.deployment import CLIENT, Deployment, deployed, new_run
from tests.adapters.files import every_file, pattern, read_tree, write_tree

FILES, THREADS, DIRECT_CALLS = 400, 16, 40
DIRECTORIES = 7


@pytest.fixture(scope="module")
def proxying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("proxying"), proxying=True, workers=4) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def other_process() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(log_directly, "cas:///nowhere", "", []).result()  # it has imported MLflow, and is ready to race
        yield pool


@pytest.fixture(autouse=True)
def _client_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CLIENT.items():
        monkeypatch.setenv(name, value)


def files_of_client(client: str, count: int, seed: int) -> dict[str, bytes]:
    """Distinct contents of 200 B to 200 KB: some inside the manifest, some blobs."""
    chosen = random.Random(seed)
    return {
        f"directory-{number % DIRECTORIES}/{client}-{number}": pattern(
            chosen.choice([200, 2_000, 16_384, 16_385, 50_000, 200_000]), seed << 20 | number
        )
        for number in range(count)
    }


def log_directly(uri: str, source: str, paths: list[str]) -> None:
    """Log one file after another, as another process does."""
    repository = get_artifact_repository(uri)
    for path in paths:
        repository.log_artifact(f"{source}/{path}", path.rpartition("/")[0])


@pytest.mark.parametrize("attempt", [1, 2, 3])
def test_every_file_arrives_whole(
    proxying: Deployment, other_process: ProcessPoolExecutor, tmp_path: Path, attempt: int
) -> None:
    run = new_run()
    through_server = files_of_client("proxied", FILES, seed=2 * attempt)
    beside_it = files_of_client("direct", DIRECT_CALLS, seed=2 * attempt + 1)
    source = write_tree(tmp_path / "source", through_server | beside_it)
    repository = proxying.proxied(run)

    def upload(path: str) -> None:
        repository.log_artifact(str(source / path), path.rpartition("/")[0])

    with ThreadPoolExecutor(THREADS) as threads:
        direct = other_process.submit(log_directly, f"cas://{proxying.store}/{run}", str(source), list(beside_it))
        list(threads.map(upload, through_server))
        direct.result()

    expected = through_server | beside_it
    assert every_file(repository) == every_file(proxying.direct(run)) == sorted(expected)
    destination = tmp_path / "destination"
    destination.mkdir()
    repository.download_artifacts("", str(destination))
    assert read_tree(destination) == expected
