"""The emulated Hub, tried with the real clients that the other tests put in front of it."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import pytest

from tests.support.hub import Fault, LoopbackHub, Request, cut, wrong_bytes
from tests.support.models import change_one_tensor, generate, text_pipeline, tiny_llama
from tests.support.processes import run_fresh

LLAMA = "acme/tiny-llama"
BIG = "acme/big"
TOKEN = "hf_secret_of_the_tests"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("checkpoint"), megabytes=4, shards=3)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file over 10 MiB, the unit in which the client saves and hence resumes a download."""
    directory = tmp_path_factory.mktemp("big")
    (directory / "model.safetensors").write_bytes(random.Random(0).randbytes(12 << 20))
    return directory


@pytest.fixture
def hub(checkpoint: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub() as running:
        running.add_repo(LLAMA, checkpoint)
        yield running


def digests(directory: Path) -> dict[str, str]:
    paths = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def get(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    with urlopen(HttpRequest(url, headers=headers)) as response:
        return response.status, dict(response.headers), response.read()


# What the client processes do.


def snapshot(repo_id: str, revision: str | None = None) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(repo_id, revision=revision))


def download(repo_id: str, filename: str, revision: str | None = None) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(repo_id, filename, revision=revision))


def download_errors(*cases: tuple[str, str, str | None]) -> list[str]:
    def error(case: tuple[str, str, str | None]) -> str:
        with pytest.raises(Exception) as caught:
            download(*case)
        return caught.type.__name__

    return [error(case) for case in cases]


def describe(repo_id: str) -> tuple[list[str], dict[str, str | None]]:
    """The repository's paths as listed page by page, and the SHA-256 of those in LFS."""
    from huggingface_hub import HfApi

    api = HfApi()
    info = api.model_info(repo_id, files_metadata=True)
    listed = [entry.path for entry in api.list_repo_tree(repo_id, recursive=True)]
    return listed, {file.rfilename: file.lfs.sha256 if file.lfs else None for file in info.siblings or []}


def log_load_persist(directory: Path) -> dict[str, Any]:
    """Log a pipeline by reference, load it, fetch its weights into the store, and load it again."""
    import mlflow
    import transformers

    def load() -> str:
        return generate(mlflow.transformers.load_model(info.model_uri, device="cpu"))

    def stored() -> list[str]:
        return sorted(path.name for path in directory.rglob("*.safetensors"))

    mlflow.set_tracking_uri(directory.as_uri())
    pipeline = transformers.pipeline("text-generation", model=LLAMA, device="cpu")
    info = mlflow.transformers.log_model(
        pipeline, name="model", save_pretrained=False, pip_requirements=["transformers", "torch"]
    )
    by_reference = {"revision": info.flavors["transformers"]["source_model_revision"], "stored": stored()}
    by_reference["output"] = load()
    mlflow.transformers.persist_pretrained_model(info.model_uri)
    return {"by_reference": by_reference, "persisted": {"stored": stored(), "output": load()}}


def test_snapshot_by_branch_and_by_commit(hub: LoopbackHub, checkpoint: Path, tmp_path: Path) -> None:
    commit = hub.add_repo(LLAMA, checkpoint)
    by_branch = run_fresh(hub.environment(tmp_path / "1"), snapshot, LLAMA)
    by_commit = run_fresh(hub.environment(tmp_path / "2"), snapshot, LLAMA, commit)
    assert by_branch.name == by_commit.name == commit
    assert digests(by_branch) == digests(by_commit) == digests(checkpoint)


def test_changed_content_moves_main_and_keeps_the_old_commit(hub: LoopbackHub, tmp_path: Path) -> None:
    directory = tiny_llama(tmp_path / "changing", megabytes=1, shards=2)
    before, old = digests(directory), hub.add_repo(LLAMA, directory)
    shard = change_one_tensor(directory)
    after, new = digests(directory), hub.add_repo(LLAMA, directory)
    assert [name for name in before if before[name] != after[name]] == [shard.name]
    environment = hub.environment(tmp_path / "cache")
    assert digests(run_fresh(environment, snapshot, LLAMA, old)) == before
    by_branch = run_fresh(environment, snapshot, LLAMA)
    assert by_branch.name == new
    assert digests(by_branch) == after


def test_missing_file_repository_and_revision(hub: LoopbackHub, tmp_path: Path) -> None:
    errors = run_fresh(
        hub.environment(tmp_path),
        download_errors,
        (LLAMA, "absent.bin", None),
        ("acme/absent", "config.json", None),
        (LLAMA, "config.json", "absent"),
    )
    assert errors == ["RemoteEntryNotFoundError", "RepositoryNotFoundError", "RevisionNotFoundError"]
    # Absence is remembered per commit, which takes a commit id on the 404.
    assert list(tmp_path.rglob(".no_exist/*/absent.bin"))


