"""The same over real HTTP, with requests that nothing has normalised, and what URIs a server accepts."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

import cas
from cas_mlflow.repository import CasArtifactRepository
from tests.adapters.deployment import ARTIFACTS, Answer, Deployment, new_run
from tests.adapters.files import every_file, log_tree, plant_record, read_tree

SECRET = b"nobody may read this"
CLIMBING = [
    "../secret",
    "../../../../secret",
    "../../../../../../../../../../etc/passwd",
    "a/../../../../../secret",
    "%2e%2e/%2e%2e/%2e%2e/%2e%2e/secret",
    "..%2f..%2f..%2f..%2fsecret",
    "%252e%252e%252f%252e%252e%252f%252e%252e%252f%252e%252e%252fsecret",
    "%25252e%25252e/secret",
    "..%5c..%5csecret",
    "..\\..\\secret",
    "a%5c..%5cb",
    "..",
    "a/..",
    "%2e%2e",
]
ODD = [
    ".",
    "./a",
    "%2e/a",
    "a/./b",
    "a%2f%2e%2fb",
    "//etc/passwd",
    "%2fetc/passwd",
    "%2f%2fetc%2fpasswd",
    "a%23b",
    "a%2523b",
    "a%0ab",
    "file:%2f%2f%2fetc%2fpasswd/../../x",
]


@pytest.fixture
def run(proxying: Deployment) -> str:
    """A run with two files, in a store that lies beside a secret."""
    (proxying.store.parent / "secret").write_bytes(SECRET)
    run = new_run()
    log_tree(proxying.direct(run), {"a/b": b"kept", "kept": b"kept"})
    return run


def state(deployment: Deployment) -> dict[str, bytes]:
    """Everything in and around the store, except what its processes are just doing."""
    tree = read_tree(deployment.store)
    outside = {path.name for path in deployment.store.parent.iterdir()}
    return {path: data for path, data in tree.items() if not path.startswith("tmp/")} | dict.fromkeys(outside, b"")


def is_refusal(answer: Answer) -> bool:
    """Werkzeug sends a client with a double slash elsewhere; that is not what it asked for, either."""
    return (answer.status >= 400 or answer.status == 308) and SECRET not in answer.body


class TestRequests:
    @pytest.mark.parametrize("path", CLIMBING + ODD)
    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
    def test_a_hostile_path_is_refused(self, proxying: Deployment, run: str, method: str, path: str) -> None:
        before = state(proxying)
        body = b"hostile" if method == "PUT" else None
        answer = proxying.request(method, f"{ARTIFACTS}/{run}/{path}", body)
        assert state(proxying) == before
        assert is_refusal(answer)

    @pytest.mark.parametrize("path", CLIMBING)
    def test_a_hostile_path_is_not_listed(self, proxying: Deployment, run: str, path: str) -> None:
        answer = proxying.request("GET", f"{ARTIFACTS}?path={run}/{path}")
        assert is_refusal(answer) or answer.json == {}

    @pytest.mark.parametrize("path", CLIMBING + ODD)
    def test_the_ui_reads_no_hostile_path(self, proxying: Deployment, path: str) -> None:
        run_id, _ = proxying.create_run()
        answer = proxying.request("GET", f"/get-artifact?run_id={run_id}&path={path}")
        assert is_refusal(answer)
        answer = proxying.request("GET", f"/api/2.0/mlflow/artifacts/list?run_id={run_id}&path={path}")
        assert is_refusal(answer) or "files" not in answer.json

    def test_a_doubled_slash_means_one(self, proxying: Deployment, run: str) -> None:
        """MLflow splits the name off an upload's path before it is checked."""
        assert proxying.request("PUT", f"{ARTIFACTS}/{run}/a//c", b"content").status == 200
        assert every_file(proxying.direct(run)) == ["a/b", "a/c", "kept"]

    def test_overlong_utf8_is_no_dot(self, proxying: Deployment, run: str) -> None:
        target = f"{ARTIFACTS}/{run}/%c0%ae%c0%ae/secret"
        assert is_refusal(proxying.request("GET", target))
        proxying.request("PUT", target, b"hostile")
        assert len(every_file(proxying.direct(run))) == 3
        assert (proxying.store.parent / "secret").read_bytes() == SECRET

    @pytest.mark.parametrize("path", ["nul%00byte", "nul%2500byte"])
    def test_a_nul_never_gets_into_a_name(self, proxying: Deployment, run: str, path: str) -> None:
        """MLflow escapes control characters."""
        proxying.request("PUT", f"{ARTIFACTS}/{run}/{path}", b"content")
        assert not any("\0" in name for name in every_file(proxying.direct(run)))
        assert proxying.request("GET", f"{ARTIFACTS}/{run}/{path}").body == b"content"

    def test_a_body_that_breaks_off_leaves_nothing(self, proxying: Deployment, run: str) -> None:
        def unfinished() -> list[str]:
            return [name for name in read_tree(proxying.store / "tmp") if "/views/" not in name]

        before = unfinished()
        with proxying.connection() as connection:
            connection.putrequest("PUT", f"{ARTIFACTS}/{run}/broken")
            connection.putheader("Content-Length", str(8 << 20))
            connection.endheaders(b"x" * (4 << 20))
            proxying.wait_until(lambda: unfinished() != before)
        proxying.wait_until(lambda: unfinished() == before)
        assert every_file(proxying.direct(run)) == ["a/b", "kept"]

    def test_a_refused_upload_leaves_no_unfinished_file(self, proxying: Deployment, run: str) -> None:
        before = read_tree(proxying.store / "tmp").keys()
        answer = proxying.request("PUT", f"{ARTIFACTS}/{run}/a", b"x" * (4 << 20))
        assert answer.status == 400
        assert read_tree(proxying.store / "tmp").keys() == before


