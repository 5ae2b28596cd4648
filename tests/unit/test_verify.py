"""What a verification looks at, what it says, and what it does not read twice."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import cas
from cas import ArtifactRoot, Store
from cas.backends.local import LocalBackend
from cas.backends.memory import MemoryBackend
from cas.digest import Digest
from cas.keys import alias_key, blob_key
from cas.manifest import Entry
from cas.pace import Pace
from cas.ulid import new_ulid
from cas.verify import Kind, verify
from cas_cli.main import main

SIZE = 3 << 20
OTHER = "7/" + "b" * 32 + "/artifacts"
ORIGIN = "hf://models/org/name@" + "0" * 40 + "/weights"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))


@pytest.fixture
def filled(root: ArtifactRoot) -> ArtifactRoot:
    """Two artifact roots, with two blobs each."""
    for number, each in enumerate((root, root.store.artifact_root(OTHER))):
        for name in ("one", "two"):
            each.ingest_bytes(bytes([number]) * SIZE + name.encode(), f"model/{name}")
        each.ingest_bytes(b"small", "model/config")
    return root


def blob(root: ArtifactRoot, path: str) -> Path:
    key = root.entry(path).blob
    assert key is not None
    return Path(root.store.name) / key


def change(path: Path, *, sealed: bool) -> None:
    status = path.stat()
    path.chmod(0o644)
    with open(path, "r+b") as file:
        file.seek(SIZE // 2)
        file.write(b"!")
    path.chmod(0o444)
    if sealed:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def kinds(store: Store, path: str = "", **how: bool) -> list[Kind]:
    return [problem.kind for problem in verify(store, path, **how).problems]


class TestQuick:
    def test_it_reads_no_blob(self, filled: ArtifactRoot) -> None:
        report = verify(filled.store, quick=True)
        assert (report.blobs, report.bytes, report.problems) == (4, 2 * len(b"small"), [])

    def test_it_misses_a_blob_that_is_gone(self, filled: ArtifactRoot) -> None:
        blob(filled, "model/one").unlink()
        assert kinds(filled.store, quick=True) == [Kind.MISSING]

    def test_it_sees_a_broken_seal(self, filled: ArtifactRoot) -> None:
        change(blob(filled, "model/one"), sealed=False)
        assert kinds(filled.store, quick=True) == [Kind.DAMAGED]

    def test_it_sees_another_size(self, filled: ArtifactRoot) -> None:
        path = blob(filled, "model/one")
        status = path.stat()
        path.chmod(0o644)
        os.truncate(path, SIZE)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        path.chmod(0o444)
        report = verify(filled.store, quick=True)
        (problem,) = report.problems
        assert problem.kind is Kind.DAMAGED
        assert f"{SIZE} bytes" in problem.reason

    def test_only_reading_finds_a_changed_bit_behind_a_good_seal(self, filled: ArtifactRoot) -> None:
        change(blob(filled, "model/one"), sealed=True)
        assert kinds(filled.store, quick=True) == []
        assert kinds(filled.store) == [Kind.DAMAGED]


class TestAPlace:
    def test_only_what_its_files_need_is_read(self, filled: ArtifactRoot) -> None:
        report = verify(filled.store, OTHER)
        assert (report.blobs, report.files) == (2, 3)
        assert report.bytes == 2 * (SIZE + 3) + len(b"small")

    def test_damage_elsewhere_is_not_its_own(self, filled: ArtifactRoot) -> None:
        change(blob(filled, "model/one"), sealed=True)
        assert kinds(filled.store, OTHER) == []
        assert kinds(filled.store, filled.path) == [Kind.DAMAGED]

    def test_an_experiment_or_one_directory_can_be_named(self, filled: ArtifactRoot) -> None:
        filled.ingest_bytes(b"x" * SIZE, "other/three")
        assert verify(filled.store, "7").blobs == 5
        assert verify(filled.store, f"{filled.path}/other").blobs == 1


def test_damage_is_told_of_though_another_blob_has_the_same_bytes(filled: ArtifactRoot) -> None:
    entry = filled.entry("model/one")
    data = blob(filled, "model/one").read_bytes()
    filled.store.backend.put(blob_key(entry.digest, new_ulid()), [data], create=True)
    change(blob(filled, "model/one"), sealed=True)
    (problem,) = verify(filled.store).problems
    assert problem.kind is Kind.DAMAGED
    assert problem.models == (f"{filled.path}/model/one",)
    assert verify(filled.store).problems == []  # what is needed is here


class TestOtherDigestsOfABlob:
    def test_an_alias_that_lies_goes_to_quarantine(self, filled: ArtifactRoot) -> None:
        key = alias_key(Digest("sha256", "0" * 64), new_ulid(), filled.entry("model/one").digest)
        filled.store.backend.put(key, (), create=True)
        report = verify(filled.store)
        assert [(each.kind, each.key) for each in report.problems] == [(Kind.DAMAGED, key)]
        assert filled.store.blobs.aliases(Digest("sha256", "0" * 64)) == []
        assert filled.store.blobs.verify(filled.entry("model/one").blob or "")

    def test_an_entry_that_lies_is_named(self, filled: ArtifactRoot) -> None:
        entry = filled.entry("model/one")
        with filled.log_call() as writer:
            writer._put_record("liar", Entry("liar", entry.size, Digest("sha256", "0" * 64), blob=entry.blob))
            writer.commit()
        (problem,) = verify(filled.store).problems
        assert problem.models == (f"{filled.path}/liar",)

    def test_true_ones_are_fine(self, tmp_path: Path) -> None:
        store = Store.create(tmp_path / "both", aliases=("sha256",))
        store.artifact_root("m").ingest_bytes(b"x" * SIZE, "x")
        assert verify(store).problems == []


class TestBrokenOff:
    def interrupt(self, store: Store) -> int:
        """A verification that ends somewhere; returns how much it had read."""
        seen = []

        def interrupted(count: int) -> None:
            seen.append(count)
            if sum(seen) > 2 * SIZE:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            verify(store, progress=interrupted)
        return sum(seen)

    def test_it_is_gone_on_with_and_little_is_read_twice(self, filled: ArtifactRoot) -> None:
        self.interrupt(filled.store)
        report = verify(filled.store, resume=True)
        assert report.problems == []
        assert report.blobs == 4
        assert report.bytes <= 4 * SIZE  # of four blobs of a little more
        assert verify(filled.store, resume=True).bytes > 4 * SIZE  # that one was through

    def test_unless_asked_it_begins_anew(self, filled: ArtifactRoot) -> None:
        self.interrupt(filled.store)
        assert verify(filled.store).bytes > 4 * SIZE

    def test_what_was_read_is_still_looked_for(self, filled: ArtifactRoot) -> None:
        self.interrupt(filled.store)
        for root in (filled, filled.store.artifact_root(OTHER)):
            for name in ("model/one", "model/two"):
                blob(root, name).unlink()
        assert kinds(filled.store, resume=True) == [Kind.MISSING] * 4


def test_reading_can_be_slowed_down(filled: ArtifactRoot) -> None:
    start = time.monotonic()
    verify(filled.store, pace=Pace(4 * SIZE / 0.4))
    assert time.monotonic() - start >= 0.3  # slower it may be


def test_any_backend_keeps_what_is_damaged(tmp_path: Path) -> None:
    """Where objects are no files, they are put elsewhere and deleted."""
    store = Store.create(MemoryBackend())
    root = store.artifact_root("m")
    root.ingest_bytes(b"x" * SIZE, "x")
    key = root.entry("x").blob
    assert key is not None
    store.backend.put(key, [b"y" * SIZE], create=False)
    assert kinds(store) == [Kind.DAMAGED]
    (kept,) = store.backend.keys("quarantine/")
    assert store.backend.read(kept) == b"y" * SIZE
    assert [*store.backend.keys("blobs/")] == []
    store.artifact_root("again").ingest_bytes(b"x" * SIZE, "x")
    assert kinds(store) == []
    with root.open("x") as file:
        assert file.read() == b"x" * SIZE


def cli(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["verify", *words])
    return done.exit_code, done.output


def test_what_is_missing_has_an_exit_code_of_its_own(filled: ArtifactRoot) -> None:
    blob(filled, "model/one").unlink()
    code, output = cli("--quick", filled.store.name)
    assert code == 22
    assert f"needed by {filled.path}/model/one" in output


def test_damage_has_the_last_word(filled: ArtifactRoot) -> None:
    blob(filled, "model/one").unlink()
    change(blob(filled, "model/two"), sealed=True)
    assert cli(filled.store.name)[0] == 20


def test_the_place_that_is_named_is_what_is_verified(filled: ArtifactRoot) -> None:
    change(blob(filled, "model/one"), sealed=True)
    assert cli(f"{filled.store.name}/{OTHER}")[0] == 0
    assert cli(f"{filled.store.name}/{filled.path}")[0] == 20


@pytest.mark.parametrize("words", [("--rate", "fast"), ("--quick", "--resume"), ("--quick", "--rate", "1MB")])
def test_a_command_line_that_makes_no_sense_is_refused(filled: ArtifactRoot, words: tuple[str, ...]) -> None:
    assert cli(*words, filled.store.name)[0] == 2


def test_its_record_lies_with_the_user_not_in_the_store(filled: ArtifactRoot) -> None:
    before = {path for path in Path(filled.store.name).rglob("*") if "tmp" not in path.parts}
    assert isinstance(filled.store.backend, LocalBackend)
    cas.verify.verify(filled.store)
    assert {path for path in Path(filled.store.name).rglob("*") if "tmp" not in path.parts} == before
