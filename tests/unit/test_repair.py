"""Bringing back what a store has lost: from whoever has it, verified, and never by inventing anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from cas import ArtifactRoot, Store
from cas.backends.memory import MemoryBackend
from cas.backups import Directory
from cas.errors import BlobDamaged
from cas.fetch import How
from cas.mirror import mirror
from cas.repair import repair
from cas.testing.fixtures import contents
from cas.verify import Kind, verify
from cas_cli.main import main

RUN = "7/" + "a" * 32 + "/artifacts"
DATA = b"weights" * 300_000


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))


@pytest.fixture
def root(store: Store) -> ArtifactRoot:
    root = store.artifact_root(RUN)
    root.ingest_bytes(DATA, "model/weights")
    root.ingest_bytes(b"small", "model/config")
    return root


def flip(root: ArtifactRoot, path: str) -> None:
    """One bit, behind a good seal."""
    key = root.entry(path).blob
    assert key is not None
    file = Path(root.store.name) / key
    status = file.stat()
    file.chmod(0o644)
    with open(file, "r+b") as opened:
        opened.seek(status.st_size // 2)
        byte = opened.read(1)
        opened.seek(-1, os.SEEK_CUR)
        opened.write(bytes([byte[0] ^ 1]))
    file.chmod(0o444)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def lose(root: ArtifactRoot, path: str = "model/weights") -> None:
    flip(root, path)
    assert {each.kind for each in verify(root.store).problems} == {Kind.DAMAGED}


def directory_with(where: Path, data: bytes) -> Directory:
    where.mkdir()
    (where / "some-name.bin").write_bytes(data)
    (where / "same-size.bin").write_bytes(bytes(len(data)))
    return Directory(where)


def test_a_mirror_gives_back_what_was_lost(root: ArtifactRoot, tmp_path: Path) -> None:
    other = Store.create(tmp_path / "other")
    mirror(root.store, other)
    lose(root)
    report = repair(root.store, stores=[other])
    assert (report.repaired.bytes, report.lost) == ({How.STREAMED: len(DATA)}, [])
    assert contents(root) == {"model/weights": DATA, "model/config": b"small"}
    assert verify(root.store).problems == []


def test_a_file_of_any_name_will_do_and_is_copied(root: ArtifactRoot, tmp_path: Path) -> None:
    lose(root)
    report = repair(root.store, directories=[directory_with(tmp_path / "backup", DATA)])
    assert report.lost == []
    (tmp_path / "backup/some-name.bin").write_bytes(b"changed by its owner")
    assert contents(root)["model/weights"] == DATA
    assert verify(root.store).problems == []


def test_what_the_cache_of_this_machine_has_is_enough(tmp_path: Path, store: Store) -> None:
    """A bucket's blobs are in the cache of whoever loaded them."""
    remote = Store.create(MemoryBackend())
    root = remote.artifact_root(RUN)
    root.ingest_bytes(DATA, "model/weights")
    root.checkout("model", tmp_path / "loaded", disposable=True)
    remote.backend.delete([root.entry("model/weights").blob or ""])
    assert [each.kind for each in verify(remote).problems] == [Kind.MISSING]
    assert repair(remote).repaired.bytes == {How.COPIED: len(DATA)}
    assert verify(remote).problems == []


def test_a_source_that_has_other_bytes_is_not_believed(root: ArtifactRoot, tmp_path: Path) -> None:
    other = Store.create(tmp_path / "other")
    mirror(root.store, other)
    flip(other.artifact_root(RUN), "model/weights")
    lose(root)
    report = repair(root.store, stores=[other], directories=[directory_with(tmp_path / "backup", bytes(len(DATA)))])
    (loss,) = report.lost
    assert loss.models == (f"{RUN}/model/weights",)
    assert "damaged" in loss.reason
    with pytest.raises(BlobDamaged):
        root.open("model/weights")


def test_what_nobody_has_is_named_and_its_bytes_are_kept(root: ArtifactRoot) -> None:
    lose(root)
    (kept,) = root.store.backend.keys("quarantine/")
    before = root.store.backend.read(kept)
    (loss,) = repair(root.store).lost
    assert "no source" in loss.reason
    assert root.store.backend.read(kept) == before
    assert [each.kind for each in verify(root.store).problems] == [Kind.DAMAGED]


def test_one_that_cannot_be_had_hinders_no_other(root: ArtifactRoot, tmp_path: Path) -> None:
    root.ingest_bytes(DATA[::-1], "model/other")
    lose(root)
    lose(root, "model/other")
    report = repair(root.store, directories=[directory_with(tmp_path / "backup", DATA)])
    assert [loss.models for loss in report.lost] == [(f"{RUN}/model/other",)]
    with root.open("model/weights") as file:
        assert file.read() == DATA


def test_a_sound_store_is_left_alone(root: ArtifactRoot) -> None:
    before = sorted(root.store.backend.keys(""))
    report = repair(root.store)
    assert not report.repaired.files
    assert sorted(root.store.backend.keys("")) == before


def test_only_the_place_that_is_named_is_repaired(root: ArtifactRoot, tmp_path: Path) -> None:
    lose(root)
    elsewhere = "8/" + "b" * 32 + "/artifacts"
    root.store.artifact_root(elsewhere).ingest_bytes(b"x", "x")
    backup = directory_with(tmp_path / "backup", DATA)
    assert not repair(root.store, elsewhere, directories=[backup]).repaired.files
    assert repair(root.store, RUN, directories=[backup]).repaired.files


def test_of_a_hundred_damaged_blobs_every_one_is_found_and_those_that_somebody_has_come_back(
    store: Store, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    backup.mkdir()
    roots = [store.artifact_root(f"1/models/m-{number:032x}/artifacts") for number in range(100)]
    for number, root in enumerate(roots):
        data = number.to_bytes(4) * 10_000
        root.ingest_bytes(data, "weights")
        if number % 10:
            (backup / f"{number}").write_bytes(data)
    for root in roots:
        flip(root, "weights")
    damaged = verify(store).problems
    assert sorted(model for problem in damaged for model in problem.models) == [f"{r.path}/weights" for r in roots]
    report = repair(store, directories=[Directory(backup)])
    assert sum(report.repaired.files.values()) == 90
    assert sorted(loss.models for loss in report.lost) == [(f"{each.path}/weights",) for each in roots[::10]]
    for number, root in enumerate(roots):
        if number % 10:
            assert contents(root) == {"weights": number.to_bytes(4) * 10_000}
        else:
            with pytest.raises(BlobDamaged):
                root.open("weights")


def cli(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["repair", *map(str, words)])
    return done.exit_code, done.output


def test_the_command_says_what_it_brought_and_what_is_lost(root: ArtifactRoot, tmp_path: Path) -> None:
    lose(root)
    directory_with(tmp_path / "backup", DATA)
    code, output = cli(root.store.name)
    assert code == 20
    assert f"needed by {RUN}/model/weights" in output
    code, output = cli(root.store.name, "--from", tmp_path / "backup")
    assert (code, output) == (0, "brought back: 2.1 MB streamed\n")


def test_a_source_that_is_none_is_refused(root: ArtifactRoot, tmp_path: Path) -> None:
    code, output = cli(root.store.name, "--from", tmp_path / "nowhere")
    assert code == 1
    assert "neither a store nor a directory" in output
