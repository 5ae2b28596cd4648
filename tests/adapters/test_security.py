"""What somebody who may write to a repository must not achieve with a path, a name or a link."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

import cas
from cas_mlflow.repository import CasArtifactRepository
from tests.adapters.deployment import new_run
from tests.adapters.files import content, every_file, log_tree, plant_record, read_tree, write_tree

HOSTILE = [
    "..",
    "../secret",
    "a/../../secret",
    "a/..",
    "/etc/passwd",
    "//etc/passwd",
    ".",
    "./a",
    "a/./b",
    "a//b",
    "back\\slash",
    "..\\secret",
    "a\\..\\b",
]
ENCODED = [
    "%2e%2e/secret",
    "..%2fsecret",
    "%2e%2e%2fsecret",
    "%252e%252e%252fsecret",
    "%25252e%25252e/secret",
    "%2fetc%2fpasswd",
    "..%5csecret",
    "%2e",
    "a%2f%2e%2fb",
    "a%2f%2fb",
    "a#b",
    "a%23b",
]


@pytest.fixture
def store(tmp_path: Path) -> cas.Store:
    """A store beside something that must not be read, written or deleted."""
    write_tree(tmp_path, {"secret": b"secret"})
    return cas.Store.create(tmp_path / "store")


@pytest.fixture
def repository(store: cas.Store) -> CasArtifactRepository:
    repository = CasArtifactRepository(f"cas://{store.name}/{new_run()}")
    log_tree(repository, {"kept": b"kept", "a/b": b"kept"})
    return repository


class TestPaths:
    @pytest.mark.parametrize("path", HOSTILE + ENCODED)
    @pytest.mark.parametrize("method", ["list_artifacts", "download_artifacts", "get_local_path"])
    def test_a_hostile_path_is_not_read(self, repository: CasArtifactRepository, path: str, method: str) -> None:
        with pytest.raises(MlflowException) as caught:
            getattr(repository, method)(path)
        assert caught.value.error_code == "INVALID_PARAMETER_VALUE"

    @pytest.mark.parametrize("path", HOSTILE + ENCODED)
    def test_a_hostile_path_is_not_deleted(
        self, repository: CasArtifactRepository, path: str, tmp_path: Path
    ) -> None:
        with pytest.raises(MlflowException) as caught:
            repository.delete_artifacts(path)
        assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
        assert every_file(repository) == ["a/b", "kept"]
        assert (tmp_path / "secret").read_bytes() == b"secret"

    @pytest.mark.parametrize("path", HOSTILE)
    def test_a_hostile_path_is_not_written_to(
        self, repository: CasArtifactRepository, path: str, source: Path
    ) -> None:
        write_tree(source, {"secret": b"hostile"})
        for call in (
            lambda: repository.log_artifact(str(source / "secret"), path),
            lambda: repository.log_artifacts(str(source), path),
        ):
            with pytest.raises(MlflowException):
                call()
        assert every_file(repository) == ["a/b", "kept"]

    @pytest.mark.parametrize("name", ["..", ".", "a/..", "back\\slash", "nul\0byte", "line\nbreak", ""])
    def test_a_hostile_file_name_is_not_written(self, repository: CasArtifactRepository, name: str) -> None:
        with pytest.raises(MlflowException):
            repository.log_artifact_from_stream(io.BytesIO(b"hostile"), name)
        assert every_file(repository) == ["a/b", "kept"]

    @pytest.mark.parametrize("name", ["back\\slash", "line\nbreak", "escape\x1b[2J", os.fsdecode(b"\xff")])
    def test_a_tree_with_a_hostile_name_is_refused_whole(
        self, repository: CasArtifactRepository, name: str, source: Path
    ) -> None:
        write_tree(source, {"good": b".", f"directory/{name}": b"hostile"})
        with pytest.raises(MlflowException) as caught:
            repository.log_artifacts(str(source))
        assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
        assert every_file(repository) == ["a/b", "kept"]

    @pytest.mark.parametrize("name", ["a#b", "100%", "%2e%2e", "%2fetc", "a%5cb", "a%0ab", "%23", "a%2f%2fb"])
    def test_what_can_be_written_can_be_read_and_deleted(
        self, repository: CasArtifactRepository, name: str, source: Path, destination: Path
    ) -> None:
        """A name that only looks hostile may be refused, or kept as it is; it must not lie there out of reach."""
        write_tree(source, {name: b"content"})
        try:
            repository.log_artifact(str(source / name))
        except MlflowException:
            assert every_file(repository) == ["a/b", "kept"]
            return
        repository.download_artifacts("", str(destination))
        assert read_tree(destination) == {"kept": b"kept", "a/b": b"kept", name: b"content"}
        assert content(repository, name) == b"content"
        repository.delete_artifacts(name)
        assert every_file(repository) == ["a/b", "kept"]

    @pytest.mark.parametrize("path", ["a/b?", "a/b#", "a/b;", "a/b?#", "a%2fb", "kep%74"])
    def test_deleting_what_is_not_there_deletes_nothing_that_resembles_it(
        self, repository: CasArtifactRepository, path: str
    ) -> None:
        """Decoding is for reading. Who deletes `why?` twice must not lose `why`."""
        with suppress(MlflowException):
            repository.delete_artifacts(path)
        assert every_file(repository) == ["a/b", "kept"]

    @pytest.mark.parametrize("inside", ["cas.json", "manifests", "blobs", "tmp"])
    def test_the_files_of_the_store_itself_are_no_artifacts(self, store: cas.Store, inside: str) -> None:
        repository = CasArtifactRepository(f"cas://{store.name}")
        assert repository.list_artifacts(inside) == []
        for read in (repository.download_artifacts, repository.get_local_path):
            with pytest.raises(MlflowException) as caught:
                read(inside)
            assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"


class TestLinks:
    """Links that lie where a download goes, planted there or forgotten."""

    @pytest.fixture
    def outside(self, tmp_path: Path) -> Path:
        return write_tree(tmp_path / "outside", {"b": b"precious"})

    def test_a_directory_that_is_a_link_is_not_followed(
        self, repository: CasArtifactRepository, destination: Path, outside: Path
    ) -> None:
        os.symlink(outside, destination / "a")
        with pytest.raises(MlflowException, match="is a link"):
            repository.download_artifacts("a/b", str(destination))
        with pytest.raises(MlflowException, match="is a link"):
            repository.download_artifacts("", str(destination))
        assert read_tree(outside) == {"b": b"precious"}

    def test_a_file_that_is_a_link_is_replaced_not_written_through(
        self, repository: CasArtifactRepository, destination: Path, outside: Path
    ) -> None:
        os.symlink(outside / "b", destination / "kept")
        repository.download_artifacts("kept", str(destination))
        assert (destination / "kept").read_bytes() == b"kept"
        assert not (destination / "kept").is_symlink()
        assert read_tree(outside) == {"b": b"precious"}

    def test_a_link_to_nothing_makes_no_file_elsewhere(
        self, repository: CasArtifactRepository, destination: Path, outside: Path
    ) -> None:
        os.symlink(outside / "new", destination / "kept")
        repository.download_artifacts("kept", str(destination))
        assert read_tree(outside) == {"b": b"precious"}

    def test_the_way_to_the_destination_may_lead_through_a_link(
        self, repository: CasArtifactRepository, destination: Path, tmp_path: Path
    ) -> None:
        os.symlink(destination, tmp_path / "link")
        repository.download_artifacts("a", str(tmp_path / "link"))
        assert read_tree(destination) == {"a/b": b"kept"}

    def test_the_root_of_a_link_to_a_store_is_that_store(
        self, store: cas.Store, repository: CasArtifactRepository, tmp_path: Path
    ) -> None:
        os.symlink(store.name, tmp_path / "link")
        run = repository.artifact_uri.removeprefix(f"cas://{store.name}")
        assert every_file(CasArtifactRepository(f"cas://{tmp_path}/link{run}")) == ["a/b", "kept"]


class TestManifests:
    """Somebody who may write to the store's directory wrote a record of his own."""

    @pytest.mark.parametrize("path", HOSTILE)
    def test_a_hostile_path_in_a_record_is_neither_shown_nor_written_out(
        self, store: cas.Store, destination: Path, path: str, tmp_path: Path
    ) -> None:
        run = new_run()
        plant_record(Path(store.name), run, path, b"hostile")
        repository = CasArtifactRepository(f"cas://{store.name}/{run}")
        for call in (
            repository.list_artifacts,
            lambda: repository.download_artifacts("", str(destination)),
            lambda: repository.get_local_path("secret"),
            repository.delete_artifacts,
        ):
            with pytest.raises(MlflowException, match="malformed record"):
                call()
        assert read_tree(destination) == {}
        assert (tmp_path / "secret").read_bytes() == b"secret"


