"""Addresses for those who have no keys."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from cas import Store
from cas.place import Place, open_place
from cas_mlflow.repository import CasBucketArtifactRepository
from tests.support.s3_faults import FaultProxy

from .conftest import PLACE


@pytest.fixture
def repository(store: Store, large: Path) -> CasBucketArtifactRepository:
    root = store.artifact_root(PLACE)
    root.ingest_file(large, "model/odd näme.json")
    root.ingest_bytes(b"small", "small")
    return CasBucketArtifactRepository(f"{store.uri}/{PLACE}")


def test_a_large_file_is_got_under_its_own_name_and_type(
    repository: CasBucketArtifactRepository, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = repository.get_download_presigned_url("model/odd näme.json", 60)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(answer.url) as response:
        assert response.read() == large.read_bytes()
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Content-Disposition"] == "attachment; filename*=UTF-8''odd%20n%C3%A4me.json"
    assert answer.file_size == large.stat().st_size


def test_a_small_file_has_no_address(repository: CasBucketArtifactRepository) -> None:
    """It lies inside a fragment; MLflow's client then asks the server."""
    answer = repository.get_download_presigned_url("small")
    assert (answer.url, answer.file_size) == ("", None)


def test_an_address_is_good_for_one_object(
    repository: CasBucketArtifactRepository, store: Store, proxy: FaultProxy
) -> None:
    url = repository.get_download_presigned_url("model/odd näme.json", 60).url
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    path = url.partition("?")[0].replace(proxy.endpoint, "")
    other = url.replace(path, path.rpartition("/blobs/")[0] + "/cas.json")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        opener.open(other)


@pytest.mark.parametrize("path", ["none", "model", "../../secret"])
def test_what_is_no_file_has_no_address(repository: CasBucketArtifactRepository, path: str) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException):
        repository.get_download_presigned_url(path)


def test_a_place_is_found_by_its_uri(repository: CasBucketArtifactRepository, store: Store) -> None:
    place: Place = open_place(f"{store.uri}/{PLACE}/model")
    assert [each.path for each in place.list()] == ["odd näme.json"]
