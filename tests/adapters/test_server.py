"""A real MLflow server on a store: what it tells of files, where it puts them, and what it costs to have us."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from cas import Store
from cas.digest import digest_of
from cas.keys import parse_blob_key
from cas.verify import verify
from tests.adapters.deployment import ARTIFACTS, CLIENT, Deployment, new_run
from tests.adapters.files import MEGABYTE, content, every_file, log_tree, names, pattern

TYPES = {
    "MLmodel": "text/plain",
    "config.json": "text/plain",
    "conda.yaml": "text/plain",
    "plot.png": "image/png",
    "model.safetensors": "application/octet-stream",
}
FILES = {name: pattern(seed * 700_000 + 5, seed) for seed, name in enumerate(TYPES)}
SERVERS = ["proxying", "directing"]


@pytest.fixture(params=SERVERS)
def deployment(request: pytest.FixtureRequest) -> Deployment:
    found: Deployment = request.getfixturevalue(request.param)
    return found


def place_of(deployment: Deployment, uri: str) -> str:
    """The path in the store of a run's artifact URI. MLflow turns ``cas:///srv`` into ``cas:/srv``."""
    return uri.removeprefix("mlflow-artifacts:/").removeprefix(f"cas:{deployment.store}/")


@pytest.fixture
def run_id(deployment: Deployment) -> str:
    """A run with the files, logged by a client as that server's clients do."""
    run_id, uri = deployment.create_run()
    client = deployment.proxied if uri.startswith("mlflow-artifacts:") else deployment.direct
    log_tree(client(place_of(deployment, uri)), FILES, "model")
    return run_id