def test_listing_is_paginated_and_names_lfs_files(checkpoint: Path, tmp_path: Path) -> None:
    with LoopbackHub(page_size=2) as hub:
        hub.add_repo(LLAMA, checkpoint)
        listed, sha256 = run_fresh(hub.environment(tmp_path), describe, LLAMA)
        pages = [path for _, path in hub.requests if "/tree/" in path]
    assert listed == sorted(digests(checkpoint))
    assert len(pages) == -(-len(listed) // 2)
    known = {name: digest for name, digest in sha256.items() if digest}
    assert known == {name: d for name, d in digests(checkpoint).items() if name.endswith(".safetensors")}


def test_folders_are_listed(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "deep.txt").write_text("deep")
    (tmp_path / "top.txt").write_text("top")
    with LoopbackHub() as hub:
        hub.add_repo("single", tmp_path)
        url = f"{hub.endpoint}/api/models/single/tree/main"

        def listing(suffix: str) -> list[tuple[str, str]]:
            return [(entry["type"], entry["path"]) for entry in json.loads(get(url + suffix)[2])]

        assert listing("?recursive=false") == [("directory", "a"), ("file", "top.txt")]
        assert listing("/a") == [("directory", "a/b")]
        assert listing("?recursive=true") == [
            ("directory", "a"),
            ("directory", "a/b"),
            ("file", "a/b/deep.txt"),
            ("file", "top.txt"),
        ]


def test_ranges(hub: LoopbackHub, checkpoint: Path) -> None:
    content = (checkpoint / "config.json").read_bytes()
    url = f"{hub.endpoint}/{LLAMA}/resolve/main/config.json"
    for header, wanted in [
        ("bytes=3-9", content[3:10]),
        ("bytes=5-", content[5:]),
        ("bytes=-4", content[-4:]),
    ]:
        status, headers, body = get(url, Range=header)
        assert (status, body) == (206, wanted)
        first = content.index(wanted)
        assert headers["Content-Range"] == f"bytes {first}-{first + len(wanted) - 1}/{len(content)}"


def test_small_files_have_git_blob_etags(hub: LoopbackHub, checkpoint: Path) -> None:
    content = (checkpoint / "config.json").read_bytes()
    _, headers, body = get(f"{hub.endpoint}/{LLAMA}/resolve/main/config.json")
    assert body == content
    oid = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
    assert headers["ETag"] == f'"{oid}"'


def test_the_token_reaches_the_hub_but_not_the_cdn(hub: LoopbackHub, tmp_path: Path) -> None:
    run_fresh({**hub.environment(tmp_path), "HF_TOKEN": TOKEN}, snapshot, LLAMA)
    to_cdn = [request for request in hub.log if request.on_cdn]
    to_hub = [request for request in hub.log if not request.on_cdn]
    assert len(to_cdn) == 3
    assert {request.headers.get("authorization") for request in to_hub} == {f"Bearer {TOKEN}"}
    assert not any("authorization" in request.headers for request in to_cdn)


def test_a_cut_download_is_resumed(big: Path, tmp_path: Path) -> None:
    def cut_once(request: Request) -> Fault | None:
        return cut(11 << 20) if request.on_cdn and "range" not in request.headers else None

    with LoopbackHub() as hub:
        hub.add_repo(BIG, big)
        hub.fault = cut_once
        path = run_fresh(hub.environment(tmp_path), download, BIG, "model.safetensors")
        ranges = [request.headers.get("range") for request in hub.log if request.on_cdn]
    assert path.read_bytes() == (big / "model.safetensors").read_bytes()
    assert ranges == [None, f"bytes={10 << 20}-"]


def test_wrong_bytes_are_of_the_right_length(hub: LoopbackHub, checkpoint: Path, tmp_path: Path) -> None:
    hub.fault = lambda request: wrong_bytes if request.on_cdn else None
    shard = next(checkpoint.glob("*.safetensors"))
    content = run_fresh(hub.environment(tmp_path), download, LLAMA, shard.name).read_bytes()
    # The client accepts them: over HTTP it compares only sizes.
    assert content == bytes(255 - byte for byte in shard.read_bytes())


def test_down_refuses_and_breaks_connections(hub: LoopbackHub, tmp_path: Path) -> None:
    environment, endpoint = hub.environment(tmp_path), hub.endpoint
    cached = run_fresh(environment, download, LLAMA, "config.json")
    kept_alive = HTTPConnection("127.0.0.1", hub.port, timeout=10)
    with closing(kept_alive):
        kept_alive.request("GET", f"/api/models/{LLAMA}")
        assert kept_alive.getresponse().read()
        hub.down()
        seen = len(hub.requests)
        kept_alive.request("GET", f"/api/models/{LLAMA}")
        with pytest.raises(ConnectionError):
            kept_alive.getresponse()
    with pytest.raises(URLError, match="refused"):
        get(endpoint)
    assert run_fresh(environment, download, LLAMA, "config.json") == cached
    assert len(hub.requests) == seen
    hub.up()
    assert hub.endpoint == endpoint
    assert run_fresh(environment, download, LLAMA, "tokenizer.json").exists()


def test_mlflow_logs_loads_and_persists_a_reference(hub: LoopbackHub, checkpoint: Path, tmp_path: Path) -> None:
    commit = hub.add_repo(LLAMA, checkpoint)
    expected = generate(text_pipeline(checkpoint))
    environment = {
        **hub.environment(tmp_path / "cache"),
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    result = run_fresh(environment, log_load_persist, tmp_path / "mlruns")
    assert result["by_reference"] == {"revision": commit, "stored": [], "output": expected}
    assert result["persisted"] == {"stored": ["model.safetensors"], "output": expected}
