"""The promises, through MLflow's own calls, its servers and its command line."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

import pytest

from cas import Store
from cas.verify import verify

from . import clients
from .clients import Logged
from .conftest import LLAMA, Checkpoint, Site
from .measure import blob_inodes, digests, file_sizes, stored_bytes

MakeCheckpoint = Callable[[int], Checkpoint]
OVERHEAD = 0.02


def intact(store: Path) -> bool:
    report = verify(Store.open(store))
    assert report.problems == []
    return report.quarantined == 0


@pytest.fixture(scope="session")
def by_path(sites: dict[str, Site], llama: Checkpoint) -> dict[str, Logged]:
    """The checkpoint, logged once at each site."""
    return {name: site.call(clients.log_by_path, llama.directory) for name, site in sites.items()}


@pytest.mark.parametrize(("log", "seed"), [(clients.log_by_path, 1), (clients.log_by_pipeline, 2)])
def test_logging_again_stores_nothing_more(
    site: Site, make_checkpoint: MakeCheckpoint, log: Callable[[Path], Logged], seed: int
) -> None:
    checkpoint = make_checkpoint(seed)
    sizes = [stored_bytes(site.store)]
    for _ in range(3):
        site.call(log, checkpoint.directory)
        sizes.append(stored_bytes(site.store))
    once, thrice = sizes[1] - sizes[0], sizes[3] - sizes[0]
    assert once >= checkpoint.size * 0.99  # it was not there before
    assert thrice <= once * (1 + OVERHEAD)


def test_one_changed_tensor_stores_one_shard(site: Site, make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint(3)
    site.call(clients.log_by_path, checkpoint.directory)
    before = stored_bytes(site.store)
    changed = checkpoint.directory / site.call(clients.change_checkpoint, checkpoint.directory)
    site.call(clients.log_by_path, checkpoint.directory)
    grown = stored_bytes(site.store) - before
    assert changed.stat().st_size <= grown <= changed.stat().st_size + checkpoint.size * OVERHEAD


def test_a_reference_is_persisted_registered_and_loaded_without_the_hub(
    site: Site, llama: Checkpoint, tmp_path: Path
) -> None:
    before = stored_bytes(site.store)
    logged = site.call(clients.log_by_reference, LLAMA)
    assert stored_bytes(site.store) - before < llama.size * OVERHEAD
    site.call(clients.persist, logged.by_id)
    registered = site.call(clients.register, logged.by_id, "persisted")
    uris = [logged.by_id, registered, logged.by_run]
    site.hub.down()
    try:
        loaded = site.call_fresh(tmp_path, load_each_way, uris)
    finally:
        site.hub.up()
    assert loaded == [dict.fromkeys(uris, llama.output)] * 2
    assert not list((tmp_path / "hub-cache").rglob("*.safetensors"))
    assert intact(site.store)


def load_each_way(uris: list[str]) -> list[dict[str, str]]:
    return [clients.load_and_generate(*uris), clients.predict(*uris)]


class TestLoadingDirectly:
    """Weights are mapped where they lie, and nothing is left behind."""

    def test_on_the_file_system_of_the_store(
        self, direct: Site, by_path: dict[str, Logged], llama: Checkpoint, tmp_path: Path
    ) -> None:
        found = self.load(direct, by_path["direct"], llama, tmp_path)
        for loaded in found:
            names = {mapped.name for mapped in loaded.mapped if mapped.inode in blob_inodes(direct.store)}
            assert {Path(name).name for name in names} == {shard.name for shard in llama.shards}
            assert not any(name.startswith(str(direct.store / "blobs")) for name in names)

    def test_with_temporary_files_elsewhere(
        self, direct: Site, by_path: dict[str, Logged], llama: Checkpoint, tmp_path: Path
    ) -> None:
        memory = Path("/dev/shm")
        if not memory.is_dir() or memory.stat().st_dev == direct.store.stat().st_dev:
            pytest.skip("/dev/shm is no file system of its own")
        elsewhere = memory / f"cas-e2e-{os.getpid()}"
        elsewhere.mkdir()
        try:
            self.load(direct, by_path["direct"], llama, elsewhere)
        finally:
            shutil.rmtree(elsewhere)

    @staticmethod
    def load(direct: Site, logged: Logged, llama: Checkpoint, home: Path) -> list[clients.Loaded]:
        unfinished = set(os.listdir(direct.store / "tmp"))
        uris = [logged.by_id, logged.by_run]
        found = direct.call_fresh(home, clients.load_and_look, uris, direct.store)
        for loaded in found:
            assert loaded.output == llama.output
            assert len({mapped.inode for mapped in loaded.mapped} & blob_inodes(direct.store)) == len(llama.shards)
            assert loaded.growth < llama.size * OVERHEAD
        assert os.listdir(home / "tmp") == []
        assert set(os.listdir(direct.store / "tmp")) <= unfinished
        return found


def test_a_download_to_a_named_place_is_the_users_own(
    site: Site, by_path: dict[str, Logged], llama: Checkpoint, tmp_path: Path
) -> None:
    for number, uri in enumerate(by_path[site.name].uris):
        named = tmp_path / str(number)
        downloaded = site.call(clients.download, uri, named)
        assert downloaded.is_relative_to(named)
        assert digests(downloaded / "model", "*.safetensors") == digests(llama.directory, "*.safetensors")
        found = {path: path.lstat() for path in downloaded.rglob("*") if not path.is_dir()}
        assert {stat.S_ISREG(status.st_mode) for status in found.values()} == {True}
        assert {status.st_nlink for status in found.values()} == {1}
        assert {bool(status.st_mode & stat.S_IWUSR) for status in found.values()} == {True}
        assert blob_inodes(site.store).isdisjoint(status.st_ino for status in found.values())


def test_the_command_line_leaves_what_it_downloaded(
    direct: Site, by_path: dict[str, Logged], llama: Checkpoint, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "mlflow", "artifacts", "download", "--artifact-uri"]
    environment = {**os.environ, **direct.environment(tmp_path)}
    running = [
        subprocess.Popen([*command, uri], env=environment, stdout=subprocess.PIPE, text=True)
        for uri in by_path["direct"].uris
    ]
    for process in running:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        printed = Path(output.strip().splitlines()[-1])
        assert printed.is_dir()
        assert digests(printed / "model", "*.safetensors") == digests(llama.directory, "*.safetensors")
        assert {"MLmodel", "conda.yaml", "components/tokenizer/tokenizer.json"} <= file_sizes(printed).keys()


def test_saving_into_a_download_does_not_reach_the_store(
    site: Site, by_path: dict[str, Logged], llama: Checkpoint, tmp_path: Path
) -> None:
    logged = by_path[site.name]
    downloaded = site.call(clients.download, logged.by_id, tmp_path)
    blobs = digests(site.store / "blobs")
    site.call(clients.save_changed, downloaded / "model")
    assert digests(downloaded / "model", "*.safetensors") != digests(llama.directory, "*.safetensors")
    assert digests(site.store / "blobs") == blobs
    assert intact(site.store)


def test_what_the_fluent_api_logs_can_be_read_back(site: Site) -> None:
    assert site.call(clients.log_everything) == {
        "text": "déjà vu\n",
        "values": {"loss": [1.5, None]},
        "image": True,
        "figure": "PNG",
        "table": [["a", 1], ["b", 2]],
        "listed": ["figure.png", "image.png", "notes", "table.json"],
        "notes": ["notes/text.txt", "notes/values.json"],
    }


def test_a_trace_and_its_attachment_can_be_read_back(site: Site, tmp_path: Path) -> None:
    """MLflow 3.17 keeps spans in the database; attachments are artifacts of the trace."""
    picture = os.urandom(40_000)
    traced = site.call(clients.trace, picture)
    assert traced.spans == ["outer", "inner"]
    assert traced.outputs["answer"] == "WHY?"
    attachment = traced.outputs["picture"].removeprefix("mlflow-attachment://").split("?")[0]
    location = f"{traced.location}/attachments/{attachment}"
    assert site.call(clients.download, location, tmp_path).read_bytes() == picture
    # As MLflow's UI asks for it.
    query = urlencode({"request_id": traced.trace_id, "path": attachment})
    url = f"{site.server.uri}/ajax-api/2.0/mlflow/get-trace-artifact?{query}"
    with build_opener(ProxyHandler({})).open(url, timeout=30) as response:
        assert response.read() == picture
