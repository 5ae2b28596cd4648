"""A hub without faults gives the real client what was put there, and nothing it should not see."""

from __future__ import annotations

from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import HfApi, HfFileSystem, snapshot_download

from tests.hub.conftest import MODEL, WEIGHTS
from tests.support.hub import LoopbackHub, cut
from tests.support.hub_faults import Counted, on_bodies
from tests.support.hub_process import hub_process

TOKEN = "hf_secret_of_the_tests"


def contents(directory: Path) -> dict[str, bytes]:
    found = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in found}


def redirect(hub: LoopbackHub) -> str:
    connection = HTTPConnection("127.0.0.1", hub.port, timeout=10)
    try:
        connection.request("HEAD", f"/{MODEL}/resolve/main/{WEIGHTS}")
        return connection.getresponse().headers["Location"]
    finally:
        connection.close()


def test_a_snapshot_is_the_directory(hub: LoopbackHub, files: Path, tmp_path: Path) -> None:
    counted = hub.fault = Counted()
    got = snapshot_download(MODEL, endpoint=hub.endpoint, cache_dir=tmp_path / "cache", token=False)
    assert contents(Path(got)) == contents(files)
    assert counted.bytes == (files / WEIGHTS).stat().st_size


def test_a_listing_of_several_pages_is_whole(files: Path) -> None:
    with LoopbackHub(page_size=1) as hub:
        hub.add_repo(MODEL, files)
        listed = HfApi(endpoint=hub.endpoint, token=False).list_repo_tree(MODEL, recursive=True)
        assert [entry.path for entry in listed] == ["config.json", "deep", "deep/notes.txt", WEIGHTS]
        assert len(hub.log) == 4


def test_a_range_is_read_through_the_file_system(hub: LoopbackHub, files: Path) -> None:
    remote = HfFileSystem(endpoint=hub.endpoint, token=False, skip_instance_cache=True)
    with remote.open(f"{MODEL}/{WEIGHTS}", "rb", block_size=4096) as file:
        file.seek(700_000)
        assert file.read(1000) == (files / WEIGHTS).read_bytes()[700_000:701_000]
    assert "bytes=700000-" in str([request.headers.get("range") for request in hub.log if request.on_cdn])


def test_a_download_after_a_cut_has_the_right_bytes(hub: LoopbackHub, files: Path, tmp_path: Path) -> None:
    hub.fault = on_bodies(cut(300_000), times=1)
    got = snapshot_download(MODEL, endpoint=hub.endpoint, cache_dir=tmp_path / "cache", token=False)
    assert contents(Path(got)) == contents(files)
    assert len([request for request in hub.log if request.on_cdn]) == 2


def test_the_client_keeps_its_token_from_the_cdn(hub: LoopbackHub, tmp_path: Path) -> None:
    snapshot_download(MODEL, endpoint=hub.endpoint, cache_dir=tmp_path / "cache", token=TOKEN)
    seen = {request.on_cdn: request.headers.get("authorization") for request in hub.log}
    assert seen == {False: f"Bearer {TOKEN}", True: None}


def test_a_token_at_the_cdn_is_refused(hub: LoopbackHub) -> None:
    target = urlsplit(redirect(hub))
    connection = HTTPConnection("localhost", hub.port, timeout=10)
    connection.request("GET", f"{target.path}?{target.query}", headers={"Authorization": f"Bearer {TOKEN}"})
    assert connection.getresponse().status == 400
    connection.close()


def test_a_hub_in_another_process_serves_the_same(files: Path, tmp_path: Path) -> None:
    with hub_process({MODEL: files}, cut_one_in=5) as endpoint:
        got = snapshot_download(MODEL, endpoint=endpoint, cache_dir=tmp_path / "cache", token=False)
        assert contents(Path(got)) == contents(files)
