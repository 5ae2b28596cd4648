"""Files of stores through fsspec, held to its own suite for reading, and read by libraries that know nothing."""

from __future__ import annotations

import errno
import posixpath
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.tests.abstract import AbstractFixtures, AbstractGetTests

from cas import Store
from cas.digest import digest_of
from cas.place import Place
from cas_fsspec.filesystem import CasFileSystem, CasS3FileSystem

PLACE = "7/0123456789abcdef0123456789abcdef/artifacts"


class Prepared(CasFileSystem):
    """fsspec's tests prepare what they read by writing; here that is logging."""

    def touch(self, path: str, truncate: bool = True, **_: Any) -> None:
        self.pipe_file(path, b"")

    def pipe_file(self, path: str, value: bytes, **_: Any) -> None:
        place = self._place(self._strip_protocol(path))
        place.ingest_bytes(value, "")

    def mkdir(self, path: str, *_: Any, **__: Any) -> None:
        """There are no empty directories."""

    makedirs = mkdir

    def rm(self, path: str, recursive: bool = False, **_: Any) -> None:
        self._place(self._strip_protocol(path)).remove("")


class TestGet(AbstractFixtures, AbstractGetTests):
    @pytest.fixture
    def fs(self) -> Prepared:
        return Prepared(skip_instance_cache=True)

    @pytest.fixture
    def fs_join(self):
        return posixpath.join

    @pytest.fixture
    def fs_path(self, store: Store) -> str:
        return f"{store.name}/{PLACE}"

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


@pytest.fixture
def logged(store: Store) -> str:
    """The address of an artifact root with a table, a large file, and a directory."""
    root = store.artifact_root(PLACE)
    root.ingest_bytes(b"a,b\n1,2\n3,4\n", "data/table.csv")
    root.ingest_bytes(bytes(range(256)) * 8192, "weights.bin")
    return f"cas://{store.name}/{PLACE}"


def test_the_scheme_is_known_to_fsspec(logged: str) -> None:
    with fsspec.open(f"{logged}/data/table.csv", "r") as file:
        assert file.read() == "a,b\n1,2\n3,4\n"
    assert fsspec.get_filesystem_class("cas-s3") is CasS3FileSystem


def test_pandas_reads_a_table(logged: str) -> None:
    import pandas as pd

    assert pd.read_csv(f"{logged}/data/table.csv").to_numpy().tolist() == [[1, 2], [3, 4]]


def test_what_is_there_is_told_as_it_is(logged: str) -> None:
    filesystem, path = fsspec.url_to_fs(logged)
    assert sorted(filesystem.ls(path, detail=False)) == [f"{path}/data", f"{path}/weights.bin"]
    assert filesystem.isdir(f"{path}/data")
    assert filesystem.isfile(f"{path}/weights.bin")
    assert filesystem.size(f"{path}/weights.bin") == 2 << 20
    assert filesystem.ukey(f"{path}/weights.bin") == str(digest_of(bytes(range(256)) * 8192))
    assert sorted(filesystem.find(path)) == [f"{path}/data/table.csv", f"{path}/weights.bin"]
    assert filesystem.glob(f"{path}/*.bin") == [f"{path}/weights.bin"]


@pytest.mark.parametrize(
    ("start", "end"), [(None, None), (5, 9), (-10, None), (2_000_000, None), (-10, -5), (9, 5)]
)
def test_ranges_are_read(logged: str, start: int | None, end: int | None) -> None:
    filesystem, path = fsspec.url_to_fs(f"{logged}/weights.bin")
    assert filesystem.cat_file(path, start, end) == (bytes(range(256)) * 8192)[start:end]


def test_what_is_logged_later_is_seen(logged: str, store: Store) -> None:
    filesystem, path = fsspec.url_to_fs(logged)
    assert not filesystem.exists(f"{path}/later")
    store.artifact_root(PLACE).ingest_bytes(b"x", "later")
    assert filesystem.exists(f"{path}/later")


def test_nothing_is_written(logged: str, tmp_path: Path) -> None:
    filesystem, path = fsspec.url_to_fs(logged)
    (tmp_path / "new").write_bytes(b"new")
    for write in (
        lambda: filesystem.pipe_file(f"{path}/new", b"new"),
        lambda: filesystem.put(str(tmp_path / "new"), f"{path}/new"),
        lambda: filesystem.rm(f"{path}/weights.bin"),
        lambda: filesystem.mv(f"{path}/weights.bin", f"{path}/other"),
        lambda: filesystem.open(f"{path}/new", "wb"),
        lambda: filesystem.open(f"{path}/weights.bin", "ab"),
    ):
        with pytest.raises(OSError, match="only reads") as caught:
            write()
        assert caught.value.errno == errno.EROFS
    assert len(filesystem.find(path)) == 2


@pytest.mark.parametrize("path", ["none", "data/none", "weights.bin/below", "dat"])
def test_what_is_not_there_is_not_found(logged: str, path: str) -> None:
    filesystem, base = fsspec.url_to_fs(logged)
    for call in (filesystem.info, filesystem.ls, filesystem.cat_file, filesystem.open):
        with pytest.raises(FileNotFoundError):
            call(f"{base}/{path}")


@pytest.mark.parametrize("path", ["../../../../etc/passwd", "a/../b", "./x", "nul\0byte"])
def test_a_path_that_climbs_is_refused(logged: str, path: str) -> None:
    filesystem, base = fsspec.url_to_fs(logged)
    with pytest.raises(OSError, match=r"invalid path|no such|control character"):
        filesystem.cat_file(f"{base}/{path}")


def test_outside_a_store_nothing_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    with pytest.raises(FileNotFoundError, match="no store"):
        fsspec.filesystem("cas").cat_file(str(tmp_path / "secret"))


def test_a_place_of_a_store_is_its_own_file(store: Store) -> None:
    Place(store).ingest_bytes(b"x" * 100_000, "top")
    assert fsspec.filesystem("cas").cat_file(f"{store.name}/top") == b"x" * 100_000