class TestStoreDirectory:
    """Somebody who may write to the store's directory, where the server reads for everybody."""

    def answers(self, deployment: Deployment, run: str, path: str) -> list[Answer]:
        return [
            deployment.request("GET", f"{ARTIFACTS}?path={run}"),
            deployment.request("GET", f"{ARTIFACTS}/{run}/{path}"),
            deployment.request("PUT", f"{ARTIFACTS}/{run}/new", b"content"),
            deployment.request("DELETE", f"{ARTIFACTS}/{run}"),
        ]

    @pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../../secret", "a\\b"])
    def test_a_hostile_path_in_a_record_is_refused(self, proxying: Deployment, path: str) -> None:
        planted = new_run()
        plant_record(proxying.store, planted, path, SECRET)
        before = state(proxying)
        assert all(is_refusal(answer) for answer in self.answers(proxying, planted, "secret"))
        assert state(proxying) == before

    def test_records_of_another_store_are_not_shown_through_a_link(
        self, proxying: Deployment, tmp_path: Path
    ) -> None:
        """It is one that the server's user may read, and its clients may not."""
        private = cas.Store.create(tmp_path / "private")
        private.artifact_root("7/models/m/artifacts").ingest_bytes(SECRET, "secret")
        planted = new_run()
        link = proxying.store / "manifests" / planted
        link.parent.mkdir(parents=True)
        link.symlink_to(tmp_path / "private/manifests/7/models/m/artifacts")
        assert all(is_refusal(answer) for answer in self.answers(proxying, planted, "secret"))
        assert private.artifact_root("7/models/m/artifacts").entry("secret").size == len(SECRET)
        link.unlink()


