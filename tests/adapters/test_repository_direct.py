"""A client that writes to a store itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

import cas
from cas.links import Mode, probe
from cas_mlflow.repository import CasArtifactRepository
from tests.adapters.deployment import new_run
from tests.adapters.files import MEGABYTE, content, every_file, log_tree, names, pattern, read_tree, write_tree
from tests.adapters.repository_behaviour import MODEL, RepositoryBehaviour
from tests.adapters.stream_behaviour import Broke, Stream, StreamBehaviour

SMALL, LARGE = "model/weights/b.bin", "model/weights/a.bin"


@pytest.fixture
def repository(store: cas.Store) -> CasArtifactRepository:
    return CasArtifactRepository(f"cas://{store.name}/{new_run()}")


def unfinished(store: cas.Store) -> list[str]:
    """Files in this process's scratch directory."""
    return sorted(read_tree(store.scratch.directory))


class TestDirectRepository(RepositoryBehaviour, StreamBehaviour):
    @pytest.fixture
    def repository(self, repository: Any) -> Any:
        return repository


def test_mlflow_finds_the_repository_by_its_scheme(store: cas.Store) -> None:
    assert isinstance(get_artifact_repository(f"cas://{store.name}/{new_run()}"), CasArtifactRepository)


def test_one_slash_is_as_good_as_three(store: cas.Store) -> None:
    run = new_run()
    log_tree(CasArtifactRepository(f"cas:{store.name}/{run}"), {"file": b"."})
    assert every_file(CasArtifactRepository(f"cas://{store.name}/{run}")) == ["file"]


def test_a_missing_directory_is_refused(repository: CasArtifactRepository, source: Path) -> None:
    """MLflow's own repositories log nothing, and say nothing."""
    with pytest.raises(MlflowException, match="not a directory") as caught:
        repository.log_artifacts(str(source / "nothing"))
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def test_names_that_look_percent_encoded_are_kept(repository: CasArtifactRepository) -> None:
    """MLflow's own repositories decode what they are asked for, and then do not find it."""
    files = {"a%20b.txt": b"1", "a b.txt": b"2", "100%25/x%2Fy": b"3", "trailing;": b"4", "why?": b"5"}
    log_tree(repository, files)
    assert names(repository, "100%25") == ["100%25/x%2Fy"]
    assert {path: content(repository, path) for path in files} == files
    repository.delete_artifacts("a%20b.txt")
    assert every_file(repository) == sorted(files.keys() - {"a%20b.txt"})


@pytest.mark.parametrize(("there", "logged"), [("a", "a/b"), ("a/b", "a")])
def test_a_path_is_not_a_file_and_a_directory_at_once(
    repository: CasArtifactRepository, there: str, logged: str
) -> None:
    log_tree(repository, {there: b"there"})
    with pytest.raises(MlflowException, match="path conflict") as caught:
        log_tree(repository, {logged: b"logged"})
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert every_file(repository) == [there]


def test_a_directory_of_the_users_is_not_replaced_by_a_file(
    repository: CasArtifactRepository, tmp_path: Path
) -> None:
    log_tree(repository, {"weights": b"a file"})
    mine = tmp_path / "destination" / "weights" / "mine"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(MlflowException, match="weights is a directory") as caught:
        repository.download_artifacts("", str(tmp_path / "destination"))
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert mine.read_bytes() == b"mine"


def test_a_directory_has_no_local_path(repository: CasArtifactRepository) -> None:
    log_tree(repository, MODEL)
    for path in ("", "model", "model/"):
        with pytest.raises(MlflowException, match="refers to a directory") as caught:
            repository.get_local_path(path)
        assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def test_a_missing_path_has_no_local_path(repository: CasArtifactRepository) -> None:
    with pytest.raises(MlflowException) as caught:
        repository.get_local_path("nothing")
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_a_local_path_has_the_name_of_the_artifact(repository: CasArtifactRepository) -> None:
    """A server tells the type of a file by it."""
    log_tree(repository, MODEL)
    for path in MODEL:
        assert os.path.basename(repository.get_local_path(path) or "") == os.path.basename(path)


def test_a_local_path_lasts_though_files_of_the_same_content_were_asked_for_long_ago(
    repository: CasArtifactRepository,
) -> None:
    """Only a few hundred local paths are kept. Which go must not depend on what they share their bytes with."""
    others = [f"other-{number}" for number in range(255)]
    log_tree(repository, {"first": b"same", "second": b"same"} | {name: name.encode() for name in others})
    repository.get_local_path("first")
    second = repository.get_local_path("second")
    for name in others:
        repository.get_local_path(name)
    assert Path(second or "").read_bytes() == b"same"


