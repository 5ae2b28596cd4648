"""The backends of this package, held to the suite that ships with it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cas.backends import Backend, LocalBackend, MemoryBackend, SupportsLocalFiles
from cas.keys import SCRATCH
from cas.testing import BackendContract


def files_below(root: Path) -> dict[str, bytes]:
    """Every file below a directory but scratch, by its path, read by nothing of ours."""
    files = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    return {key: path.read_bytes() for key, path in files.items() if not key.startswith(SCRATCH)}


class LocalContract(BackendContract):
    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        return tmp_path

    @pytest.fixture
    def backend(self, directory: Path) -> Backend:
        (directory / SCRATCH).mkdir()
        return LocalBackend(directory)

    @pytest.fixture
    def reopened(self, directory: Path) -> Callable[[], Backend]:
        return lambda: LocalBackend(directory)

    def stored(self, backend: Backend) -> dict[str, bytes]:
        assert isinstance(backend, LocalBackend)
        return files_below(backend.root)

    @pytest.fixture(autouse=True)
    def nothing_left_in_scratch(self, directory: Path) -> Iterator[None]:
        yield
        assert [path for path in (directory / SCRATCH).rglob("*") if path.is_file()] == []


class TestLocalBackend(LocalContract):
    def test_its_objects_are_files(self, backend: Backend) -> None:
        assert isinstance(backend, SupportsLocalFiles)
        backend.put("condemned/one", [b"data"], create=True)
        assert backend.path("condemned/one").read_bytes() == b"data"

    def test_its_objects_are_sealed(self, backend: Backend) -> None:
        assert isinstance(backend, LocalBackend)
        backend.put("condemned/one", [b"data"], create=True)
        status = backend.path("condemned/one").stat()
        assert status.st_mode & 0o777 == 0o444
        assert status.st_mtime_ns == 946_684_800 * 10**9

    def test_a_link_in_place_of_an_object_is_not_followed(self, backend: Backend, tmp_path: Path) -> None:
        assert isinstance(backend, LocalBackend)
        (tmp_path / "secret").write_bytes(b"secret")
        backend.path("condemned").mkdir()
        backend.path("condemned/one").symlink_to(tmp_path / "secret")
        with pytest.raises(OSError, match="symbolic links"):
            backend.read("condemned/one")
        assert list(backend.list("condemned/")) == []


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="no tmpfs at /dev/shm")
class TestLocalBackendInMemory(LocalContract):
    """On tmpfs, whose directories list in another order than ext4's."""

    @pytest.fixture
    def directory(self) -> Iterator[Path]:
        directory = Path(tempfile.mkdtemp(prefix="cas-contract-", dir="/dev/shm"))
        yield directory
        shutil.rmtree(directory)


class TestMemoryBackend(BackendContract):
    @pytest.fixture
    def backend(self) -> Backend:
        return MemoryBackend()

    def stored(self, backend: Backend) -> dict[str, bytes]:
        assert isinstance(backend, MemoryBackend)
        return dict(backend._objects)
