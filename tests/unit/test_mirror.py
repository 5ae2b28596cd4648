"""Mirroring is a merge of records, and brings the bytes they need."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from cas import ArtifactRoot, Store
from cas.atomic import SEAL_NS
from cas.backends import MemoryBackend
from cas.digest import digest_of
from cas.errors import InvalidInput, PathNotFound
from cas.fetch import How
from cas.mirror import MirrorReport, mirror
from cas.testing.fixtures import contents
from cas.verify import verify
from cas_cli.main import main
from tests.support.meanwhile import collected_after_fetching, log_and_remove

RUN = "7/" + "a" * 32 + "/artifacts"
LARGE = b"weights" * 300_000


@pytest.fixture
def source(store: Store) -> ArtifactRoot:
    root = store.artifact_root(RUN)
    root.ingest_bytes(LARGE, "model/weights")
    root.ingest_bytes(b"small", "model/config")
    return root


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "other")


def mirrored(source: ArtifactRoot, other: Store) -> MirrorReport:
    report = mirror(source.store, other)
    assert not report.failed
    return report


def test_a_mirror_holds_what_its_source_holds(source: ArtifactRoot, other: Store) -> None:
    mirrored(source, other)
    there = other.artifact_root(RUN)
    assert contents(there) == {"model/weights": LARGE, "model/config": b"small"}
    assert there.manifest().digest == source.manifest().digest
    assert not verify(other).problems


def test_a_mirror_shares_no_file_with_its_source(source: ArtifactRoot, other: Store) -> None:
    """Else a careless writer who reaches one reaches both."""
    mirrored(source, other)
    blobs = [Path(store.name) / key for store in (source.store, other) for key, _ in store.blobs.listing()]
    assert len({blob.stat().st_ino for blob in blobs}) == len(blobs) == 2


def test_mirroring_again_writes_nothing(source: ArtifactRoot, other: Store) -> None:
    mirrored(source, other)
    before = sorted(other.backend.keys(""))
    assert mirrored(source, other).changed == 0
    assert sorted(other.backend.keys("")) == before


def test_only_what_is_missing_moves(source: ArtifactRoot, other: Store) -> None:
    other.artifact_root("1/" + "b" * 32 + "/artifacts").ingest_bytes(LARGE, "the same bytes")
    report = mirrored(source, other)
    assert report.fetched.bytes == {How.HELD: len(LARGE)}
    assert sum(1 for _ in other.blobs.listing()) == 1


def test_what_was_removed_is_removed(source: ArtifactRoot, other: Store) -> None:
    mirrored(source, other)
    source.remove("model/config")
    mirrored(source, other)
    assert set(contents(other.artifact_root(RUN))) == {"model/weights"}


def test_what_was_removed_before_it_was_ever_mirrored_leaves_no_trace(source: ArtifactRoot, other: Store) -> None:
    source.remove()
    assert mirrored(source, other).changed == 0
    assert [*other.artifact_roots()] == []


def test_what_the_mirror_logged_itself_stays(source: ArtifactRoot, other: Store) -> None:
    other.artifact_root(RUN).ingest_bytes(b"of the mirror", "notes")
    mirrored(source, other)
    assert set(contents(other.artifact_root(RUN))) == {"notes", "model/weights", "model/config"}


def test_of_two_versions_of_a_file_the_later_wins(source: ArtifactRoot, other: Store) -> None:
    mirrored(source, other)
    other.artifact_root(RUN).ingest_bytes(b"later", "model/config")
    mirrored(source, other)
    assert contents(other.artifact_root(RUN))["model/config"] == b"later"
    source.ingest_bytes(b"latest", "model/config")
    mirrored(source, other)
    assert contents(other.artifact_root(RUN))["model/config"] == b"latest"


def test_what_is_logged_into_a_mirror_wins_over_a_source_whose_clock_ran_ahead(
    source: ArtifactRoot, other: Store
) -> None:
    with source.log_call(after="7" + "Z" * 5 + "0" * 20) as writer:  # centuries from now
        writer.put_bytes("model/config", b"from the future")
        writer.commit()
    mirrored(source, other)
    other.artifact_root(RUN).ingest_bytes(b"logged after it", "model/config")
    mirrored(source, other)
    assert contents(other.artifact_root(RUN))["model/config"] == b"logged after it"


def test_two_stores_that_mirror_each_other_end_alike(source: ArtifactRoot, other: Store) -> None:
    theirs = other.artifact_root(RUN)
    theirs.ingest_bytes(LARGE[::-1], "theirs")
    with source.log_call(["both"]) as first:
        first.put_bytes("both", b"1")
        first.commit()
    # Neither store sees the other yet: within one millisecond nothing but this would tell which is later.
    with theirs.log_call(["both"], after=first.intent) as second:
        second.put_bytes("both", b"2")
        second.commit()
    mirrored(source, other)
    assert not mirror(other, source.store).failed
    assert contents(source) == contents(theirs)
    assert contents(source)["both"] == b"2"


def test_what_is_later_wins_though_what_is_older_was_mirrored_first(
    source: ArtifactRoot, other: Store, tmp_path: Path
) -> None:
    """A record keeps its stamp: when it was mirrored says nothing."""
    third = Store.create(tmp_path / "third").artifact_root(RUN)
    third.ingest_bytes(b"later", "model/config")
    time.sleep(0.01)
    mirrored(source, other)
    mirrored(third, other)
    assert contents(other.artifact_root(RUN))["model/config"] == b"later"


def test_a_damaged_blob_gets_into_no_bucket(source: ArtifactRoot) -> None:
    """Its seal says nothing: what passes is hashed."""
    bucket = Store.create(MemoryBackend())
    entry = source.entry("model/weights")
    path = source.local_path(entry)
    assert path is not None
    path.chmod(0o644)
    path.write_bytes(b"x" + LARGE[1:])
    os.utime(path, ns=(SEAL_NS, SEAL_NS))
    report = mirror(source.store, bucket)
    assert [each.root for each in report.failed] == [RUN]
    assert list(bucket.blobs.listing()) == []
    assert [*bucket.artifact_roots()] == []


def test_one_experiment_or_one_directory_can_be_taken(source: ArtifactRoot, other: Store) -> None:
    source.store.artifact_root("8/" + "c" * 32 + "/artifacts").ingest_bytes(b"x", "x")
    source.ingest_bytes(b"outside", "outside")
    mirror(source.store, other, RUN + "/model")
    assert set(contents(other.artifact_root(RUN))) == {"model/weights", "model/config"}
    mirror(source.store, other, "8")
    assert sorted(each.path for each in other.artifact_roots()) == [RUN, "8/" + "c" * 32 + "/artifacts"]


def test_a_reference_stays_one(store: Store, other: Store) -> None:
    origin = "hf://models/org/name@" + "0" * 40 + "/weights"
    root = store.artifact_root(RUN)
    root.ingest_bytes(LARGE, "weights")
    digest = root.entry("weights").digest
    with root.log_call(["reference"]) as writer:
        writer.put_known("reference", digest.parse("sha256:" + "1" * 64), 5, origin)
        writer.commit()
    mirrored(root, other)
    assert other.artifact_root(RUN).entry("reference").origin == origin
    assert other.artifact_root(RUN).entry("reference").blob is None


def test_what_a_collector_takes_meanwhile_is_brought_after_all(
    source: ArtifactRoot, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes were there, needed by nobody, when the mirror looked; an origin is no substitute for them."""
    with source.log_call() as writer:
        writer.put_known("model/weights", digest_of(LARGE), len(LARGE), f"hf://models/o/n@{'0' * 40}/weights")
        writer.commit()
    log_and_remove(other, LARGE)
    gone = collected_after_fetching(monkeypatch, other)
    mirrored(source, other)
    assert gone == [1, 0]
    assert other.artifact_root(RUN).entry("model/weights").blob is not None
    assert contents(other.artifact_root(RUN))["model/weights"] == LARGE