class TestURIs:
    @pytest.mark.parametrize(
        "make",
        [
            lambda store: f"cas://{store}?endpoint=elsewhere",
            lambda store: f"cas://{store}?",
            lambda store: f"cas://{store}#fragment",
            lambda store: f"cas://{store}#",
            lambda store: f"cas://host{store}",
            lambda store: f"cas://{store}/a/../b",
            lambda store: f"cas://{store}/a//b",
            lambda store: f"cas://{store}/./b",
            lambda store: f"cas://{store}/a\\b",
            lambda store: "cas:relative",
            lambda store: "cas:",
            lambda store: "cas://",
            lambda store: "cas:///",
        ],
    )
    def test_a_uri_is_a_plain_absolute_path(
        self, store: cas.Store, make: Callable[[str], str], source: Path
    ) -> None:
        repository = CasArtifactRepository(make(store.name))
        for call in (
            repository.list_artifacts,
            lambda: repository.download_artifacts(""),
            repository.delete_artifacts,
            lambda: repository.log_artifacts(str(source)),
        ):
            with pytest.raises(MlflowException) as caught:
                call()
            assert caught.value.error_code == "INVALID_PARAMETER_VALUE"

    @pytest.mark.parametrize("path", ["/etc", "/nowhere/at/all"])
    def test_nothing_outside_a_store_is_opened(self, path: str) -> None:
        repository = CasArtifactRepository(f"cas://{path}")
        for call in (repository.list_artifacts, lambda: repository.get_local_path("passwd")):
            with pytest.raises(MlflowException, match="no store") as caught:
                call()
            assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"

    def test_a_store_inside_a_store_is_refused(self, store: cas.Store) -> None:
        """Whoever can make a directory there could otherwise redirect what is logged below it."""
        inner = Path(store.name, "7")
        cas.Store.create(inner)
        repository = CasArtifactRepository(f"cas://{inner}/{'0' * 32}/artifacts")
        with pytest.raises(MlflowException, match="inside another") as caught:
            repository.list_artifacts()
        assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
