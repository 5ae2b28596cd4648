"""What the real client makes of repositories it may not have, or no longer has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from tests.hub.conftest import MODEL, WEIGHTS
from tests.support.hub import LoopbackHub

INVITED = "hf_invited"
STRANGER = "hf_stranger"

Download = Callable[..., bytes]


def api(hub: LoopbackHub, token: str | bool = False) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=token)


def paths(hub: LoopbackHub, repo_id: str = MODEL, token: str | bool = False) -> list[str]:
    return sorted(api(hub, token).list_repo_files(repo_id))


@pytest.mark.parametrize("token", [False, STRANGER])
@pytest.mark.parametrize("filename", [WEIGHTS, "config.json"])
def test_files_of_a_gated_model_are_refused(
    hub: LoopbackHub, download: Download, token: str | bool, filename: str
) -> None:
    hub.access.gate(MODEL, INVITED)
    with pytest.raises(GatedRepoError) as caught:
        download(filename, token=token)
    assert caught.value.response.status_code == (403 if token else 401)


def test_everyone_sees_what_a_gated_model_consists_of(hub: LoopbackHub) -> None:
    hub.access.gate(MODEL, INVITED)
    assert api(hub).model_info(MODEL).gated == "manual"
    assert paths(hub) == ["config.json", "deep/notes.txt", WEIGHTS]


def test_the_invited_get_a_gated_model(hub: LoopbackHub, download: Download, files: Path) -> None:
    hub.access.gate(MODEL, INVITED)
    assert download(WEIGHTS, token=INVITED) == (files / WEIGHTS).read_bytes()


@pytest.mark.parametrize(("token", "status"), [(False, 401), (STRANGER, 404)])
def test_a_private_model_does_not_exist_for_strangers(
    hub: LoopbackHub, download: Download, token: str | bool, status: int
) -> None:
    hub.access.hide(MODEL, INVITED)
    with pytest.raises(RepositoryNotFoundError) as of_file:
        download("config.json", token=token)
    with pytest.raises(RepositoryNotFoundError) as of_info:
        api(hub, token).model_info(MODEL)
    assert {of_file.value.response.status_code, of_info.value.response.status_code} == {status}
    assert not isinstance(of_file.value, GatedRepoError)


def test_the_invited_get_a_private_model(hub: LoopbackHub, download: Download) -> None:
    hub.access.hide(MODEL, INVITED)
    assert paths(hub, token=INVITED)
    assert download("config.json", token=INVITED) == b'{"a": 1}'


def test_a_removed_model_is_not_found(hub: LoopbackHub, download: Download) -> None:
    hub.remove_repo(MODEL)
    with pytest.raises(RepositoryNotFoundError):
        download("config.json")


def test_a_renamed_model_is_found_under_its_old_name(hub: LoopbackHub, download: Download, files: Path) -> None:
    hub.add_repo("acme/new", files)
    hub.remove_repo(MODEL)
    hub.access.rename(MODEL, "acme/new")
    assert api(hub).model_info(MODEL).id == "acme/new"
    assert download(WEIGHTS) == (files / WEIGHTS).read_bytes()


def test_a_renamed_model_is_listed_whole_under_its_old_name(hub: LoopbackHub, files: Path) -> None:
    hub.add_repo("acme/new", files)
    hub.remove_repo(MODEL)
    hub.access.rename(MODEL, "acme/new")
    assert paths(hub) == ["config.json", "deep/notes.txt", WEIGHTS]


def test_a_tampered_file_is_another_one_everywhere(hub: LoopbackHub, download: Download, files: Path) -> None:
    commit = api(hub).model_info(MODEL).sha
    data = bytes((files / WEIGHTS).stat().st_size)
    before = api(hub).model_info(MODEL, files_metadata=True).siblings
    hub.tamper(MODEL, WEIGHTS, data)
    after = api(hub).model_info(MODEL, files_metadata=True)
    assert after.sha == commit
    assert after.siblings != before
    assert download(WEIGHTS) == data
