"""Targets: paths, URIs and ids from requests, as an enemy writes them."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from random import Random
from urllib.parse import quote

from mlflow.exceptions import MlflowException

import cas
from cas.backends.bucket import Bucket
from cas.errors import CasError, InvalidInput, InvalidPath
from cas.keys import staged_key
from cas.paths import check_path
from cas.place import Place
from cas.roots import find_store, parse_uri
from cas.ulid import new_ulid
from cas.uploads import _Upload
from cas_mlflow.repository import CasArtifactRepository
from tests.fuzz.mutation import NUMBERS, TEXTS, mutated_text
from tests.fuzz.records import command
from tests.fuzz.running import Example, Outside

RUN = f"7/{'a' * 32}/artifacts"
KEPT = {"kept": b"kept", "model/weights.bin": b"weights"}
OF_A_STORE = {"cas.json", "blobs", "manifests", "intents", "condemned", "quarantine", "tmp"}


def _path(random: Random) -> str:
    kind = random.random()
    if kind < 0.5:
        return mutated_text(random, random.choice(("model/weights.bin", "kept", "model", RUN)))
    path = random.choice(("/", "//", "", "\\", "/./")).join(random.choices(TEXTS, k=random.randint(1, 4)))
    return path if kind < 0.9 else quote(path.encode("utf-8", "surrogatepass"), safe="")


def paths(_directory: Path) -> Example:
    """A path that is accepted stays below whatever it is joined to."""

    def example(random: Random) -> None:
        text = _path(random)
        try:
            path = check_path(text)
        except InvalidPath:
            return
        joined = os.path.join("/some/where", path)
        assert path == text
        assert os.path.normpath(joined) == joined
        assert joined.startswith("/some/where/")
        assert len(os.fsencode(joined)) < 4096

    return example


def operations(directory: Path) -> Example:
    """Every operation with such paths: nothing outside the store and the destination is touched, or read."""
    around, source, destination = directory / "around", directory / "source", directory / "around" / "destination"
    around.mkdir()
    store = cas.Store.create(around / "store")
    outside = Outside(around, Path(store.name), destination)
    source.mkdir()
    (source / "file").write_bytes(b"hostile")
    place, root = Place(store), store.artifact_root(RUN)
    repository = CasArtifactRepository(f"cas://{store.name}/{RUN}")

    def example(random: Random) -> None:
        if any(root.manifest().get(each) is None for each in KEPT):
            root.remove()
            for each, data in KEPT.items():
                root.ingest_bytes(data, each)
        shutil.rmtree(destination, ignore_errors=True)
        destination.mkdir()
        path, to = _path(random), str(destination)
        for use in random.sample(
            [
                lambda: root.ingest_bytes(b"hostile", path),
                lambda: root.ingest_stream([b"hostile"], path),
                lambda: root.ingest_tree(source, path),
                lambda: store.artifact_root(path).ingest_bytes(b"hostile", "file"),
                lambda: place.ingest_bytes(b"hostile", path),
                lambda: root.list(path),
                lambda: place.list(path),
                lambda: _no_secret(root.open(path).read()),
                lambda: _no_secret(place.open(path).read()),
                lambda: root.checkout(path, destination),
                lambda: place.checkout(path, destination, disposable=True),
                lambda: place.checkout("", destination, disposable=False),
                lambda: root.remove(path),
                lambda: repository.log_artifact(str(source / "file"), path),
                lambda: repository.log_artifacts(str(source), path),
                lambda: repository.log_artifact_from_stream(io.BytesIO(b"hostile"), path),
                lambda: repository.list_artifacts(path),
                lambda: repository.get_local_path(path),
                lambda: repository.download_artifacts(path, to),
                lambda: repository.delete_artifacts(path),
                lambda: command("ls", f"cas://{store.name}/{path}"),
            ],
            k=6,
        ):
            try:
                use()
            except (CasError, MlflowException):
                continue
        everything = destination / "everything"
        shutil.rmtree(everything, ignore_errors=True)
        everything.mkdir()
        repository.download_artifacts("", str(everything))
        for file in destination.rglob("*"):
            assert not file.is_symlink()
            assert file.is_dir() or _no_secret(file.read_bytes())
        outside.check()
        assert {each.name for each in Path(store.name).iterdir()} <= OF_A_STORE
        if len(root.manifest()) > 20:
            root.remove()

    return example


def _no_secret(data: bytes) -> bool:
    assert b"nobody may read this" not in data
    return True


def uris(directory: Path) -> Example:
    """A URI names an absolute path that does not climb, or a bucket; and a store only where there is one."""
    around = directory / "around"
    around.mkdir()
    store = cas.Store.create(around / "store")
    Outside(around)
    starts = [f"cas://{store.name}/{RUN}/model", f"cas:{store.name}", "cas-s3://bucket/prefix", "s3://bucket/a/b"]

    def example(random: Random) -> None:
        uri = mutated_text(random, random.choice(starts))
        if random.random() < 0.3:
            uri = random.choice(("cas://", "cas:", "cas:///", "cas-s3://", "gs://", "http://", "")) + _path(random)
        try:
            place = parse_uri(uri)
            if isinstance(place, Bucket):
                assert not place.prefix or check_path(place.prefix)
                return
            assert place.is_absolute()
            if uri.startswith("cas:"):
                assert os.path.normpath(place) == str(place)
                found, inside = find_store(place)
                assert str(found) == store.name
                assert not inside or check_path(inside)
        except CasError:
            return

    return example


def uploads(_directory: Path) -> Example:
    """An upload's id, and the path it comes with, name a staged object of that very path."""

    def example(random: Random) -> None:
        path = _path(random) if random.random() < 0.5 else "model/weights.bin"
        name = f"{new_ulid()}.3.2~abcdefgh"
        if random.random() < 0.8:
            name = mutated_text(random, name)
        if random.random() < 0.2:
            name = f"{new_ulid()}.{random.choice(NUMBERS)}.{random.choice(TEXTS)}"
        try:
            upload = _Upload.parse(path, name)
        except InvalidInput:
            return
        assert upload.key == staged_key(check_path(path), name[:26])
        assert check_path(upload.key) == upload.key
        assert 0 < upload.expected <= 99_999
        assert upload.id.isascii()
        assert upload.id.isprintable()

    return example
