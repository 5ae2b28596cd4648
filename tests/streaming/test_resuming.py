"""Unfinished downloads: gone on with, by another process too, and never believed."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from cas.digest import Digest
from cas.errors import CasError, SourceUnavailable
from cas.streaming.journal import PIECE, Journal, mark_of
from tests.support.hub import cut
from tests.support.hub_faults import Counted, on_bodies, status

from .conftest import SIZE, fetch, held

DIGEST = Digest("sha256", "ab" * 32)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "download"


def interrupted(hub, store, entry) -> Path:
    """Fetch a part, until the server refuses for good; returns where that part lies."""
    answered = Counted(on_bodies(cut(600_000), times=2))
    hub.fault = answered
    refuse = on_bodies(status(500))

    def rule(request):
        return refuse(request) if answered.bytes > 900_000 else answered(request)

    hub.fault = rule
    with pytest.raises(SourceUnavailable):
        fetch(store, entry, patience=0.3)
    (found,) = (Path(store.name) / "tmp" / "downloads").glob("*-sha256-*/")
    return found


def recorded(directory: Path) -> int:
    return len((directory / "journal").read_bytes().splitlines()) - 1


def test_what_was_recorded_is_not_asked_for_again(hub, store, entry, weights):
    part = recorded(interrupted(hub, store, entry))
    assert part > 3
    hub.fault = counted = Counted()
    fetch(store, entry)
    assert counted.bytes <= SIZE - (part - 1) * PIECE  # the last piece is a short one
    assert held(store, entry) == (weights / entry.path).read_bytes()


def test_a_recorded_piece_whose_bytes_are_others_is_fetched_again(hub, store, entry, weights):
    directory = interrupted(hub, store, entry)
    first = int((directory / "journal").read_bytes().splitlines()[1].split()[0])
    with (directory / "data").open("r+b") as file:
        file.seek(first * PIECE)
        file.write(b"lost in a power cut")
    hub.fault = None
    fetch(store, entry)
    assert held(store, entry) == (weights / entry.path).read_bytes()


@pytest.mark.parametrize(
    "damage", [b"", b"nonsense\n", b"0 " + b"0" * 32 + b"\n", b"99999999 " + b"0" * 32, b"\xff\n"]
)
def test_a_journal_that_says_nonsense_does_no_harm(hub, store, entry, weights, damage):
    directory = interrupted(hub, store, entry)
    with (directory / "journal").open("ab") as file:
        file.write(damage)
    hub.fault = None
    fetch(store, entry)
    assert held(store, entry) == (weights / entry.path).read_bytes()


def test_a_torn_line_is_no_line(directory):
    journal = Journal(directory, DIGEST, 10 * PIECE)
    journal.record({3: mark_of(b"x")})
    journal.close()
    with (directory / "journal").open("ab") as file:
        file.write(b"4 0123")
    again = Journal(directory, DIGEST, 10 * PIECE)
    assert set(again.marks) == {3}
    again.close()


@pytest.mark.parametrize("other", [(DIGEST, 9 * PIECE), (Digest("sha256", "cd" * 32), 10 * PIECE)])
def test_another_download_starts_anew(directory, other):
    journal = Journal(directory, DIGEST, 10 * PIECE)
    journal.record({3: mark_of(b"x")})
    journal.close()
    again = Journal(directory, *other)
    assert not again.marks
    again.close()


@pytest.mark.parametrize("danger", ["writable by others", "another name", "a symlink"])
def test_what_somebody_else_could_change_is_not_gone_on_with(directory, tmp_path, danger):
    journal = Journal(directory, DIGEST, 10 * PIECE)
    journal.record({3: mark_of(b"x")})
    journal.close()
    data = directory / "data"
    if danger == "writable by others":
        data.chmod(0o666)
    elif danger == "another name":
        os.link(data, tmp_path / "kept")
    else:
        data.rename(tmp_path / "elsewhere")
        data.symlink_to(tmp_path / "elsewhere")
    again = Journal(directory, DIGEST, 10 * PIECE)
    assert not again.marks
    assert os.fstat(again.descriptor).st_nlink == 1
    assert os.fstat(again.descriptor).st_mode & 0o777 == 0o600
    again.close()


def test_a_directory_that_is_a_planted_link_is_an_error(directory, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    directory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CasError, match="is a link"):
        Journal(directory, DIGEST, 10)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_pieces_match_by_their_bytes(directory):
    data = random.Random(1).randbytes(PIECE)
    journal = Journal(directory, DIGEST, PIECE)
    journal.record({0: mark_of(data)})
    assert journal.matches(0, data)
    assert not journal.matches(0, data[:-1] + bytes([data[-1] ^ 1]))
    journal.close()