def test_a_broken_stream_leaves_no_unfinished_file(store: cas.Store, repository: CasArtifactRepository) -> None:
    with pytest.raises(Broke):
        repository.log_artifact_from_stream(Stream(pattern(5 * MEGABYTE), breaks=True), "file")
    assert unfinished(store) == []


def test_a_refused_stream_leaves_no_unfinished_file(store: cas.Store, repository: CasArtifactRepository) -> None:
    log_tree(repository, {"a/b": b"."})
    for name in ("a", "back\\slash"):
        with pytest.raises(MlflowException):
            repository.log_artifact_from_stream(Stream(pattern(5 * MEGABYTE)), name)
    assert unfinished(store) == []


class TestOwnFiles:
    """What is downloaded to a place the user named belongs to the user."""

    def test_writing_to_a_downloaded_file_never_changes_the_store(
        self, repository: CasArtifactRepository, destination: Path
    ) -> None:
        log_tree(repository, MODEL)
        repository.download_artifacts("", str(destination))
        for path in MODEL:
            with open(destination / path, "r+b") as file:
                file.write(b"scribble")
                file.truncate(8)
        assert {path: content(repository, path) for path in MODEL} == MODEL

    def test_every_file_is_a_writable_one_of_its_own(
        self, repository: CasArtifactRepository, destination: Path
    ) -> None:
        log_tree(repository, MODEL)
        repository.download_artifacts("", str(destination))
        for path in MODEL:
            status = (destination / path).lstat()
            assert (status.st_nlink, status.st_mode & 0o200) == (1, 0o200)

    def test_a_file_in_the_way_is_replaced_not_written_through(
        self, repository: CasArtifactRepository, destination: Path
    ) -> None:
        log_tree(repository, MODEL)
        write_tree(destination, {"mine": b"mine"})
        os.link(destination / "mine", destination / "MLmodel")
        repository.download_artifacts("MLmodel", str(destination))
        assert read_tree(destination) == {"mine": b"mine", "MLmodel": MODEL["MLmodel"]}


class TestDisposableFiles:
    """What MLflow downloads for a load, and throws away, shares the bytes of the store."""

    def test_large_files_are_links_and_small_ones_are_not(
        self, store: cas.Store, repository: CasArtifactRepository
    ) -> None:
        log_tree(repository, MODEL)
        found = Path(repository.download_artifacts(""))
        assert read_tree(found) == MODEL
        assert shares_bytes(store, found / LARGE)
        assert not shares_bytes(store, found / SMALL)
        assert not shares_bytes(store, found / "MLmodel")

    def test_a_directory_below_the_systems_temporary_one_is_disposable(
        self, store: cas.Store, repository: CasArtifactRepository, system_temporary: Path
    ) -> None:
        log_tree(repository, MODEL)
        chosen = system_temporary / "chosen by somebody else"
        chosen.mkdir()
        repository.download_artifacts("", str(chosen))
        assert shares_bytes(store, chosen / LARGE)

    def test_each_download_has_a_tree_of_its_own(self, repository: CasArtifactRepository) -> None:
        log_tree(repository, MODEL)
        one, other = (Path(repository.download_artifacts("model")) for _ in range(2))
        (one / "config.json").write_bytes(b"rewritten")
        assert one != other
        assert (other / "config.json").read_bytes() == MODEL["model/config.json"]

    def test_removing_a_download_leaves_the_store_whole(
        self, repository: CasArtifactRepository, destination: Path
    ) -> None:
        log_tree(repository, MODEL)
        found = Path(repository.download_artifacts(""))
        for path in MODEL:
            (found / path).unlink()
        repository.download_artifacts("", str(destination))
        assert read_tree(destination) == MODEL

    def test_bytes_that_were_changed_through_a_link_are_refused(
        self, store: cas.Store, repository: CasArtifactRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CAS_LINK", "hardlink")
        log_tree(repository, MODEL)
        linked = Path(repository.download_artifacts("")) / LARGE
        linked.chmod(0o644)
        with open(linked, "r+b") as file:
            file.write(b"scribble")
        for read in (repository.download_artifacts, repository.get_local_path):
            with pytest.raises(MlflowException):
                read(LARGE)


def shares_bytes(store: cas.Store, file: Path) -> bool:
    """Whether a file is one with a blob of the store."""
    if probe(Path(store.name), file.parent)[Mode.REFLINK]:
        pytest.skip("this file system has reflinks, which look like copies")
    blobs = {blob.stat().st_ino for blob in Path(store.name, "blobs").rglob("*") if blob.is_file()}
    return file.stat().st_ino in blobs