@pytest.mark.parametrize("where", ["on a disk", "in a bucket"])
def test_in_the_end_it_relies_on_nothing_but_what_it_brought(
    source: ArtifactRoot, other: Store, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often others log the same bytes, and have them collected."""
    target = other if where == "on a disk" else Store.create(MemoryBackend())
    gone = collected_after_fetching(monkeypatch, target, lambda: log_and_remove(target, LARGE))
    mirrored(source, target)
    assert gone == [1, 1, 1]
    assert contents(target.artifact_root(RUN))["model/weights"] == LARGE


def test_a_mirror_that_records_sha256_computes_it(source: ArtifactRoot, tmp_path: Path) -> None:
    other = Store.create(tmp_path / "both", aliases=("sha256",))
    mirrored(source, other)
    assert len(list(other.backend.keys("blobs/sha256/"))) == 1


def test_a_damaged_model_is_reported_and_the_others_are_taken(source: ArtifactRoot, other: Store) -> None:
    sound = source.store.artifact_root("8/" + "c" * 32 + "/artifacts")
    sound.ingest_bytes(LARGE[1:], "weights")
    path = source.local_path(source.entry("model/weights"))
    assert path is not None
    path.chmod(0o644)
    path.write_bytes(b"?" * len(LARGE))
    report = mirror(source.store, other)
    assert [each.root for each in report.failed] == [RUN]
    assert "damaged" in report.failed[0].reason
    assert contents(other.artifact_root(sound.path)) == {"weights": LARGE[1:]}
    with pytest.raises(PathNotFound):
        other.artifact_root(RUN).entry("model/config")


def test_no_store_is_mirrored_into_itself(store: Store) -> None:
    with pytest.raises(InvalidInput, match="itself"):
        mirror(store, store)


def test_the_command_says_what_moved_and_what_failed(source: ArtifactRoot, other: Store) -> None:
    command = ["mirror", source.store.name, other.name]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "1 of 2 artifact roots changed: 2.1 MB" in done.output
    assert "no bytes to move" in CliRunner().invoke(main, command).output
    source.ingest_bytes(LARGE[1:], "damaged")
    path = source.local_path(source.entry("damaged"))
    assert path is not None
    path.chmod(0o644)
    path.write_bytes(b"?" * (len(LARGE) - 1))
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 1
    assert RUN in done.output


def test_the_command_refuses_a_place_inside_the_destination(source: ArtifactRoot, other: Store) -> None:
    done = CliRunner().invoke(main, ["mirror", source.store.name, f"{other.name}/7"])
    assert done.exit_code == 2
    assert "name the store itself" in done.output