class TestWhatTheUISees:
    def test_true_sizes(self, deployment: Deployment, run_id: str) -> None:
        listing = deployment.get("/api/2.0/mlflow/artifacts/list", run_id=run_id, path="model").json["files"]
        assert {file["path"]: file["file_size"] for file in listing} == {
            f"model/{name}": len(data) for name, data in FILES.items()
        }

    @pytest.mark.parametrize("name", TYPES)
    def test_the_content_with_its_type_and_name(self, deployment: Deployment, run_id: str, name: str) -> None:
        answer = deployment.get("/get-artifact", run_id=run_id, path=f"model/{name}")
        assert answer.status == 200
        assert answer.body == FILES[name]
        assert answer.headers["content-type"].split(";")[0] == TYPES[name]
        assert answer.headers["content-length"] == str(len(FILES[name]))
        assert f"filename={name}" in answer.headers["content-disposition"]

    def test_a_directory_is_no_file(self, deployment: Deployment, run_id: str) -> None:
        answer = deployment.get("/get-artifact", run_id=run_id, path="model")
        assert (answer.status, answer.json["error_code"]) == (400, "INVALID_PARAMETER_VALUE")

    def test_a_missing_file_is_missing(self, deployment: Deployment, run_id: str) -> None:
        answer = deployment.get("/get-artifact", run_id=run_id, path="model/nothing")
        assert (answer.status, answer.json["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize("name", TYPES)
def test_a_proxied_download_has_the_type_and_name_of_the_file(proxying: Deployment, name: str) -> None:
    run = new_run()
    log_tree(proxying.proxied(run), {name: FILES[name]})
    answer = proxying.request("GET", f"{ARTIFACTS}/{run}/{name}")
    assert answer.body == FILES[name]
    assert answer.headers["content-type"].split(";")[0] == TYPES[name]
    assert f"filename={name}" in answer.headers["content-disposition"]


def test_a_file_that_was_replaced_is_sent_in_its_new_form_by_every_worker(proxying: Deployment) -> None:
    run = new_run()
    for seed in range(3):
        log_tree(proxying.proxied(run), {"small": pattern(100, seed), "large": pattern(2 * MEGABYTE, seed)})
        for _ in range(12):  # connections go to whichever worker takes them
            assert proxying.request("GET", f"{ARTIFACTS}/{run}/small").body == pattern(100, seed)
            assert proxying.request("GET", f"{ARTIFACTS}/{run}/large").body == pattern(2 * MEGABYTE, seed)


def test_no_transfer_goes_through_the_servers_temporary_directory(proxying: Deployment) -> None:
    """A name that comes and goes changes the time of its directory, however short it is there."""
    run_id, uri = proxying.create_run()
    run = place_of(proxying, uri)
    long_ago = 1_000_000_000
    os.utime(proxying.temporary, ns=(long_ago, long_ago))

    log_tree(proxying.proxied(run), FILES)
    for name, data in FILES.items():
        assert proxying.request("GET", f"{ARTIFACTS}/{run}/{quote(name)}").body == data
        assert proxying.get("/get-artifact", run_id=run_id, path=name).body == data
    assert proxying.temporary.stat().st_mtime_ns == long_ago

    (proxying.temporary / "staged").touch()
    (proxying.temporary / "staged").unlink()
    assert proxying.temporary.stat().st_mtime_ns != long_ago  # it would have shown


class TestBothKindsOfClientsInOneRun:
    def test_each_sees_what_the_other_logs(self, proxying: Deployment) -> None:
        run = new_run()
        direct, proxied = proxying.direct(run), proxying.proxied(run)
        log_tree(direct, {"direct/small": b"1", "direct/large": pattern(MEGABYTE, 1)})
        log_tree(proxied, {"proxied/small": b"2", "proxied/large": pattern(MEGABYTE, 2)})
        assert every_file(direct) == every_file(proxied)
        assert content(proxied, "direct/large") == pattern(MEGABYTE, 1)
        assert content(direct, "proxied/large") == pattern(MEGABYTE, 2)

    def test_the_last_one_to_log_a_path_wins(self, proxying: Deployment) -> None:
        run = new_run()
        clients = [proxying.direct(run), proxying.proxied(run)] * 3
        for turn, client in enumerate(clients):
            log_tree(client, {"file": pattern(50_000, turn)})
            assert [content(each, "file") for each in clients[:2]] == [pattern(50_000, turn)] * 2

    def test_each_sees_what_the_other_deletes(self, proxying: Deployment) -> None:
        run = new_run()
        direct, proxied = proxying.direct(run), proxying.proxied(run)
        log_tree(direct, {"a/1": b"1", "b/2": b"2"})
        proxied.delete_artifacts("a")
        assert names(direct) == ["b"]
        direct.delete_artifacts("b")
        assert names(proxied) == []


def test_mlflow_gc_removes_the_files_of_deleted_runs(deployment: Deployment) -> None:
    runs = dict(deployment.create_run() for _ in range(3))
    full, empty, kept = runs
    repositories = {run_id: deployment.direct(place_of(deployment, uri)) for run_id, uri in runs.items()}
    for run_id in (full, kept):
        log_tree(repositories[run_id], {"small": b"1", "directory/large": pattern(MEGABYTE)})
    mlflow_gc(deployment, full, empty)
    assert every_file(repositories[full]) == []
    assert every_file(repositories[kept]) == ["directory/large", "small"]
    assert deployment.get("/api/2.0/mlflow/runs/get", run_id=full).status == 404


def test_cas_gc_then_gives_their_bytes_back(deployment: Deployment) -> None:
    """What another run shares with them stays, and so does what is pinned."""
    runs = dict(deployment.create_run() for _ in range(3))
    deleted, pinned, kept = runs
    repositories = {run_id: deployment.direct(place_of(deployment, uri)) for run_id, uri in runs.items()}
    shared, lost, dear = (pattern(MEGABYTE, seed) for seed in (101, 102, 103))
    log_tree(repositories[deleted], {"shared": shared, "lost": lost})
    log_tree(repositories[pinned], {"dear": dear})
    log_tree(repositories[kept], {"shared": shared})
    cas_command("pin", f"{deployment.store}/{place_of(deployment, runs[pinned])}")
    mlflow_gc(deployment, deleted, pinned)

    store = Store.open(deployment.store)
    before = sum(size for _, size in store.blobs.listing())
    cas_command("gc", "--grace", "0s", "--yes", str(deployment.store))
    held = {parse_blob_key(key)[0] for key, _ in store.blobs.listing()}
    assert before - sum(size for _, size in store.blobs.listing()) >= MEGABYTE
    assert digest_of(lost) not in held
    assert {digest_of(shared), digest_of(dear)} <= held
    assert content(repositories[kept], "shared") == shared
    assert every_file(repositories[deleted]) == every_file(repositories[pinned]) == []
    assert verify(store).problems == []


def mlflow_gc(deployment: Deployment, *run_ids: str) -> None:
    """Delete runs, and have MLflow forget them for good."""
    for run_id in run_ids:
        deployment.call("runs/delete", run_id=run_id)
    environment = {**os.environ, **CLIENT, "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [
        *(sys.executable, "-m", "mlflow", "gc", "--run-ids", ",".join(run_ids)),
        *("--backend-store-uri", f"sqlite:///{deployment.server.log.parent / 'mlflow.db'}"),
        *("--tracking-uri", deployment.server.uri),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Failed" not in done.stdout + done.stderr


def cas_command(*arguments: str) -> None:
    command = [str(Path(sys.executable).with_name("cas")), *arguments]
    subprocess.run(command, check=True, capture_output=True)


class TestTheCostOfBeingInstalled:
    def run(self, program: str) -> object:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def test_importing_mlflow_imports_nothing_of_the_store(self) -> None:
        program = """
import json, sys
import mlflow, mlflow.artifacts
import mlflow.store.artifact.artifact_repository_registry as registry
assert "cas" in registry._artifact_repository_registry._registry
print(json.dumps([name for name in sys.modules if name.split(".")[0] in ("cas", "blake3", "xxhash")]))
"""
        assert self.run(program) == []

    @pytest.mark.parametrize("first", ["cas", "cas_mlflow.repository", "cas_mlflow.boundary", "cas_mlflow.stores"])
    def test_mlflow_finds_us_whatever_is_imported_first(self, first: str) -> None:
        program = f"""
import json, warnings
warnings.simplefilter("error", UserWarning)
import {first}
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
print(json.dumps(type(get_artifact_repository("cas:///nowhere")).__name__))
"""
        assert self.run(program) == "CasArtifactRepository"

    def test_making_a_repository_touches_no_file(self, tmp_path: Path) -> None:
        """MLflow makes many, for one operation, and also for places that do not exist."""
        program = f"""
import json, sys
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from cas_mlflow.repository import CasArtifactRepository
events, uri = [], "cas://{tmp_path}/nowhere/1/{"0" * 32}/artifacts"
get_artifact_repository(uri)  # whatever is imported late has been
sys.addaudithook(lambda event, _: events.append(event) if event.startswith(("open", "os.", "import")) else None)
assert type(get_artifact_repository(uri)) is CasArtifactRepository
found = [*events]
assert "cas.store" not in sys.modules
open("/dev/null").close()
assert "open" in events  # it would have shown
print(json.dumps(found))
"""
        assert self.run(program) == []
