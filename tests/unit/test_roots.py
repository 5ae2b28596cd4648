"""From a URI to a store and a place in it."""

from pathlib import Path

import pytest

import cas
from cas.backends.bucket import Bucket
from cas.errors import InvalidPath, InvalidURI, StoreNotFound
from cas.roots import find_store, locate, parse_uri

RUN = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("path", "root", "inside"),
    [
        (f"1/{RUN}/artifacts", f"1/{RUN}/artifacts", ""),
        (f"1/{RUN}/artifacts/model/MLmodel", f"1/{RUN}/artifacts", "model/MLmodel"),
        ("1/models/m-42/artifacts/x", "1/models/m-42/artifacts", "x"),
        ("1/traces/tr-42/artifacts/x", "1/traces/tr-42/artifacts", "x"),
        ("models/m-42/artifacts/x", "models/m-42/artifacts", "x"),
        (f"{RUN}/artifacts/x", f"{RUN}/artifacts", "x"),
        (f"workspaces/w/1/{RUN}/artifacts/x", f"workspaces/w/1/{RUN}/artifacts", "x"),
        (f"1/{RUN}/artifacts/artifacts/x", f"1/{RUN}/artifacts", "artifacts/x"),
        (f"1/{RUN}/artifacts/{RUN}/artifacts/x", f"1/{RUN}/artifacts", f"{RUN}/artifacts/x"),
        (f"artifacts/1/{RUN}/artifacts/x", f"artifacts/1/{RUN}/artifacts", "x"),
        (f"1/{RUN}/artifactsx/y", "", f"1/{RUN}/artifactsx/y"),
        ("some/artifacts/x", "", "some/artifacts/x"),
        ("plain/file.txt", "", "plain/file.txt"),
        ("", "", ""),
    ],
)
def test_the_artifact_root_ends_with_mlflows_artifacts_component(path: str, root: str, inside: str):
    assert locate(path) == (root, inside)


@pytest.mark.parametrize("path", ["../x", "a//b", "a/./b", "/a", "a\\b", "a\0b"])
def test_a_path_that_could_leave_the_store_is_refused(path: str):
    with pytest.raises(InvalidPath):
        locate(path)


@pytest.mark.parametrize("uri", ["cas:///srv/models", "cas:/srv/models", "cas:///srv/models/", "/srv/models"])
def test_all_spellings_of_a_uri_name_one_place(uri: str):
    assert parse_uri(uri) == Path("/srv/models")


@pytest.mark.parametrize(
    "uri",
    ["cas://host/srv", "cas://srv", "ftp://bucket/x", "cas:///srv?x=1", "cas:///srv#x", "cas:///srv?", "cas:srv"],
)
def test_a_uri_that_is_not_a_local_path_is_refused_with_an_example(uri: str):
    with pytest.raises(InvalidURI, match=r"cas:|query"):
        parse_uri(uri)


@pytest.mark.parametrize("uri", ["cas:///srv/../etc", "cas:///srv//x", "cas:///srv/./x", "cas:///srv/a\\b"])
def test_a_uri_with_a_climbing_path_is_refused(uri: str):
    with pytest.raises(InvalidPath):
        parse_uri(uri)


def test_the_store_is_the_nearest_parent_with_a_cas_json(store: cas.Store):
    top = Path(store.name)
    assert find_store(top / "1" / RUN / "artifacts") == (top, f"1/{RUN}/artifacts")
    assert find_store(top) == (top, "")


@pytest.mark.parametrize("uri", ["cas-s3://models/team/x", "s3://models/team/x/", "cas-s3://models//team/x"])
def test_all_spellings_of_a_bucket_name_one_place(uri: str):
    assert parse_uri(uri) == Bucket("s3", "models", "team/x")
    assert str(parse_uri(uri)) == "cas-s3://models/team/x"


@pytest.mark.parametrize(
    "uri",
    [
        "cas-s3://", "cas-s3:///x", "cas-s3://key:secret@models/x", "cas-s3://models/x?endpoint=http://evil",
        "cas-s3://models/x#y", "cas-s3://mo dels/x", "cas-s3://models/a/../b", "cas-s3://models:9000/x",
    ],
)  # fmt: skip
def test_a_bucket_uri_has_no_room_for_endpoints_keys_or_climbing(uri: str):
    with pytest.raises((InvalidURI, InvalidPath)) as caught:
        parse_uri(uri)
    assert "secret" not in str(caught.value)


def test_outside_a_store_nothing_is_opened(tmp_path: Path):
    with pytest.raises(StoreNotFound, match="cas init"):
        find_store(tmp_path / "nowhere")


def test_a_store_inside_a_store_is_refused(store: cas.Store):
    """A logged file named cas.json, checked out below tmp/, would make one."""
    nested = Path(store.name) / "tmp" / "tree"
    nested.mkdir()
    (nested / "cas.json").write_bytes((Path(store.name) / "cas.json").read_bytes())
    with pytest.raises(InvalidURI, match="inside another"):
        find_store(nested)
