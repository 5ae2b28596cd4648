"""How MLflow's artifact repositories behave, whatever is behind them.

Written from MLflow's documentation of ``ArtifactRepository`` and from what its own repositories do; a subclass
names one in its fixture ``repository``. MLflow's local repository is one of the subjects, so what is demanded
here is MLflow's and not ours. A subclass that overrides a test says which of MLflow's own repositories differ.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from tests.adapters.files import MEGABYTE, content, every_file, log_tree, names, pattern, read_tree, write_tree
from tests.adapters.trace_behaviour import TraceBehaviour

MODEL = {
    "MLmodel": b"flavors: {}\n",
    "model/config.json": b"{}",
    "model/weights/a.bin": pattern(3 * MEGABYTE),
    "model/weights/b.bin": pattern(20_000),
}
NAMES = [
    "two words.txt",
    "100% sure.txt",
    "naïve café.txt",
    "日本語.bin",
    "🦜.txt",
    "a+b=c&d.txt",
    "comma,colon:dot..txt",
    "[brackets] {braces} (and more)!.txt",
    "'quotes\" and ~tilde`s.txt",
    ".hidden",
    "-dash",
]


class ListingBehaviour:
    def test_an_empty_repository_lists_nothing(self, repository: Any) -> None:
        assert repository.list_artifacts() == []

    def test_a_missing_path_lists_nothing(self, repository: Any) -> None:
        log_tree(repository, MODEL)
        assert repository.list_artifacts("model/nothing") == []

    def test_a_file_lists_nothing(self, repository: Any) -> None:
        log_tree(repository, MODEL)
        assert repository.list_artifacts("model/config.json") == []

    @pytest.mark.parametrize("root", [None, ""])
    def test_the_root_lists_what_lies_directly_in_it(self, repository: Any, root: str | None) -> None:
        log_tree(repository, MODEL)
        assert names(repository, root) == ["MLmodel", "model"]

    def test_directories_list_paths_relative_to_the_repository(self, repository: Any) -> None:
        log_tree(repository, MODEL)
        assert names(repository, "model") == ["model/config.json", "model/weights"]
        assert names(repository, "model/weights") == ["model/weights/a.bin", "model/weights/b.bin"]

    def test_a_trailing_slash_makes_no_difference(self, repository: Any) -> None:
        log_tree(repository, MODEL)
        assert names(repository, "model/") == names(repository, "model")

    def test_a_listing_is_sorted_by_path(self, repository: Any) -> None:
        log_tree(repository, dict.fromkeys(("b", "a.b/x", "a", "a b", "B", "ä", "10", "9"), b"."))
        assert names(repository) == sorted(names(repository))

    def test_a_listing_tells_directories_from_files(self, repository: Any) -> None:
        log_tree(repository, MODEL)
        assert [(info.path, info.is_dir) for info in repository.list_artifacts()] == [
            ("MLmodel", False),
            ("model", True),
        ]

    def test_a_listing_gives_sizes_of_files_and_none_of_directories(self, repository: Any) -> None:
        log_tree(repository, MODEL)
        sizes = {info.path: info.file_size for info in repository.list_artifacts("model")}
        assert sizes == {"model/config.json": 2, "model/weights": None}
        assert [info.file_size for info in repository.list_artifacts("model/weights")] == [3 * MEGABYTE, 20_000]

    def test_a_directory_may_hold_one_file_of_its_own_name(self, repository: Any) -> None:
        log_tree(repository, {"model/model": b"."})
        assert names(repository, "model") == ["model/model"]

    def test_a_name_that_begins_like_another_is_another(self, repository: Any) -> None:
        log_tree(repository, {"model/a": b"1", "model2/b": b"2", "mode": b"3"})
        assert names(repository, "model") == ["model/a"]


class LoggingBehaviour:
    @pytest.mark.parametrize("size", [0, 1, 20_000, 3 * MEGABYTE + 1])
    def test_a_file_is_read_back_as_it_was_logged(self, repository: Any, source: Path, size: int) -> None:
        write_tree(source, {"file.bin": pattern(size)})
        repository.log_artifact(str(source / "file.bin"))
        assert content(repository, "file.bin") == pattern(size)

    @pytest.mark.parametrize("artifact_path", ["into", "into/a/deep place"])
    def test_a_file_is_logged_into_a_directory(self, repository: Any, source: Path, artifact_path: str) -> None:
        write_tree(source, {"file": b"content"})
        repository.log_artifact(str(source / "file"), artifact_path)
        assert every_file(repository) == [f"{artifact_path}/file"]
        assert content(repository, f"{artifact_path}/file") == b"content"

    def test_a_source_may_be_a_path_object(self, repository: Any, source: Path) -> None:
        write_tree(source, {"file": b"content"})
        repository.log_artifact(source / "file", "a")
        repository.log_artifacts(source, "b")
        assert every_file(repository) == ["a/file", "b/file"]

    @pytest.mark.parametrize("sizes", [(10, 20), (2 * MEGABYTE, 10), (10, 2 * MEGABYTE)])
    def test_logging_again_overwrites(self, repository: Any, source: Path, sizes: tuple[int, int]) -> None:
        for seed, size in enumerate(sizes):
            write_tree(source, {"file": pattern(size, seed)})
            repository.log_artifact(str(source / "file"), "into")
        assert every_file(repository) == ["into/file"]
        assert content(repository, "into/file") == pattern(sizes[1], 1)

    def test_one_name_in_two_directories_is_two_files(self, repository: Any, source: Path) -> None:
        for directory in ("a", "b"):
            write_tree(source, {"file": directory.encode()})
            repository.log_artifact(str(source / "file"), directory)
        assert [content(repository, f"{directory}/file") for directory in "ab"] == [b"a", b"b"]

    @pytest.mark.parametrize("artifact_path", ["..", "a/../b", "/absolute", ".", "a/./b", "a//b", "a/"])
    def test_a_directory_that_is_written_strangely_is_refused(
        self, repository: Any, source: Path, artifact_path: str
    ) -> None:
        write_tree(source, {"file": b"content"})
        with pytest.raises(MlflowException, match="Invalid artifact path"):
            repository.log_artifact(str(source / "file"), artifact_path)
        with pytest.raises(MlflowException, match="Invalid artifact path"):
            repository.log_artifacts(str(source), artifact_path)
        assert every_file(repository) == []

    def test_a_missing_file_is_an_error_and_leaves_nothing(self, repository: Any, source: Path) -> None:
        with pytest.raises(FileNotFoundError):
            repository.log_artifact(str(source / "nothing"))
        assert every_file(repository) == []

    def test_a_missing_directory_leaves_nothing(self, repository: Any, source: Path) -> None:
        with suppress(OSError, MlflowException):  # MLflow's own repositories do not even complain
            repository.log_artifacts(str(source / "nothing"))
        assert every_file(repository) == []

    def test_a_tree_is_logged_whole(self, repository: Any, destination: Path) -> None:
        log_tree(repository, MODEL)
        assert every_file(repository) == sorted(MODEL)
        repository.download_artifacts("", str(destination))
        assert read_tree(destination) == MODEL

    def test_a_tree_is_logged_into_a_directory(self, repository: Any) -> None:
        log_tree(repository, MODEL, "some/model")
        assert every_file(repository) == sorted(f"some/model/{path}" for path in MODEL)

    def test_a_tree_merges_with_what_is_there(self, repository: Any) -> None:
        log_tree(repository, {"into/kept": b"kept", "into/both": b"old", "beside": b"."})
        log_tree(repository, {"both": b"new", "deep/added": b"added"}, "into")
        assert every_file(repository) == ["beside", "into/both", "into/deep/added", "into/kept"]
        assert content(repository, "into/both") == b"new"

    def test_an_empty_directory_can_be_logged_and_holds_no_files(self, repository: Any, source: Path) -> None:
        repository.log_artifacts(str(source))
        repository.log_artifacts(str(source), "into")
        assert every_file(repository) == []

    @pytest.mark.parametrize("name", NAMES)
    def test_an_uncommon_name_is_kept(self, repository: Any, source: Path, name: str, destination: Path) -> None:
        write_tree(source, {name: b"content"})
        repository.log_artifact(str(source / name), f"{name} in")
        assert names(repository, f"{name} in") == [f"{name} in/{name}"]
        assert content(repository, f"{name} in/{name}") == b"content"
        repository.download_artifacts(f"{name} in", str(destination))
        assert read_tree(destination) == {f"{name} in/{name}": b"content"}
        repository.delete_artifacts(f"{name} in/{name}")
        assert every_file(repository) == []

    def test_two_unicode_forms_of_a_name_are_two_files(self, repository: Any) -> None:
        files = {"caf\u00e9": b"composed", "cafe\u0301": b"decomposed"}
        log_tree(repository, files)
        assert {path: content(repository, path) for path in names(repository)} == files

    def test_a_directory_called_artifacts_is_a_directory_like_any(self, repository: Any) -> None:
        files = {
            "artifacts/a": b"1",
            "artifacts/artifacts/b": b"2",
            "models/m-1/artifacts/c": b"3",
            f"{'0' * 32}/artifacts/d": b"4",
        }
        log_tree(repository, files)
        assert names(repository) == sorted({path.split("/")[0] for path in files})
        assert every_file(repository) == sorted(files)
        assert {path: content(repository, path) for path in files} == files


class DownloadBehaviour:
    def test_a_file_arrives_under_its_path(self, repository: Any, destination: Path) -> None:
        log_tree(repository, MODEL)
        found = repository.download_artifacts("model/weights/b.bin", str(destination))
        assert found == str(destination / "model/weights/b.bin")
        assert read_tree(destination) == {"model/weights/b.bin": MODEL["model/weights/b.bin"]}

    @pytest.mark.parametrize("path", ["model/weights", "model/weights/"])
    def test_a_directory_arrives_under_its_path(self, repository: Any, destination: Path, path: str) -> None:
        log_tree(repository, MODEL)
        found = repository.download_artifacts(path, str(destination))
        assert Path(found) == destination / "model/weights"
        assert read_tree(destination) == {
            path: data for path, data in MODEL.items() if path.startswith("model/weights/")
        }

    @pytest.mark.parametrize("root", ["", None])
    def test_the_root_is_everything(self, repository: Any, destination: Path, root: str | None) -> None:
        log_tree(repository, MODEL)
        assert Path(repository.download_artifacts(root, str(destination))) == destination
        assert read_tree(destination) == MODEL

    def test_the_root_of_an_empty_repository_is_an_empty_directory(
        self, repository: Any, destination: Path
    ) -> None:
        assert Path(repository.download_artifacts("", str(destination))) == destination
        assert read_tree(destination) == {}

    @pytest.mark.parametrize("dst_path", [None, ""])
    @pytest.mark.parametrize("path", ["", "model", "model/weights/a.bin"])
    def test_without_a_destination_one_is_chosen(
        self,
        repository: Any,
        path: str,
        dst_path: str | None,
        destination: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(destination)  # where an empty destination might lead by mistake
        log_tree(repository, MODEL)
        found = Path(repository.download_artifacts(path, dst_path))
        assert found.is_absolute()
        expected = {name: data for name, data in MODEL.items() if name.startswith(path)}
        if found.is_file():
            assert {path: found.read_bytes()} == expected
        else:
            assert {f"{path}/{name}".lstrip("/"): data for name, data in read_tree(found).items()} == expected
        assert read_tree(destination) == {}

    def test_a_destination_must_exist(self, repository: Any, destination: Path) -> None:
        log_tree(repository, MODEL)
        with pytest.raises(MlflowException, match="does not exist") as caught:
            repository.download_artifacts("MLmodel", str(destination / "nothing"))
        assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"

    def test_a_destination_must_be_a_directory(self, repository: Any, destination: Path) -> None:
        log_tree(repository, MODEL)
        write_tree(destination, {"file": b"mine"})
        with pytest.raises(MlflowException, match="must be a directory") as caught:
            repository.download_artifacts("MLmodel", str(destination / "file"))
        assert caught.value.error_code == "INVALID_PARAMETER_VALUE"

    def test_a_file_in_the_way_is_replaced_and_others_are_left(self, repository: Any, destination: Path) -> None:
        log_tree(repository, MODEL)
        write_tree(destination, {"model/config.json": b"something longer", "model/mine": b"mine"})
        repository.download_artifacts("model", str(destination))
        assert (destination / "model/config.json").read_bytes() == MODEL["model/config.json"]
        assert (destination / "model/mine").read_bytes() == b"mine"

    def test_a_directory_whose_name_goes_on_is_not_downloaded_along(
        self, repository: Any, destination: Path
    ) -> None:
        log_tree(repository, {"model/a": b"1", "model2/b": b"2"})
        repository.download_artifacts("model", str(destination))
        assert read_tree(destination) == {"model/a": b"1"}

    @pytest.mark.parametrize("path", ["nothing", "model/nothing", "MLmodel/nothing"])
    @pytest.mark.parametrize("chosen", [True, False], ids=["into a directory", "anywhere"])
    def test_a_missing_path_does_not_exist(
        self, repository: Any, destination: Path, path: str, chosen: bool
    ) -> None:
        log_tree(repository, MODEL)
        with pytest.raises(MlflowException) as caught:
            repository.download_artifacts(path, str(destination) if chosen else None)
        assert caught.value.error_code == self.missing
        assert read_tree(destination) == {}

    missing = "RESOURCE_DOES_NOT_EXIST"

    def test_a_local_path_is_none_or_a_file_with_the_bytes(self, repository: Any) -> None:
        log_tree(repository, MODEL)
        for path, data in MODEL.items():
            found = repository.get_local_path(path)
            assert found is None or Path(found).read_bytes() == data

    def test_a_missing_path_has_no_local_path(self, repository: Any) -> None:
        with suppress(MlflowException):
            assert repository.get_local_path("nothing") is None


class DeletionBehaviour:
    def test_a_file_is_deleted(self, repository: Any) -> None:
        log_tree(repository, MODEL)
        repository.delete_artifacts("model/weights/a.bin")
        assert every_file(repository) == sorted(MODEL.keys() - {"model/weights/a.bin"})

    @pytest.mark.parametrize("path", ["model", "model/"])
    def test_a_directory_is_deleted_with_everything_below(self, repository: Any, path: str) -> None:
        log_tree(repository, {**MODEL, "model2/kept": b"."})
        repository.delete_artifacts(path)
        assert every_file(repository) == ["MLmodel", "model2/kept"]
        assert names(repository) == ["MLmodel", "model2"]

    @pytest.mark.parametrize("root", [None, ""])
    def test_the_root_is_deleted_with_everything(self, repository: Any, root: str | None) -> None:
        log_tree(repository, MODEL)
        repository.delete_artifacts(root)
        assert names(repository) == []

    @pytest.mark.parametrize("path", ["nothing", "model/nothing/", None])
    def test_what_is_not_there_needs_no_deleting(self, repository: Any, path: str | None) -> None:
        repository.delete_artifacts(path)
        assert names(repository) == []

    def test_what_was_deleted_does_not_exist(self, repository: Any, destination: Path) -> None:
        log_tree(repository, MODEL)
        repository.delete_artifacts("model")
        with pytest.raises(MlflowException):
            repository.download_artifacts("model/config.json", str(destination))

    def test_what_was_deleted_can_be_logged_again(self, repository: Any) -> None:
        log_tree(repository, MODEL)
        repository.delete_artifacts("")
        log_tree(repository, {"model/config.json": b"new"})
        assert every_file(repository) == ["model/config.json"]
        assert content(repository, "model/config.json") == b"new"

    def test_a_file_can_take_the_place_of_a_deleted_directory(self, repository: Any) -> None:
        log_tree(repository, {"x/y": b"file in a directory"})
        repository.delete_artifacts("x")
        log_tree(repository, {"x": b"file"})
        assert content(repository, "x") == b"file"


class RepositoryBehaviour(ListingBehaviour, LoggingBehaviour, DownloadBehaviour, DeletionBehaviour, TraceBehaviour):
    """Everything. A subclass has a fixture ``repository``: an empty one, of its own for each test."""
