"""Models that plain MLflow logged by name only: what they need, and what they become when they are complete."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import yaml

from cas.digest import Digest
from cas.errors import InvalidInput
from cas.sources import RemoteFile, Snapshot
from cas_mlflow.stock import HubNeed, is_reference, needs, persisted, select
from tests.support.hub import LoopbackHub
from tests.support.processes import run_fresh

from . import stock_models

REPOS = ("sharded", "both", "pickled", "bare", "words", "vit", "audio", "clip")
MODELS = ("sharded", "both", "pickled", "bare", "vit", "audio", "peft", "clip")
COMMIT = "c" * 40


@dataclass(frozen=True)
class World:
    """Every model, as logged, as completed by us, and by MLflow's own code where that can; and what they computed:
    when logged, with the Hub there, and when completed, after it had gone."""

    hub: Path
    commits: dict[str, str]
    logged: Path
    ours: Path
    theirs: Path
    before: dict[str, Any]
    after: dict[str, Any]

    def mlmodel(self, name: str) -> str:
        return self.logged.joinpath(name, "MLmodel").read_text()

    def of_ours(self, name: str) -> set[str]:
        top = self.ours / name
        return {path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file()}


def snapshot_of(name: str, directory: Path, commit: str) -> Snapshot:
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return listing(name, {path.relative_to(directory).as_posix(): path.stat().st_size for path in paths}, commit)


def listing(name: str, sizes: dict[str, int], commit: str = COMMIT) -> Snapshot:
    digest = Digest("sha256", "0" * 64)
    files = [RemoteFile(path, size, digest, f"hf://models/{name}@{commit}/{path}") for path, size in sizes.items()]
    return Snapshot(name, commit, files)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    top = tmp_path_factory.mktemp("stock")
    repos, logged, ours, theirs = (top / name for name in ("repos", "logged", "ours", "theirs"))
    names = {name: f"acme/{name}" for name in REPOS}
    common = {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "DISABLE_SAFETENSORS_CONVERSION": "1"}
    own = common | {"MLFLOW_TRACKING_URI": f"sqlite:///{top}/mlflow.db"}
    with LoopbackHub() as hub:
        online = own | hub.environment(top / "cache")
        # One process makes, logs and persists: it takes most of the time to start.
        with ProcessPoolExecutor(1, get_context("spawn"), stock_models.enter, (online,)) as pool:
            pool.submit(stock_models.make, repos).result()
            commits = {name: hub.add_repo(names[name], repos / name) for name in REPOS}
            before = pool.submit(stock_models.log, names, logged).result()
            shutil.copytree(logged, theirs)
            mine = [theirs / name for name in MODELS if name not in stock_models.COMPONENTS_ONLY]
            pool.submit(stock_models.persist_as_mlflow_does, mine).result()
        nowhere = own | hub.environment(top / "empty-cache") | {"HF_HUB_OFFLINE": "1"}
    for name in MODELS:
        complete(logged / name, ours / name, repos, commits)
    after = run_fresh(nowhere, stock_models.load, ours, list(MODELS))
    yield World(repos, commits, logged, ours, theirs, before, after)
    shutil.rmtree(top)


def complete(source: Path, target: Path, repos: Path, commits: dict[str, str]) -> None:
    """What persisting does, with plain copies."""
    shutil.copytree(source, target)
    mlmodel = source.joinpath("MLmodel").read_text()
    for need in needs(mlmodel):
        repo = need.repo.removeprefix("acme/")
        assert need.revision == commits[repo]
        for path, file in select(need, snapshot_of(need.repo, repos / repo, commits[repo])).items():
            target.joinpath(path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(repos / repo / file.path, target / path)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    target.joinpath("MLmodel").write_text(persisted(mlmodel, size))


@pytest.mark.parametrize("name", MODELS)
class TestCompleted:
    def test_it_loads_without_the_hub_and_computes_the_same(self, world: World, name: str) -> None:
        assert world.before[name]
        assert world.after[name] == world.before[name]

    def test_it_was_a_reference_and_is_none_any_more(self, world: World, name: str) -> None:
        assert is_reference(world.mlmodel(name))
        assert not is_reference(world.ours.joinpath(name, "MLmodel").read_text())

    def test_its_flavor_is_what_mlflows_own_code_leaves(self, world: World, name: str) -> None:
        """Which fails for a model with a processor: that becomes what logging it with its weights would make."""
        whole = world.theirs / name
        if name in stock_models.COMPONENTS_ONLY:
            whole = world.logged / f"{name}-whole"
        ours, theirs = (yaml.safe_load(top.joinpath("MLmodel").read_text()) for top in (world.ours / name, whole))
        assert ours["flavors"]["transformers"] == theirs["flavors"]["transformers"]

    def test_nothing_else_of_the_mlmodel_changes_but_the_size(self, world: World, name: str) -> None:
        before, after = (stock_models.read_mlmodel(top / name) for top in (world.logged, world.ours))
        assert after["model_size_bytes"] > before["model_size_bytes"] > 0
        for each in (before, after):
            del each["flavors"]["transformers"], each["model_size_bytes"]
        assert before == after


class TestNeeds:
    def test_a_component_can_be_of_another_repository(self, world: World) -> None:
        assert needs(world.mlmodel("bare")) == [
            HubNeed("acme/bare", world.commits["bare"], "model", weights=True),
            HubNeed("acme/words", world.commits["words"], "components/tokenizer", weights=False),
        ]

    def test_a_processor_is_a_component(self, world: World) -> None:
        targets = [need.target for need in needs(world.mlmodel("clip"))]
        assert targets[0] == "model"
        assert set(targets) >= {"components/tokenizer", "components/image_processor", "components/processor"}

    def test_of_a_peft_model_it_is_the_base_model(self, world: World) -> None:
        assert needs(world.mlmodel("peft"))[0].repo == "acme/sharded"
        assert {"peft/adapter_model.safetensors", "model/config.json"} <= world.of_ours("peft")

    def test_without_a_commit_it_is_refused(self, world: World) -> None:
        document = yaml.safe_load(world.mlmodel("bare"))
        document["flavors"]["transformers"]["tokenizer_revision"] = None
        with pytest.raises(InvalidInput, match="tokenizer_revision: None"):
            needs(yaml.safe_dump(document))

    def test_a_component_cannot_be_somewhere_else(self, world: World) -> None:
        with pytest.raises(InvalidInput, match=r"\.\."):
            needs(world.mlmodel("bare").replace("- tokenizer", "- ../../tokenizer"))


class TestIsReference:
    def test_a_model_with_its_weights_is_none(self, world: World) -> None:
        assert not is_reference(world.logged.joinpath("clip-whole", "MLmodel").read_text())

    @pytest.mark.parametrize(
        "text", ["", "[]", "flavors: 5", "flavors: {sklearn: {}}", "{", "flavors: {transformers: 1}"]
    )
    def test_what_is_no_model_of_this_flavor_is_none(self, text: str) -> None:
        assert not is_reference(text)
        with pytest.raises(InvalidInput):
            persisted(text, 1)


class TestSelect:
    def test_shards_and_their_index_are_taken(self, world: World) -> None:
        weights = {path for path in world.of_ours("sharded") if ".safetensors" in path}
        assert weights == {f"model/{path.name}" for path in world.hub.joinpath("sharded").glob("*.safetensors*")}
        assert len(weights) > 2

    def test_no_other_weights_than_those_transformers_loads(self, world: World) -> None:
        names = ("config.json", "generation_config.json", "model.safetensors")
        assert {path for path in world.of_ours("both") if path.startswith("model/")} == {
            f"model/{name}" for name in (*names, "tokenizer.json", "tokenizer_config.json")
        }

    def test_a_component_gets_no_weights(self, world: World) -> None:
        components = {path for path in world.of_ours("sharded") if path.startswith("components/")}
        assert "components/tokenizer/tokenizer.json" in components
        assert not [path for path in components if "safetensors" in path]

    def test_pickles_are_taken_where_there_is_nothing_better(self) -> None:
        sharded = {f"pytorch_model-0000{number}-of-00002.bin": 9 for number in (1, 2)}
        sharded |= {"pytorch_model.bin.index.json": 1, "config.json": 1}
        assert set(chosen(sharded | {"training_args.bin": 1, "optimizer.bin": 1})) == set(sharded)
        assert "pytorch_model.bin" not in chosen({"pytorch_model.bin": 1} | LOADABLE)

    @pytest.mark.parametrize("shard", ["layers-7.safetensors", "model.safetensors-00001-of-00014.safetensors"])
    def test_shards_may_be_called_anything(self, shard: str) -> None:
        index = {"config.json": 1, "model.safetensors.index.json": 1}
        assert set(chosen(index | {shard: 9})) == {*index, shard}

    def test_a_variant_is_another_model(self) -> None:
        model = {"config.json": 1, "model.safetensors.index.json": 1, "model-00001-of-00001.safetensors": 9}
        variant = {"model.safetensors.index.fp16.json": 1, "model.fp16-00001-of-00001.safetensors": 9}
        assert set(chosen(model | variant)) == set(model)

    def test_code_and_templates_come_too(self) -> None:
        wanted = {"modeling_x.py": 1, "parts/attention.py": 1, "chat_template.jinja": 1, "merges.txt": 1}
        wanted |= {"additional_chat_templates/tool_use.jinja": 1, "spiece.model": 1, "prophetnet.tokenizer": 1}
        assert set(chosen(LOADABLE | wanted | {"figure.png": 1, "runs/events.json": 1})) == {*LOADABLE, *wanted}

    def test_an_embedded_adapter_belongs_to_the_model(self) -> None:
        adapter = {"adapter_config.json": 1, "adapter_model.safetensors": 5}
        assert set(chosen(LOADABLE | adapter)) == {*LOADABLE, *adapter}

    @pytest.mark.parametrize(
        ("files", "said"),
        [
            ({"config.json": 1, "tf_model.h5": 9}, "none of model.safetensors, .*pytorch_model.bin"),
            ({"adapter_config.json": 1, "adapter_model.safetensors": 9}, "PEFT adapter"),
            ({"model.safetensors": 9}, "no config.json"),
            ({"config.json": 1, "model.safetensors.index.json": 1}, "none of the files"),
        ],
    )
    def test_what_cannot_be_loaded_is_refused_by_name(self, files: dict[str, int], said: str) -> None:
        with pytest.raises(InvalidInput, match=f"acme/x@{COMMIT} .*{said}"):
            chosen(files)


LOADABLE = {"config.json": 1, "model.safetensors": 9}


def chosen(files: dict[str, int]) -> dict[str, RemoteFile]:
    return select(HubNeed("acme/x", COMMIT, "", weights=True), listing("acme/x", files))
