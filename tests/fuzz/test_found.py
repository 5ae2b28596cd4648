"""What fuzzing found, one by one."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow.exceptions import MlflowException

import cas
from cas.backends.bundle import BundleBackend
from cas.digest import digest_of
from cas.errors import DestinationExists, InvalidInput, InvalidPath, InvalidURI, MalformedRecord
from cas.intent import Intent
from cas.keys import fragment_key, intent_key
from cas.paths import check_path
from cas.place import Place
from cas.roots import parse_uri
from cas.settings import Settings
from cas.ulid import new_ulid
from cas_cli.main import main
from cas_mlflow.repository import CasArtifactRepository
from cas_mlflow.stock import is_reference, needs
from cas_mlflow.tensors import read_header
from tests.fuzz.files import BOMBS

RUN = f"7/{'a' * 32}/artifacts"


@pytest.mark.parametrize(("size", "offset"), [(1 << 62, 0), ((1 << 20) + 1, 0), (1, (1 << 63) - 1)])
def test_a_small_file_of_any_size_at_any_place_is_no_record(store: cas.Store, size: int, offset: int) -> None:
    intent = new_ulid()
    row = {"path": "a", "size": size, "digest": str(digest_of(b"")), "inline": offset}
    header = json.dumps({"intent": intent, "puts": [row], "removed": []}).encode()
    record = Path(store.name, fragment_key(RUN, intent))
    record.parent.mkdir(parents=True)
    record.write_bytes(b"cas-fragment 1 %d %s\n" % (len(header), digest_of(header).hex.encode()) + header)
    with pytest.raises(MalformedRecord, match="too many for a fragment"):
        store.artifact_root(RUN).manifest()


def test_a_local_store_asks_for_no_more_memory_than_there_is_to_read(store: cas.Store) -> None:
    store.backend.put("condemned/one", [b"content"], create=True)
    assert store.backend.read("condemned/one", 3, 1 << 62) == b"tent"
    assert store.backend.read("condemned/one", 100, 1 << 62) == b""


def test_infinite_numbers_are_malformed() -> None:
    name = new_ulid()
    intent = Intent(name, fragment_key(RUN, name)).encode().replace(b"86400", b"Infinity")
    with pytest.raises(MalformedRecord):
        Intent.decode(intent_key(name), intent)
    with pytest.raises(MalformedRecord):
        Settings.decode("store", Settings("id").encode().replace(b"16384", b"1e999"))


def test_a_path_is_no_markup_to_the_command_line(store: cas.Store) -> None:
    store.artifact_root().ingest_bytes(b"", "[/red]:smile:[bold]")
    result = CliRunner().invoke(main, ["ls", "-r", store.name])
    assert "[/red]:smile:[bold]" in result.output
    assert result.exit_code == 0


def test_a_path_is_no_deeper_than_trees_can_be_walked(store: cas.Store, tmp_path: Path) -> None:
    deep = "/".join("d" * 128)
    store.artifact_root(deep).ingest_bytes(b"content", deep)
    store.artifact_root(deep).checkout("", tmp_path / "out")
    with pytest.raises(InvalidPath, match="128 components"):
        check_path(f"{deep}/d")


@pytest.mark.parametrize("uri", ["cas://[", "cas:///a\n/b", "cas-s3://bucket\t/a", "//[x]://"])
def test_what_urlsplit_rejects_or_rewrites_is_no_uri(uri: str) -> None:
    with pytest.raises(InvalidURI):
        parse_uri(uri)


def test_a_path_that_looks_like_a_malformed_url_is_refused_as_mlflow_refuses_paths(store: cas.Store) -> None:
    repository = CasArtifactRepository(f"cas://{store.name}/{RUN}")
    for call in (repository.list_artifacts, repository.download_artifacts, repository.delete_artifacts):
        with pytest.raises(MlflowException) as caught:
            call("//[")
        assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize("bomb", BOMBS, ids=range(len(BOMBS)))
def test_a_bomb_is_no_reference_or_cannot_be_persisted(bomb: str) -> None:
    if is_reference(bomb):
        with pytest.raises(InvalidInput):
            needs(bomb)


def test_an_mlmodel_that_is_no_text_is_no_reference() -> None:
    assert not is_reference(b"flavors: \xff")


def test_an_alias_in_an_mlmodel_is_what_it_stands_for() -> None:
    """YAML libraries write them where one object stands twice."""
    text = "name: &a org/name\nflavors: {transformers: {source_model_name: *a, source_model_revision: c}}"
    assert needs(text)[0].repo == "org/name"


def test_a_header_of_more_tensors_than_any_model_has_is_not_parsed() -> None:
    tensor = '"t%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    header = ("{" + ",".join(tensor % number for number in range(140_000)) + "}").encode()
    data = len(header).to_bytes(8, "little") + header
    with pytest.raises(MalformedRecord):
        read_header(io.BytesIO(data), "file", len(data))


def test_a_header_larger_than_any_models_is_not_read() -> None:
    data = (9 << 20).to_bytes(8, "little") + b"{}".ljust(9 << 20)
    with pytest.raises(MalformedRecord, match="a header of 9437184 bytes"):
        read_header(io.BytesIO(data), "file", len(data))


def test_a_header_with_two_tensors_of_one_name_is_refused() -> None:
    tensor = b'"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    header = b"{%s,%s}" % (tensor, tensor)
    data = len(header).to_bytes(8, "little") + header
    with pytest.raises(MalformedRecord, match="none of safetensors"):
        read_header(io.BytesIO(data), "file", len(data))


def test_a_link_on_the_way_to_an_artifact_root_below_the_destination_is_not_followed(
    store: cas.Store, tmp_path: Path
) -> None:
    store.artifact_root(RUN).ingest_bytes(b"content", "file")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "7").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DestinationExists, match="is a link"):
        Place(store).checkout("", tmp_path / "out", disposable=False)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_destination_that_is_a_file_is_said_to_be_one(root: cas.ArtifactRoot, tmp_path: Path) -> None:
    root.ingest_bytes(b"content", "file")
    (tmp_path / "out").write_bytes(b"in the way")
    for destination in (tmp_path / "out", tmp_path / "out" / "below"):
        with pytest.raises(DestinationExists, match="no directory"):
            root.checkout("", destination)


@pytest.mark.parametrize("field", [b"\x80" + b"\xff" * 11, b"\xff" * 12, b"77777777777\0"])
@pytest.mark.parametrize("kind", [b"0", b"x", b"L"])
def test_a_bundle_with_a_size_that_is_none_is_no_bundle(tmp_path: Path, field: bytes, kind: bytes) -> None:
    header = bytearray(tarfile.TarInfo("cas.json").tobuf())
    header[124:136], header[156:157] = field, kind
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "bundle").write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(InvalidInput, match="no bundle"):
        BundleBackend(tmp_path / "bundle")
