"""FORMAT.md is enough to read a store: a reader written from it alone, and stores written long ago."""

import json
import os
import shutil
from pathlib import Path

import pytest
from blake3 import blake3

import cas
from cas.errors import MalformedRecord, UnsupportedFormat
from tests.support.reading import read

RUN = "7/" + "a" * 32 + "/artifacts"
OLD = Path(__file__).parent / "stores"


def read_by_the_book(store: Path, artifact_root: str) -> dict[str, bytes]:
    """Every file of an artifact root, read as FORMAT.md says, without a line of this package."""
    records: dict[str, tuple[str, str, object]] = {}
    for name in os.listdir(store / "manifests" / artifact_root):
        data = (store / "manifests" / artifact_root / name).read_bytes()
        line, _, rest = data.partition(b"\n")
        magic, version, length, checksum = line.split(b" ")
        assert (magic, version) == (b"cas-fragment", b"1")
        text, body = rest[: int(length)], rest[int(length) :]
        assert blake3(text).hexdigest().encode() == checksum
        header = json.loads(text)
        assert f"{header['intent']}.fragment" == name
        for row in header["puts"] + header["removed"]:
            content = None
            if "inline" in row:
                content = body[row["inline"] : row["inline"] + row["size"]]
            elif "blob" in row:
                content = (store / row["blob"]).read_bytes()
            if content is not None:
                assert "blake3:" + blake3(content).hexdigest() == row["digest"]
            key = (row.get("stamp", header["intent"]), name, content)
            records[row["path"]] = max(records.get(row["path"], ("", "", None)), key, key=lambda each: each[:2])
    return {path: content for path, (_, _, content) in records.items() if isinstance(content, bytes)}


def fill(root: cas.ArtifactRoot) -> dict[str, bytes]:
    contents = {
        "a/small": b"small",
        "a/large": bytes(range(256)) * 100,
        "a/larger": bytes(range(255)) * 200,
        "b": b"",
    }
    for path, data in contents.items():
        root.ingest_bytes(data, path)
    root.ingest_bytes(b"to be removed", "c")
    root.remove("c")
    root.ingest_bytes(b"replaced", "a/small")
    return contents | {"a/small": b"replaced"}


def test_a_reader_written_from_the_page_reads_every_file(store: cas.Store):
    root = store.artifact_root(RUN)
    contents = fill(root)
    assert read_by_the_book(Path(store.name), RUN) == contents
    root.fold()
    assert read_by_the_book(Path(store.name), RUN) == contents


@pytest.mark.parametrize("version", sorted(each.name for each in OLD.iterdir()))
def test_old_stores_open_for_ever(version: str, tmp_path: Path):
    shutil.copytree(OLD / version, tmp_path / version)
    store = cas.Store.open(tmp_path / version)
    root = store.artifact_root(RUN)
    expected = json.loads((OLD / version / ".expected.json").read_text())
    assert {entry.path: blake3(read(root, entry.path)).hexdigest() for entry in root.manifest()} == expected[
        "files"
    ]
    assert str(root.manifest().digest) == expected["manifest"]


def test_a_newer_store_is_refused_and_says_what_to_do(store: cas.Store):
    settings = Path(store.name) / "cas.json"
    settings.chmod(0o644)
    settings.write_text(settings.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(UnsupportedFormat, match=r"format 2.*up to 1.*Upgrade"):
        cas.Store.open(store.name)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "1"}', '{"format": 0, "id": 1}', "nonsense"])
def test_settings_that_cannot_be_read_are_refused(store: cas.Store, text: str):
    settings = Path(store.name) / "cas.json"
    settings.chmod(0o644)
    settings.write_text(text)
    with pytest.raises(MalformedRecord, match=r"cas\.json"):
        cas.Store.open(store.name)


def test_a_fragment_of_a_newer_format_is_refused(store: cas.Store):
    root = store.artifact_root(RUN)
    root.ingest_bytes(b"x", "x")
    ((key, _),) = store.backend.list(f"manifests/{RUN}/")
    data = store.backend.read(key).replace(b"cas-fragment 1 ", b"cas-fragment 2 ", 1)
    store.backend.put(key, [data], create=False)
    with pytest.raises(MalformedRecord, match="newer"):
        cas.Store.open(store.name).artifact_root(RUN).manifest()
