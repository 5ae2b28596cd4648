"""Models that stay on the Hub: logged, listed, loaded, persisted and registered through MLflow."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cas import Store
from cas.place import Place
from cas.references import references
from cas.roots import locate
from cas.verify import verify
from tests.support.hub import wrong_bytes
from tests.support.hub_faults import Counted, flipped_bit, on_bodies, other_bytes

from . import clients
from .clients import Logged
from .conftest import LLAMA, Checkpoint, Site
from .measure import digests, stored_bytes

COMMAND = str(Path(sys.executable).parent / "cas")


def root_of(site: Site, logged: Logged):
    """The artifact root of a logged model, in the store itself."""
    inside = logged.location.partition("mlflow-artifacts:/")[2] or logged.location.partition(f"{site.store}/")[2]
    return Store.open(site.store).artifact_root(locate(inside.strip("/")).root)


def cdn_requests(site: Site) -> int:
    return sum(request.on_cdn for request in site.hub.log)


@pytest.fixture
def reference(site: Site, llama: Checkpoint) -> Logged:
    return site.call(clients.log_hub_model, LLAMA)


@pytest.fixture
def here(direct: Site, llama: Checkpoint) -> Logged:
    """A reference in a store that clients reach themselves."""
    return direct.call(clients.log_hub_model, LLAMA)


@pytest.fixture
def hub_model(direct: Site, tmp_path: Path, llama: Checkpoint) -> str:
    """A repository that no other test has fetched from: a few mantissas of each shard differ."""
    mark = hashlib.sha256(str(tmp_path).encode()).digest()[:8]
    copied = shutil.copytree(llama.directory, tmp_path / "repository")
    for shard in copied.glob("*.safetensors"):
        data = bytearray(shard.read_bytes())
        data[-4 * len(mark) :: 4] = mark  # the lowest byte of each of the last numbers
        shard.write_bytes(data)
    name = f"acme/{tmp_path.name}".replace("_", "-")
    direct.hub.add_repo(name, copied)
    return name


def test_logging_downloads_no_weights(site: Site, llama: Checkpoint) -> None:
    site.hub.log.clear()
    site.hub.fault = counted = Counted()
    before = stored_bytes(site.store)
    site.call(clients.log_hub_model, LLAMA)
    site.hub.fault = None
    assert counted.bytes <= 8 * len(llama.shards)  # a byte of each may be asked for, to see whether it may be read
    assert stored_bytes(site.store) - before < llama.size * 0.02


def test_it_is_listed_with_its_true_sizes(site: Site, reference: Logged, llama: Checkpoint) -> None:
    listed = site.call(clients.list_sizes, reference.location, "model")
    expected = {f"model/{path.name}": path.stat().st_size for path in llama.directory.iterdir()}
    assert listed == expected
    assert site.call(clients.size_in_mlmodel, reference.by_id) > llama.size


def test_mlflow_loads_it_as_if_it_were_here(
    site: Site, reference: Logged, llama: Checkpoint, tmp_path: Path
) -> None:
    registered = site.call(clients.register, reference.by_id, f"reference-{site.name}")
    uris = [reference.by_id, reference.by_run, registered]
    assert site.call_fresh(tmp_path, clients.load_and_generate, *uris) == dict.fromkeys(uris, llama.output)
    assert set(site.call_fresh(tmp_path, clients.predict, reference.by_id)) == {reference.by_id}


def test_a_machine_fetches_it_once(direct: Site, hub_model: str, tmp_path: Path) -> None:
    logged = direct.call(clients.log_hub_model, hub_model)
    direct.hub.fault = counted = Counted()
    direct.call_fresh(tmp_path, clients.load_and_generate, logged.by_id)
    first = counted.bytes
    direct.call_fresh(tmp_path, clients.load_and_generate, logged.by_id, logged.by_run)
    direct.hub.fault = None
    assert first == counted.bytes == sum(entry.size for entry in references(root_of(direct, logged)))


def test_a_branch_is_pinned_to_its_commit(direct: Site, make_checkpoint, tmp_path: Path) -> None:
    old, new = make_checkpoint(11), make_checkpoint(12)
    direct.hub.add_repo("acme/moving", old.directory)
    logged = direct.call(clients.log_hub_model, "acme/moving", revision="main")
    direct.hub.add_repo("acme/moving", new.directory)
    assert direct.call_fresh(tmp_path, clients.load_and_generate, logged.by_id) == {logged.by_id: old.output}


@pytest.mark.parametrize(
    ("repo", "options", "said"),
    [
        ("acme/none", {}, "there is no acme/none.*Check the name"),
        (LLAMA, {"revision": "no-such-branch"}, "no such revision"),
        ("../etc", {}, "no repository of the Hub"),
    ],
)
def test_what_the_hub_has_not_got_cannot_be_logged(direct: Site, llama, repo, options, said) -> None:
    before = stored_bytes(direct.store)
    kind, message = direct.call(clients.complain, clients.log_hub_model, repo, **options)
    assert kind == "MlflowException"
    assert re.search(f"(?s){said}", message), message
    assert stored_bytes(direct.store) == before


def test_without_the_hub_a_load_fails_and_says_why(direct: Site, hub_model: str, tmp_path: Path) -> None:
    logged = direct.call(clients.log_hub_model, hub_model)
    direct.hub.down()
    try:
        environment = direct.environment(tmp_path) | {"CAS_PATIENCE": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "mlflow", "artifacts", "download", "-u", logged.by_id],
            env={**os.environ, **environment},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        direct.hub.up()
    assert done.returncode != 0
    assert f"hf://models/{hub_model}@" in done.stderr


class TestPersisting:
    def test_a_reference_becomes_real_and_stays_the_same_model(
        self, direct: Site, hub_model: str, tmp_path: Path, llama: Checkpoint
    ) -> None:
        logged = direct.call(clients.log_hub_model, hub_model)
        before = root_of(direct, logged).manifest().digest
        bytes_ = direct.call(clients.persist_ours, logged.by_id)
        assert set(bytes_) == {"streamed"}
        root = root_of(direct, logged)
        assert references(root) == []
        assert root.manifest().digest == before
        assert not verify(Store.open(direct.store)).problems

    def test_doing_it_again_does_nothing(self, direct: Site, hub_model: str) -> None:
        logged = direct.call(clients.log_hub_model, hub_model)
        direct.call(clients.persist_ours, logged.by_run)
        fragments = list((direct.store / "manifests").rglob("*.fragment"))
        direct.hub.log.clear()
        assert set(direct.call(clients.persist_ours, logged.by_run)) == {"already there"}
        assert cdn_requests(direct) == 0
        assert list((direct.store / "manifests").rglob("*.fragment")) == fragments

    @pytest.mark.parametrize("by", ["id", "run", "place", "version"])
    def test_any_name_of_the_model_will_do(self, direct: Site, here: Logged, by: str, tmp_path: Path) -> None:
        uri = {"id": here.by_id, "run": here.by_run, "place": here.location}.get(by)
        uri = uri or direct.call(clients.register, here.by_id, "by-version")
        direct.call(clients.persist_ours, uri)
        assert references(root_of(direct, here)) == []

    def test_afterwards_it_loads_without_the_hub(
        self, direct: Site, here: Logged, llama: Checkpoint, tmp_path: Path
    ) -> None:
        registered = direct.call(clients.register_ours, here.by_id, "persisted-first")
        direct.hub.down()
        try:
            loaded = direct.call_fresh(tmp_path, clients.load_and_generate, registered, here.by_run)
        finally:
            direct.hub.up()
        assert set(loaded.values()) == {llama.output}

    def test_a_hugging_face_cache_is_linked(self, direct: Site, hub_model: str, tmp_path: Path) -> None:
        logged = direct.call(clients.log_hub_model, hub_model)
        direct.call_fresh(tmp_path, download_snapshot, hub_model)
        assert set(direct.call_fresh(tmp_path, clients.persist_ours, logged.by_id)) == {"linked"}
        inodes = {path.stat().st_ino for path in (tmp_path / "hub-cache").rglob("*.safetensors")}
        assert inodes & {path.stat().st_ino for path in (direct.store / "blobs").rglob("*") if path.is_file()}

    def test_a_damaged_hugging_face_cache_is_not_believed(
        self, direct: Site, hub_model: str, tmp_path: Path
    ) -> None:
        logged = direct.call(clients.log_hub_model, hub_model)
        direct.call_fresh(tmp_path, download_snapshot, hub_model)
        for path in (tmp_path / "hub-cache").rglob("*.safetensors"):
            path.resolve().write_bytes(bytes(path.stat().st_size))
        assert set(direct.call_fresh(tmp_path, clients.persist_ours, logged.by_id)) == {"streamed"}
        assert not verify(Store.open(direct.store)).problems

    @pytest.mark.parametrize("fault", [flipped_bit(1_000_000), other_bytes, wrong_bytes])
    def test_wrong_bytes_are_refused_by_name_and_nothing_changes(
        self, direct: Site, hub_model: str, fault, tmp_path: Path
    ) -> None:
        logged = direct.call(clients.log_hub_model, hub_model)
        before = {path: path.stat().st_size for path in (direct.store / "manifests").rglob("*")}
        direct.hub.fault = on_bodies(fault)
        try:
            done = cas_command(direct, tmp_path, "persist", logged.by_id)
        finally:
            direct.hub.fault = None
        assert done.returncode == 1
        assert f"hf://models/{hub_model}@" in done.stderr
        assert "expected sha256:" in done.stderr
        assert "found sha256:" in done.stderr
        assert "Traceback" not in done.stderr
        assert {path: path.stat().st_size for path in (direct.store / "manifests").rglob("*")} == before


class TestModelsThatPlainMlflowLogged:
    def test_they_are_persisted_verbatim(self, direct: Site, llama: Checkpoint, tmp_path: Path) -> None:
        logged = direct.call(clients.log_by_reference, LLAMA)
        direct.call(clients.persist_ours, logged.by_run)
        place = Place(Store.open(direct.store), root_of(direct, logged).path)
        place.checkout("", tmp_path / "out", disposable=False)
        assert digests(tmp_path / "out" / "model", "*.safetensors") == digests(llama.directory, "*.safetensors")
        direct.hub.down()
        try:
            loaded = direct.call_fresh(tmp_path, clients.load_and_generate, logged.by_id, logged.by_run)
        finally:
            direct.hub.up()
        assert set(loaded.values()) == {llama.output}

    def test_their_mlmodel_says_what_mlflows_own_persisting_would(
        self, direct: Site, llama: Checkpoint, tmp_path: Path
    ) -> None:
        ours, theirs = (direct.call(clients.log_by_reference, LLAMA) for _ in range(2))
        direct.call(clients.persist_ours, ours.by_id)
        direct.call(clients.persist, theirs.by_id)
        flavors = [direct.call(flavor_of, logged.by_id) for logged in (ours, theirs)]
        assert flavors[0] == flavors[1]
        assert direct.call(clients.size_in_mlmodel, ours.by_id) > llama.size

    def test_they_can_be_materialized_for_machines_without_this_package(
        self, direct: Site, llama: Checkpoint, tmp_path: Path
    ) -> None:
        logged = direct.call(clients.log_by_reference, LLAMA)
        done = cas_command(direct, tmp_path, "persist", logged.by_id, "--to", str(tmp_path / "plain"))
        assert done.returncode == 0, done.stderr
        direct.hub.down()
        try:
            output = direct.call_fresh(tmp_path / "home", load_without_plugin, tmp_path / "plain")
        finally:
            direct.hub.up()
        assert output == llama.output

    def test_they_are_listed_as_references_until_they_are_persisted(
        self, direct: Site, llama: Checkpoint, tmp_path: Path
    ) -> None:
        logged = direct.call(clients.log_by_reference, LLAMA)
        assert logged.model_id in cas_command(direct, tmp_path, "references", str(direct.store)).stdout
        direct.call(clients.persist_ours, logged.by_id)
        assert logged.model_id not in cas_command(direct, tmp_path, "references", str(direct.store)).stdout


def test_the_command_says_whether_the_hub_still_has_what_is_missing(
    direct: Site, hub_model: str, tmp_path: Path
) -> None:
    logged = direct.call(clients.log_hub_model, hub_model)
    place = f"{direct.store}/{root_of(direct, logged).path}"
    done = cas_command(direct, tmp_path, "references", place, "--check")
    assert (done.returncode, done.stdout.rstrip().endswith(": ok")) == (0, True)
    direct.hub.remove_repo(hub_model)
    done = cas_command(direct, tmp_path, "references", place, "--check")
    assert (done.returncode, done.stdout.rstrip().endswith(": gone")) == (21, True)


def test_a_place_that_is_no_store_of_ours_is_refused(direct: Site, llama: Checkpoint, tmp_path: Path) -> None:
    kind, message = direct.call_fresh(tmp_path, log_to_plain_files, tmp_path / "plain", LLAMA)
    assert kind == "MlflowException"
    assert "no store that knows references" in message


def cas_command(site: Site, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **site.environment(home)}
    return subprocess.run([COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False)


def download_snapshot(repo_id: str) -> str:
    import huggingface_hub

    return huggingface_hub.snapshot_download(repo_id)


def flavor_of(uri: str) -> dict[str, object]:
    import mlflow

    return mlflow.models.Model.load(uri).flavors["transformers"]


def load_without_plugin(directory: Path) -> str:
    sys.modules["cas_mlflow"] = None  # type: ignore[assignment]  # its import fails
    return clients.load_and_generate(str(directory))[str(directory)]


def log_to_plain_files(directory: Path, repo_id: str) -> tuple[str, str]:
    import mlflow

    directory.mkdir()
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("plain", directory.as_uri()))
    return clients.complain(clients.log_hub_model, repo_id)
