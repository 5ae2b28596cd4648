"""Uploads on an event loop, as MLflow's server has them: many at once, and one that waits must not stop others."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

import cas
from cas_mlflow.repository import CasArtifactRepository
from tests.adapters.deployment import new_run
from tests.adapters.files import MEGABYTE, content, every_file, log_tree, pattern, read_tree
from tests.adapters.stream_behaviour import chunks_of

_recorded: list[tuple[int, str]] | None = None
_FILE_SYSTEM = ("open", "os.", "shutil.", "tempfile.")


def _record(event: str, _: tuple[Any, ...]) -> None:
    if _recorded is not None and event.startswith(_FILE_SYSTEM):
        _recorded.append((threading.get_ident(), event))


@pytest.fixture(scope="module")
def _recorder() -> None:
    sys.addaudithook(_record)  # there is no way to remove one


@pytest.fixture
def file_system_calls(_recorder: None) -> Any:
    """Thread and event of each file-system call of this process, from when the test empties the list."""
    global _recorded
    _recorded = []
    yield _recorded
    _recorded = None


@pytest.fixture
def repository(store: cas.Store) -> CasArtifactRepository:
    return CasArtifactRepository(f"cas://{store.name}/{new_run()}")


def unfinished(store: cas.Store) -> list[str]:
    """Files in this process's scratch directory."""
    return sorted(read_tree(store.scratch.directory))


def upload(repository: CasArtifactRepository, data: bytes, name: str = "file") -> None:
    asyncio.run(repository.log_artifact_from_async_stream(chunks_of(data), name))


@pytest.mark.parametrize("size", [1000, 5 * MEGABYTE])
def test_the_thread_of_the_event_loop_makes_no_file_system_call(
    repository: CasArtifactRepository, file_system_calls: list[tuple[int, str]], size: int
) -> None:
    upload(repository, pattern(size), "first")  # whatever is imported late has been
    seen: list[tuple[int, str]] = []

    async def run() -> None:
        file_system_calls.clear()
        await repository.log_artifact_from_async_stream(chunks_of(pattern(size, 1)), "second")
        seen.extend(file_system_calls)

    asyncio.run(run())
    assert [event for thread, event in seen if thread == threading.get_ident()] == []
    assert [event for thread, event in seen if thread != threading.get_ident()] != []  # they are recorded


def test_other_tasks_run_while_a_chunk_is_written_and_while_the_file_is_published(
    repository: CasArtifactRepository,
) -> None:
    """A chunk is asked for only after the one before was dealt with: if another task did not get a turn in
    between, the loop was blocked."""
    turns = 0
    at_chunks: list[int] = []

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def chunks() -> AsyncIterator[bytes]:
        for seed in range(5):
            at_chunks.append(turns)
            yield pattern(2 * MEGABYTE, seed)
        at_chunks.append(turns)

    async def run() -> None:
        ticking = asyncio.create_task(tick())
        await repository.log_artifact_from_async_stream(chunks(), "file")
        at_chunks.append(turns)
        ticking.cancel()

    asyncio.run(run())
    assert all(before < after for before, after in itertools.pairwise(at_chunks))
    assert content(repository, "file") == b"".join(pattern(2 * MEGABYTE, seed) for seed in range(5))


def test_many_uploads_at_once_do_not_mix(repository: CasArtifactRepository) -> None:
    files = {f"file-{number}": pattern(MEGABYTE // 3 * number + 1, number) for number in range(12)}

    async def run() -> None:
        await asyncio.gather(
            *(repository.log_artifact_from_async_stream(chunks_of(data), name) for name, data in files.items())
        )

    asyncio.run(run())
    assert {name: content(repository, name) for name in every_file(repository)} == files


@pytest.mark.parametrize("name", ["a", "back\\slash", "bell\a", "n" * 256])
def test_a_refused_upload_leaves_no_unfinished_file(
    store: cas.Store, repository: CasArtifactRepository, name: str
) -> None:
    log_tree(repository, {"a/b": b"."})
    with pytest.raises(MlflowException) as caught:
        upload(repository, pattern(5 * MEGABYTE), name)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert every_file(repository) == ["a/b"]
    assert unfinished(store) == []


@pytest.mark.parametrize("size", [1000, 5 * MEGABYTE])
def test_a_cancelled_upload_leaves_nothing(store: cas.Store, repository: CasArtifactRepository, size: int) -> None:
    async def run() -> None:
        reached = asyncio.Event()

        async def chunks() -> AsyncIterator[bytes]:
            async for chunk in chunks_of(pattern(size)):
                yield chunk
            reached.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(repository.log_artifact_from_async_stream(chunks(), "file"))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert every_file(repository) == []
    assert unfinished(store) == []


class Holding(ThreadPoolExecutor):
    """Runs what it is given, but lets the one job that follows ``hold`` wait until ``release``."""

    def __init__(self) -> None:
        super().__init__(max_workers=4)
        self.others: list[Future[Any]] = []
        self.held: Future[Any] | None = None
        self.started = threading.Event()
        self._hold = False
        self._gate = threading.Event()

    def hold(self) -> None:
        self._hold = True

    def release(self) -> None:
        self._gate.set()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self._hold:
            self._hold = False
            self.held = super().submit(self._wait_and_run, function, *args, **kwargs)
            return self.held
        future = super().submit(function, *args, **kwargs)
        self.others.append(future)
        return future

    def _wait_and_run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.started.set()
        self._gate.wait()
        return function(*args, **kwargs)


def test_a_cancelled_upload_never_writes_into_a_file_of_somebody_else(
    repository: CasArtifactRepository, destination: Path
) -> None:
    """Cancelling does not stop a thread that is about to write. If the file is closed under it, the number of its
    descriptor goes to whoever opens a file next."""
    victims = [destination / f"victim-{number}" for number in range(64)]
    executor = Holding()

    async def run() -> None:
        asyncio.get_running_loop().set_default_executor(executor)
        writing = asyncio.Event()

        async def chunks() -> AsyncIterator[bytes]:
            yield pattern(2 * MEGABYTE)
            executor.hold()
            asyncio.get_running_loop().call_soon(writing.set)
            yield b"not for anybody else" * MEGABYTE

        task = asyncio.create_task(repository.log_artifact_from_async_stream(chunks(), "file"))
        await writing.wait()
        executor.started.wait()
        task.cancel()
        for _ in range(10):  # turns of the loop: enough for the task to learn of it
            await asyncio.sleep(0)
        wait(executor.others)
        opened = [os.open(victim, os.O_RDWR | os.O_CREAT) for victim in victims]
        executor.release()
        with pytest.raises(asyncio.CancelledError):
            await task
        executor.shutdown()
        for descriptor in opened:
            os.close(descriptor)

    asyncio.run(run())
    assert [victim.stat().st_size for victim in victims] == [0] * len(victims)
    assert executor.held is not None
    assert not isinstance(executor.held.exception(), OSError)  # it met no closed file, either
