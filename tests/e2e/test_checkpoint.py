"""Logging a checkpoint from where it lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from cas import Store
from cas.roots import locate
from cas.verify import verify

from . import clients
from .clients import Logged
from .conftest import Checkpoint, Site
from .measure import digests, stored_bytes

VARYING = {"MLmodel"}  # it holds identifiers and times


def download(site: Site, logged: Logged, destination: Path) -> Path:
    destination.mkdir()
    return site.call(clients.download, logged.by_id, destination)


def test_it_is_the_model_that_logging_the_path_makes(site: Site, llama: Checkpoint, tmp_path: Path) -> None:
    ours = site.call(clients.log_checkpoint, llama.directory)
    plain = site.call(clients.log_by_path, llama.directory)
    trees = [digests(download(site, logged, tmp_path / logged.model_id)) for logged in (ours, plain)]
    for tree in trees:
        tree.pop("registered_model_meta", None)
        assert tree.pop("MLmodel")
    assert trees[0] == trees[1]
    flavors = [site.call(flavor_of, logged.by_id) for logged in (ours, plain)]
    assert flavors[0] == flavors[1]


def test_its_size_is_that_of_the_model_not_of_the_pointers(site: Site, llama: Checkpoint) -> None:
    ours, plain = (site.call(log, llama.directory) for log in (clients.log_checkpoint, clients.log_by_path))
    assert site.call(clients.size_in_mlmodel, ours.by_id) == site.call(clients.size_in_mlmodel, plain.by_id)


def test_it_loads_by_every_name(site: Site, llama: Checkpoint, tmp_path: Path) -> None:
    logged = site.call(clients.log_checkpoint, llama.directory, registered_model_name=f"checkpoint-{site.name}")
    uris = [logged.by_id, logged.by_run, f"models:/checkpoint-{site.name}/1"]
    assert site.call_fresh(tmp_path, clients.load_and_generate, *uris) == dict.fromkeys(uris, llama.output)


def test_no_weights_are_written_beside_the_store(direct: Site, make_checkpoint, tmp_path: Path) -> None:
    """In a process that cannot write a file as large as a shard, and whose store has the bytes already."""
    checkpoint = make_checkpoint(21)
    smallest = min(shard.stat().st_size for shard in checkpoint.shards)
    before = stored_bytes(direct.store)
    logged = direct.call_fresh(tmp_path, clients.log_under_file_size_limit, checkpoint.directory, smallest // 2)
    assert stored_bytes(direct.store) - before < checkpoint.size + 100_000
    assert direct.call_fresh(tmp_path, clients.load_and_generate, logged.by_id) == {logged.by_id: checkpoint.output}


def test_nothing_is_left_of_a_stage(direct: Site, llama: Checkpoint, tmp_path: Path) -> None:
    direct.call_fresh(tmp_path, clients.log_checkpoint, llama.directory)
    assert not list((tmp_path / "tmp").glob("mlflow-cas-*"))
    assert not list((direct.store / "intents").glob("*"))
    assert not verify(Store.open(direct.store)).problems


def test_a_directory_that_is_no_checkpoint_gets_mlflows_error_and_leaves_nothing(
    direct: Site, llama: Checkpoint, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "model.safetensors").write_bytes(bytes(2_000_000))
    kind, message = direct.call(clients.complain, clients.log_checkpoint, tmp_path / "empty")
    assert kind == "MlflowException"
    assert "config.json" in message
    assert not list((direct.store / "intents").glob("*"))


def test_any_flavor_can_log_a_stage(direct: Site, llama: Checkpoint, tmp_path: Path) -> None:
    before = stored_bytes(direct.store)
    uri = direct.call(clients.log_stage_as_pyfunc, llama.directory)
    assert stored_bytes(direct.store) - before < llama.size + 100_000
    assert direct.call_fresh(tmp_path, clients.predict, uri) == {uri: str(llama.size)}


def test_a_model_that_reads_no_text_is_logged_too(direct: Site, tmp_path: Path) -> None:
    labels = direct.call(clients.make_vision_checkpoint, tmp_path / "vit")
    direct.hub.add_repo("acme/vit", tmp_path / "vit")
    checkpoint = direct.call(clients.log_vision_checkpoint, tmp_path / "vit")
    reference = direct.call(clients.log_vision_reference, "acme/vit")
    for uri in (checkpoint, reference):
        assert direct.call(clients.classify, uri) == labels
        names = {path.name for path in direct.call(clients.download, uri).rglob("*")}
        assert not {name for name in names if "tokenizer" in name}


class TestPointersThatAreRefused:
    """Nothing is logged, and the error says why."""

    @pytest.fixture
    def place(self, site: Site, llama: Checkpoint) -> str:
        return site.call(clients.log_checkpoint, llama.directory).location

    def manifest(self, site: Site, place: str) -> list[str]:
        inside = place.partition("mlflow-artifacts:/")[2] or place.partition(f"{site.store}/")[2]
        root = Store.open(site.store).artifact_root(locate(inside.strip("/")).root)
        return [entry.path for entry in root.manifest()]

    def refuse(self, site: Site, place: str, data: bytes) -> str:
        before = self.manifest(site, place)
        _, message = site.call(clients.complain, clients.log_bytes, place, "forged.safetensors", data)
        assert self.manifest(site, place) == before
        return message

    def digest(self, site: Site, llama: Checkpoint) -> tuple[str, int]:
        """What somebody else has stored."""
        shard = llama.shards[0]
        with shard.open("rb") as file:
            from blake3 import blake3

            return f"blake3:{blake3(file.read()).hexdigest()}", shard.stat().st_size

    def test_one_that_only_knows_a_digest(self, site: Site, place: str, llama: Checkpoint) -> None:
        digest, size = self.digest(site, llama)
        for intent in ("", "intent 01ARZ3NDEKTSV4RRFFQ69G5FAV\n"):
            message = self.refuse(site, place, pointer(f"digest {digest}\nsize {size}\n{intent}"))
            assert site.name == "proxied" or "which nobody holds for it" in message

    def test_one_whose_stage_has_ended(self, direct: Site, llama: Checkpoint) -> None:
        location = direct.call(clients.log_checkpoint, llama.directory).location
        kind, message = direct.call(clients.complain, clients.log_stage_too_late, llama.directory, location)
        assert kind == "MlflowException"
        assert "while the `stage` that wrote it is open" in message

    @pytest.mark.parametrize("lie", ["digest", "size", "repository"])
    def test_one_whose_origin_says_otherwise(self, site: Site, place: str, llama: Checkpoint, lie: str) -> None:
        size = llama.shards[0].stat().st_size
        sha256 = digests(llama.directory)[llama.shards[0].name]
        commit = site.hub._repos["acme/tiny-llama"].main
        origin = (
            f"hf://models/acme/{'none' if lie == 'repository' else 'tiny-llama'}@{commit}/{llama.shards[0].name}"
        )
        sha256 = "0" * 64 if lie == "digest" else sha256
        size += lie == "size"
        message = self.refuse(site, place, pointer(f"digest sha256:{sha256}\nsize {size}\norigin {origin}\n"))
        assert site.name == "proxied" or "its source says" in message

    @pytest.mark.parametrize("text", ["", "digest blake3:00\nsize 1\n", "size 1\n", "digest sha256:zz\nsize x\n"])
    def test_one_that_is_malformed(self, site: Site, place: str, text: str) -> None:
        message = self.refuse(site, place, pointer(text))
        assert site.name == "proxied" or "malformed pointer file" in message

    def test_a_text_that_mentions_one_is_a_text(self, site: Site, place: str) -> None:
        site.call(clients.log_bytes, place, "about.txt", b"About pointers: " + pointer(""))
        assert "about.txt" in self.manifest(site, place)


def pointer(text: str) -> bytes:
    return b"# mlflow-cas pointer 1: stands for a large file, which is not here\n" + text.encode()


def flavor_of(uri: str) -> dict[str, object]:
    import mlflow

    return mlflow.models.Model.load(uri).flavors["transformers"]
