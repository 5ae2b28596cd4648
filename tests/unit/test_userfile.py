"""A file of the user's that is read ahead by another thread."""

from __future__ import annotations

import os
import threading
from contextlib import closing
from pathlib import Path

import pytest

from cas.errors import FileChanged, InvalidInput
from cas.userfile import UserFile

MEGABYTE = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(11 * MEGABYTE + 7))
    return path


def _readers() -> int:
    return sum(thread.name == "cas-reader" for thread in threading.enumerate())


def test_the_chunks_are_the_bytes_in_order(path: Path):
    with UserFile(path) as source, closing(source.chunks()) as chunks:
        assert b"".join(bytes(chunk) for chunk in chunks) == path.read_bytes()
    assert _readers() == 0


def test_an_empty_file_has_no_chunks(tmp_path: Path):
    (tmp_path / "empty").touch()
    with UserFile(tmp_path / "empty") as source:
        assert list(source.chunks()) == []


def test_a_chunk_stays_as_it_is_until_the_next_is_asked_for(path: Path):
    expected = path.read_bytes()
    at = 0
    with UserFile(path) as source, closing(source.chunks()) as chunks:
        for chunk in chunks:
            for _ in range(50):
                os.sched_yield()  # the reader goes on meanwhile, as far as it may
            assert chunk == expected[at : at + len(chunk)]
            at += len(chunk)


def test_who_stops_early_leaves_no_thread_behind(path: Path):
    with UserFile(path) as source:
        with closing(source.chunks()) as chunks:
            next(chunks)
            assert _readers() == 1
        assert _readers() == 0


def test_an_error_of_the_reading_thread_reaches_the_caller(path: Path, tmp_path: Path):
    with UserFile(path) as source:
        elsewhere = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
        os.dup2(elsewhere, source.descriptor)
        os.close(elsewhere)
        with pytest.raises(IsADirectoryError), closing(source.chunks()) as chunks:
            next(chunks)
    assert _readers() == 0


def test_a_file_cut_short_meanwhile_is_refused_and_kills_nobody(path: Path):
    with UserFile(path) as source:
        before, size = source.stamp(), 0
        with closing(source.chunks()) as chunks:
            for chunk in chunks:
                os.truncate(path, MEGABYTE)
                size += len(chunk)
        with pytest.raises(FileChanged, match="changed while it was being read"):
            source.check(before, size)


def test_what_is_no_regular_file_is_refused(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(InvalidInput, match="not a regular file"):
            UserFile(path)


def test_a_small_file_that_changes_while_it_is_read_is_refused(tmp_path: Path):
    path = tmp_path / "small"
    path.write_bytes(b"before")

    class Interrupted(UserFile):
        """Somebody writes right after the first look at the file."""

        def stamp(self) -> tuple[int, int, int]:
            found = super().stamp()
            with path.open("ab") as file:
                file.write(b"!")
            return found

    with Interrupted(path) as source, pytest.raises(FileChanged):
        source.whole()
