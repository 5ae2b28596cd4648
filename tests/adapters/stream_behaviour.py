"""How MLflow's ``StreamUploadMixin`` behaves: a file is logged whole, or the repository stays as it was."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import pytest

from tests.adapters.files import MEGABYTE, content, every_file, pattern

CHUNK = 64 << 10
Upload: TypeAlias = Callable[..., None]


class Broke(Exception):
    """What a stream that breaks off raises."""


class Stream(io.RawIOBase):
    """A readable stream of ``data`` that raises where it would end, if it is to break."""

    def __init__(self, data: bytes, *, breaks: bool = False) -> None:
        self._data = io.BytesIO(data)
        self._breaks = breaks

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._data.readinto(buffer)
        if count == 0 and self._breaks:
            raise Broke
        return count


async def chunks_of(data: bytes, *, breaks: bool = False) -> AsyncIterator[bytes]:
    for start in range(0, len(data), CHUNK):
        yield data[start : start + CHUNK]
    if breaks:
        raise Broke


class StreamBehaviour:
    @pytest.fixture(params=["stream", "async stream"])
    def upload(self, request: pytest.FixtureRequest, repository: Any) -> Upload:
        """Log ``data`` by one of the two ways: upload(data, name, artifact_path=…, breaks=…)."""

        def by_stream(data: bytes, name: str, artifact_path: str | None = None, *, breaks: bool = False) -> None:
            repository.log_artifact_from_stream(Stream(data, breaks=breaks), name, artifact_path)

        def by_async(data: bytes, name: str, artifact_path: str | None = None, *, breaks: bool = False) -> None:
            chunks = chunks_of(data, breaks=breaks)
            asyncio.run(repository.log_artifact_from_async_stream(chunks, name, artifact_path))

        return by_stream if request.param == "stream" else by_async

    @pytest.mark.parametrize("size", [0, 1, 20_000, MEGABYTE, 3 * MEGABYTE + 1])
    def test_a_stream_is_read_back_as_it_was_sent(self, repository: Any, upload: Upload, size: int) -> None:
        upload(pattern(size), "file.bin")
        assert content(repository, "file.bin") == pattern(size)

    def test_a_stream_is_logged_into_a_directory(self, repository: Any, upload: Upload) -> None:
        upload(b"content", "file", "into/a/deep place")
        assert every_file(repository) == ["into/a/deep place/file"]

    def test_directories_before_the_file_name_are_ignored(self, repository: Any, upload: Upload) -> None:
        upload(b"content", "some/where/file", "into")
        assert every_file(repository) == ["into/file"]

    def test_a_stream_overwrites(self, repository: Any, upload: Upload) -> None:
        upload(pattern(2 * MEGABYTE), "file")
        upload(b"new", "file")
        assert content(repository, "file") == b"new"

    @pytest.mark.parametrize("size", [0, 1000, 5 * MEGABYTE])
    def test_a_stream_that_breaks_off_leaves_nothing(self, repository: Any, upload: Upload, size: int) -> None:
        with pytest.raises(Broke):
            upload(pattern(size), "file", "into", breaks=True)
        assert every_file(repository) == []

    @pytest.mark.parametrize("size", [1000, 5 * MEGABYTE])
    def test_a_stream_that_breaks_off_leaves_what_was_there(
        self, repository: Any, upload: Upload, size: int
    ) -> None:
        upload(b"old", "file")
        with pytest.raises(Broke):
            upload(pattern(size), "file", breaks=True)
        assert content(repository, "file") == b"old"