class TestSources:
    """Anybody who may register a model version, or create an experiment, chooses its artifact URI."""

    def read(self, deployment: Deployment, source: str, path: str) -> Answer:
        """Have the server read a file of a model version with this source."""
        name = uuid.uuid4().hex
        deployment.call("registered-models/create", name=name)
        body = json.dumps({"name": name, "source": source}).encode()
        answer = deployment.request("POST", "/api/2.0/mlflow/model-versions/create", body)
        if answer.status != 200:
            return answer
        return deployment.get("/model-versions/get-artifact", name=name, version="1", path=path)

    @pytest.mark.parametrize("source", ["cas:///etc", "cas:/etc", "cas://localhost/etc", "cas:///", "cas://"])
    @pytest.mark.parametrize("server", ["proxying", "directing"])
    def test_a_source_outside_every_store_reads_nothing(
        self, request: pytest.FixtureRequest, server: str, source: str
    ) -> None:
        deployment: Deployment = request.getfixturevalue(server)
        for path in ("passwd", "etc/passwd"):
            answer = self.read(deployment, source, path)
            assert answer.status >= 400
            assert b"root:" not in answer.body

    @pytest.mark.parametrize("server", ["proxying", "directing"])
    def test_a_source_beside_the_store_reads_nothing(self, request: pytest.FixtureRequest, server: str) -> None:
        deployment: Deployment = request.getfixturevalue(server)
        (deployment.store.parent / "secret").write_bytes(SECRET)
        for source in (deployment.store.parent, deployment.store / ".."):
            assert is_refusal(self.read(deployment, f"cas://{source}", "secret"))

    @pytest.mark.parametrize("server", ["proxying", "directing"])
    @pytest.mark.parametrize("path", ["cas.json", "server.log"])
    def test_the_files_of_a_store_are_not_its_artifacts(
        self, request: pytest.FixtureRequest, server: str, path: str
    ) -> None:
        deployment: Deployment = request.getfixturevalue(server)
        assert self.read(deployment, f"cas://{deployment.store}", path).status == 404

    @pytest.mark.parametrize("server", ["proxying", "directing"])
    def test_a_source_in_the_servers_own_store_is_read(self, request: pytest.FixtureRequest, server: str) -> None:
        deployment: Deployment = request.getfixturevalue(server)
        run = new_run()
        log_tree(deployment.direct(run), {"model/MLmodel": b"content"})
        assert self.read(deployment, f"cas://{deployment.store}/{run}/model", "MLmodel").body == b"content"

    def test_a_source_in_another_store_is_refused(self, proxying: Deployment, tmp_path: Path) -> None:
        run = self.run_in(tmp_path / "other")
        answer = self.read(proxying, f"cas://{tmp_path}/other/{run}", "file")
        assert (answer.status, answer.json["error_code"]) == (403, "PERMISSION_DENIED")

    def run_in(self, store: Path) -> str:
        """Make a store, and a run in it with one file."""
        cas.Store.create(store)
        run = new_run()
        log_tree(CasArtifactRepository(f"cas://{store}/{run}"), {"file": SECRET})
        return run


class TestExperiments:
    def an_experiment_in(self, deployment: Deployment, store: Path) -> str:
        """A run with one file, whose experiment's artifacts are to lie in ``store``."""
        experiment_id = deployment.call(
            "experiments/create", name=uuid.uuid4().hex, artifact_location=f"cas://{store}/chosen"
        )["experiment_id"]
        run_id, uri = deployment.create_run(experiment_id)
        assert uri.endswith(f"{store}/chosen/{run_id}/artifacts")
        log_tree(CasArtifactRepository(uri), {"file": SECRET})
        return run_id

    def answers(self, deployment: Deployment, run_id: str) -> list[Answer]:
        return [
            deployment.get("/api/2.0/mlflow/artifacts/list", run_id=run_id),
            deployment.get("/get-artifact", run_id=run_id, path="file"),
        ]

    def test_another_store_is_refused(self, proxying: Deployment, further_store: Path) -> None:
        run_id = self.an_experiment_in(proxying, further_store)
        for answer in self.answers(proxying, run_id):
            assert (answer.status, answer.json["error_code"]) == (403, "PERMISSION_DENIED")
            assert "CAS_STORES" in answer.json["message"]

    def test_another_store_is_read_if_cas_stores_names_it(self, directing: Deployment, further_store: Path) -> None:
        run_id = self.an_experiment_in(directing, further_store)
        listing, file = self.answers(directing, run_id)
        assert listing.json["files"] == [{"path": "file", "is_dir": False, "file_size": len(SECRET)}]
        assert file.body == SECRET

    def test_cas_stores_names_no_other_store(self, directing: Deployment, tmp_path: Path) -> None:
        cas.Store.create(tmp_path / "other")
        run_id = self.an_experiment_in(directing, tmp_path / "other")
        assert [answer.status for answer in self.answers(directing, run_id)] == [403, 403]
