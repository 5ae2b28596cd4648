"""Models in one file: whole or not there, verified both ways, gone on with after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from cas import ArtifactRoot, Store
from cas import bundle as bundles
from cas.backends.bundle import BundleBackend
from cas.errors import DestinationExists, InvalidInput
from cas.testing.fixtures import contents
from cas.verify import verify
from cas_cli.main import main

RUN = "7/" + "a" * 32 + "/artifacts"
OTHER = "8/" + "b" * 32 + "/artifacts"
LARGE = b"weights" * 300_000


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))


@pytest.fixture
def source(store: Store) -> ArtifactRoot:
    root = store.artifact_root(RUN)
    root.ingest_bytes(LARGE, "model/weights")
    root.ingest_bytes(b"small", "model/config")
    store.artifact_root(OTHER).ingest_bytes(LARGE[::-1], "x")
    return root


@pytest.fixture
def target(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "target")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "models.tar"


def test_what_was_carried_is_what_was_there(source: ArtifactRoot, target: Store, file: Path) -> None:
    assert not bundles.create(source.store, file).failed
    assert not bundles.take(file, target).failed
    for path in (RUN, OTHER):
        assert contents(target.artifact_root(path)) == contents(source.store.artifact_root(path))
    assert target.artifact_root(RUN).manifest().digest == source.manifest().digest
    assert verify(target).problems == []


def test_one_model_or_experiment_can_be_carried(source: ArtifactRoot, target: Store, file: Path) -> None:
    bundles.create(source.store, file, "8")
    bundles.take(file, target)
    assert [each.path for each in target.artifact_roots()] == [OTHER]


def test_equal_bytes_are_carried_once(source: ArtifactRoot, file: Path) -> None:
    source.ingest_bytes(LARGE, "again")
    bundles.create(source.store, file, RUN)
    assert file.stat().st_size < 1.1 * len(LARGE)


def test_it_is_a_tar_archive(source: ArtifactRoot, file: Path) -> None:
    bundles.create(source.store, file)
    with tarfile.open(file) as archive:
        sizes = {member.name: member.size for member in archive}
    assert {key: sizes[key] for key, _ in source.store.blobs.listing() if key in sizes} == {}  # keys of its own
    assert sorted(size for name, size in sizes.items() if name.startswith("blobs/")) == [len(LARGE)] * 2


def test_taking_it_twice_moves_nothing(source: ArtifactRoot, target: Store, file: Path) -> None:
    bundles.create(source.store, file)
    bundles.take(file, target)
    assert bundles.take(file, target).changed == 0


def test_what_is_there_is_not_written_over(source: ArtifactRoot, file: Path) -> None:
    file.write_bytes(b"precious")
    with pytest.raises(DestinationExists):
        bundles.create(source.store, file)
    assert file.read_bytes() == b"precious"


def test_what_cannot_be_read_makes_no_bundle(source: ArtifactRoot, file: Path) -> None:
    blob = Path(source.store.name) / (source.entry("model/weights").blob or "")
    blob.unlink()
    (failed,) = bundles.create(source.store, file).failed
    assert failed.root == RUN
    assert not file.exists()
    source.ingest_bytes(LARGE, "model/weights")
    assert not bundles.create(source.store, file).failed
    assert file.exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from cas import Store
from cas import bundle as bundles
from cas.backends import bundle

written, write = [0], bundle.write_all_at
def dying(descriptor, data, offset):
    written[0] += 1
    if written[0] == int(sys.argv[3]):
        os.pwrite(descriptor, memoryview(data)[:len(data) // 2], offset)
        os.kill(os.getpid(), signal.SIGKILL)
    write(descriptor, data, offset)
bundle.write_all_at = dying
bundles.create(Store.open(sys.argv[1]), Path(sys.argv[2]))
"""


def test_killed_at_any_write_it_is_gone_on_with(source: ArtifactRoot, tmp_path: Path) -> None:
    for count in range(1, 100):
        file, target = tmp_path / f"{count}.tar", Store.create(tmp_path / f"target-{count}")
        done = subprocess.run(
            [sys.executable, "-c", KILLED, source.store.name, str(file), str(count)], check=False, timeout=60
        )
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        assert not file.exists()
        assert not bundles.create(source.store, file).failed
        bundles.take(file, target)
        assert contents(target.artifact_root(RUN)) == contents(source)
        assert verify(target).problems == []
    assert 10 < count < 99


def test_an_attempt_whose_bytes_were_lost_is_begun_anew(source: ArtifactRoot, target: Store, file: Path) -> None:
    """A power cut can keep a header and lose the bytes behind it."""
    with closing(BundleBackend.create(file)) as backend:
        backend.put("cas.json", [source.store.backend.read("cas.json")], create=True)
        for key, size in source.store.blobs.listing():
            backend.put(key, [bytes(size)], create=False, size=size)
    assert not bundles.create(source.store, file).failed
    bundles.take(file, target)
    assert contents(target.artifact_root(RUN)) == contents(source)


@pytest.mark.parametrize("keep", [0, 100, 5000, -1, -2000])
def test_a_file_that_is_cut_short_is_refused(source: ArtifactRoot, target: Store, file: Path, keep: int) -> None:
    bundles.create(source.store, file)
    os.truncate(file, keep if keep >= 0 else file.stat().st_size + keep)
    with pytest.raises(InvalidInput):
        bundles.take(file, target)
    assert [*target.artifact_roots()] == []


def test_a_changed_bit_is_found_and_not_taken_over(source: ArtifactRoot, target: Store, file: Path) -> None:
    bundles.create(source.store, file)
    with tarfile.open(file) as archive:
        member = next(each for each in archive if each.name.startswith("blobs/"))
    with open(file, "r+b") as opened:
        opened.seek(member.offset_data + 1000)
        opened.write(b"!")
    assert cli("verify", file)[0] == 20
    report = bundles.take(file, target)
    assert len(report.failed) == 1
    assert report.changed == 1
    assert verify(target).problems == []


def cli(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["bundle", *map(str, words)])
    return done.exit_code, done.output


def test_the_command_line(source: ArtifactRoot, target: Store, file: Path, tmp_path: Path) -> None:
    code, output = cli("create", f"{source.store.name}/{RUN}", file)
    assert (code, output) == (0, "1 of 1 artifact roots changed: 2.1 MB copied\n")
    assert cli("verify", file)[0] == 0
    assert cli("import", file, target.name) == (0, "1 of 2 artifact roots changed: 2.1 MB streamed\n")
    assert cli("create", source.store.name, file)[0] == 1
    assert cli("import", tmp_path / "none", target.name)[0] == 2
    (tmp_path / "text").write_text("no bundle")
    assert cli("import", tmp_path / "text", target.name)[0] == 1
