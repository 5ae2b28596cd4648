"""Bytes that changed behind the store's back: noticed before they are used, never served, never dropped."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import cas
from cas.digest import Digest, digest_of
from cas.errors import BlobDamaged, BlobNotFound, MalformedRecord
from cas.keys import BLOBS, MANIFESTS
from cas.verify import verify
from tests.support.reading import read
from tests.support.tools import require_root

DATA = os.urandom(1 << 20) + b"the end"  # large enough to be linked in a disposable checkout
SEAL_NS = 946_684_800 * 10**9

Damage = Callable[[Path], None]


def _flip(path: Path, position: int = 12_345) -> None:
    """Change one bit in place, keeping the size; the time changes as it does."""
    path.chmod(0o644)
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)
        file.seek(position)
        file.write(bytes([byte[0] ^ 1]))


def _truncate(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, 1000)


def _empty(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, 0)


def _extend(path: Path) -> None:
    path.chmod(0o644)
    with open(path, "ab") as file:
        file.write(b"!")


def _shorten_and_keep_the_seal(path: Path) -> None:
    _truncate(path)
    os.utime(path, ns=(SEAL_NS, SEAL_NS))


def _replace(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"?" * len(DATA))


damages = pytest.mark.parametrize(
    "damage",
    [_flip, _truncate, _empty, _extend, _shorten_and_keep_the_seal, _replace],
    ids=lambda each: each.__name__,
)


@pytest.fixture
def logged(root: cas.ArtifactRoot) -> cas.ArtifactRoot:
    """An artifact root with one blob, which two of its paths need, and a small file."""
    root.ingest_bytes(DATA, "model/weights")
    root.ingest_bytes(DATA, "copy")
    root.ingest_bytes(b"small", "small")
    return root


def _blob(store: cas.Store) -> Path:
    """The file of the only blob."""
    ((key, _),) = store.backend.list(BLOBS)
    return Path(store.name) / key


def _quarantined(store: cas.Store) -> list[bytes]:
    return [path.read_bytes() for path in (Path(store.name) / "quarantine").glob("*")]


@damages
def test_a_damaged_blob_is_not_opened_but_quarantined(
    store: cas.Store, logged: cas.ArtifactRoot, damage: Damage
) -> None:
    damage(_blob(store))
    bad = _blob(store).read_bytes()
    with pytest.raises(BlobDamaged):
        logged.open("model/weights")
    assert _quarantined(store) == [bad]
    assert list(store.backend.list(BLOBS)) == []


@damages
def test_a_damaged_blob_stays_unserved(store: cas.Store, logged: cas.ArtifactRoot, damage: Damage) -> None:
    damage(_blob(store))
    for _ in range(2):
        for again in (logged, cas.Store.open(Path(store.name)).artifact_root(logged.path)):
            with pytest.raises((BlobDamaged, BlobNotFound)):
                again.open("copy")
    assert len(_quarantined(store)) == 1


@damages
@pytest.mark.parametrize("disposable", [True, False])
def test_a_damaged_blob_is_not_checked_out(
    store: cas.Store, logged: cas.ArtifactRoot, tmp_path: Path, damage: Damage, disposable: bool
) -> None:
    damage(_blob(store))
    with pytest.raises(BlobDamaged):
        logged.checkout("model", tmp_path / "out", disposable=disposable)
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


@damages
def test_a_damaged_blob_is_not_handed_out_as_a_file(
    store: cas.Store, logged: cas.ArtifactRoot, damage: Damage
) -> None:
    damage(_blob(store))
    with pytest.raises(BlobDamaged):
        logged.local_path(logged.entry("model/weights"))


@damages
@pytest.mark.parametrize("source", ["bytes", "file", "remembered file"])
def test_logging_the_right_bytes_again_heals(
    store: cas.Store, logged: cas.ArtifactRoot, tmp_path: Path, damage: Damage, source: str
) -> None:
    (tmp_path / "source").write_bytes(DATA)
    os.utime(tmp_path / "source", ns=(SEAL_NS, SEAL_NS + 1))
    if source == "remembered file":
        logged.ingest_file(tmp_path / "source", "before")
    before = _blob(store)
    damage(before)
    if source == "bytes":
        logged.ingest_bytes(DATA, "healed")
    else:
        logged.ingest_file(tmp_path / "source", "healed")
    assert _blob(store).parent == before.parent
    assert _blob(store) != before
    for path in ("healed", "model/weights", "copy"):
        assert read(logged, path) == DATA
    assert verify(store).problems == []
    assert len(_quarantined(store)) == 1


@pytest.mark.root
def test_writing_through_a_link_is_noticed(
    store: cas.Store, logged: cas.ArtifactRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root writes to a read-only file without even noticing."""
    require_root()
    monkeypatch.setenv("CAS_LINK", "hardlink")
    report = logged.checkout("model", tmp_path / "out", disposable=True)
    assert report.files == {cas.Mode.HARDLINK: 1}
    with open(tmp_path / "out/model/weights", "r+b") as file:
        file.write(b"overwritten")
    assert _blob(store).read_bytes() != DATA
    with pytest.raises(BlobDamaged):
        logged.open("model/weights")
    assert _quarantined(store) == [b"overwritten" + DATA[11:]]


@pytest.mark.parametrize("touch", [lambda path: path.touch(), lambda path: (path.chmod(0o644), os.utime(path))])
def test_a_touched_blob_is_served_and_sealed_again(
    store: cas.Store, logged: cas.ArtifactRoot, touch: Damage
) -> None:
    touch(_blob(store))
    assert read(logged, "model/weights") == DATA
    status = _blob(store).stat()
    assert status.st_mtime_ns == SEAL_NS
    assert status.st_mode & 0o777 == 0o444
    assert _quarantined(store) == []


def test_a_second_copy_is_served_instead_of_a_damaged_one(store: cas.Store, logged: cas.ArtifactRoot) -> None:
    """Two writers that did not see each other stored the same bytes, each under a key of its own."""
    first = _blob(store)
    second = first.with_name(first.name[:-1] + ("0" if first.name[-1] != "0" else "1"))
    second.write_bytes(DATA)
    os.utime(second, ns=(SEAL_NS, SEAL_NS))
    _flip(first)
    assert read(logged, "model/weights") == DATA
    assert len(_quarantined(store)) == 1
    assert verify(store).problems == []


@damages
def test_verify_names_a_damaged_blob_and_all_that_need_it(
    store: cas.Store, logged: cas.ArtifactRoot, damage: Damage
) -> None:
    store.artifact_root("another").ingest_bytes(DATA, "x")
    key = str(_blob(store).relative_to(store.name))
    damage(_blob(store))
    (problem,) = verify(store).problems
    assert (problem.kind, problem.key) == ("damaged", key)
    assert set(problem.models) == {f"{logged.path}/model/weights", f"{logged.path}/copy", "another/x"}
    assert len(_quarantined(store)) == 1


def test_verify_finds_damage_under_an_unbroken_seal(store: cas.Store, logged: cas.ArtifactRoot) -> None:
    """A disk that forgets a bit changes neither size nor time."""
    blob = _blob(store)
    _flip(blob)
    os.utime(blob, ns=(SEAL_NS, SEAL_NS))
    assert [problem.kind for problem in verify(store).problems] == ["damaged"]
    with pytest.raises((BlobDamaged, BlobNotFound)):
        logged.open("copy")


def test_verify_counts_what_it_found_before(store: cas.Store, logged: cas.ArtifactRoot) -> None:
    _flip(_blob(store))
    verify(store)
    (problem,) = verify(store).problems
    assert problem.kind == "damaged"
    assert set(problem.models) == {f"{logged.path}/model/weights", f"{logged.path}/copy"}
    assert verify(store).quarantined == 1


def test_a_missing_blob_is_not_found(store: cas.Store, logged: cas.ArtifactRoot) -> None:
    _blob(store).unlink()
    with pytest.raises(BlobNotFound):
        logged.open("model/weights")


def test_verify_names_a_missing_blob_and_all_that_need_it(store: cas.Store, logged: cas.ArtifactRoot) -> None:
    key = str(_blob(store).relative_to(store.name))
    _blob(store).unlink()
    (problem,) = verify(store).problems
    assert (problem.kind, problem.key) == ("missing", key)
    assert set(problem.models) == {f"{logged.path}/model/weights", f"{logged.path}/copy"}


def _fragment(store: cas.Store) -> tuple[str, Path]:
    """The key and file of the only fragment."""
    ((key, _),) = store.backend.list(MANIFESTS)
    return key, Path(store.name) / key


@pytest.mark.parametrize("position", [0, 5, 13, 15, 20, 83, 84, 100, 150])
def test_a_flipped_bit_in_a_header_is_reported_with_its_key(
    store: cas.Store, root: cas.ArtifactRoot, position: int
) -> None:
    root.ingest_bytes(b"small", "small")
    key, path = _fragment(store)
    _flip(path, position)
    for failing in (root.manifest, cas.Store.open(Path(store.name)).artifact_root(root.path).manifest):
        if failing == root.manifest:
            continue  # what was read once is not read again
        with pytest.raises(MalformedRecord) as caught:
            failing()
        assert caught.value.key == key
    (problem,) = verify(cas.Store.open(Path(store.name))).problems
    assert (problem.kind, problem.key) == ("malformed", key)


def test_a_fragment_cut_short_is_reported_with_its_key(store: cas.Store, root: cas.ArtifactRoot) -> None:
    root.ingest_bytes(b"small", "small")
    key, path = _fragment(store)
    path.chmod(0o644)
    os.truncate(path, 90)
    with pytest.raises(MalformedRecord) as caught:
        cas.Store.open(Path(store.name)).artifact_root(root.path).manifest()
    assert caught.value.key == key


@pytest.mark.parametrize(
    "damage", [lambda path, size: _flip(path, size - 1), lambda path, size: os.truncate(path, size - 1)]
)
def test_a_damaged_small_file_is_not_served(
    store: cas.Store, root: cas.ArtifactRoot, tmp_path: Path, damage: Callable[[Path, int], None]
) -> None:
    root.ingest_bytes(b"small", "small")
    key, path = _fragment(store)
    path.chmod(0o644)
    damage(path, path.stat().st_size)
    with pytest.raises(BlobDamaged):
        root.open("small")
    with pytest.raises(BlobDamaged):
        root.checkout("small", tmp_path / "out")
    assert not (tmp_path / "out/small").exists()
    (problem,) = verify(store).problems
    assert (problem.kind, problem.key, problem.models) == ("damaged", key, (f"{root.path}/small",))


def test_a_damaged_small_file_is_not_folded_into_a_good_record(store: cas.Store, root: cas.ArtifactRoot) -> None:
    root.ingest_bytes(b"small", "small")
    _, path = _fragment(store)
    root.ingest_bytes(b"other", "other")
    _flip(path, path.stat().st_size - 1)
    again = cas.Store.open(Path(store.name)).artifact_root(root.path)
    again.fold()
    with pytest.raises(BlobDamaged):
        again.open("small")
    assert read(again, "other") == b"other"


def test_a_blob_is_found_by_sha256_and_its_damage_too(tmp_path: Path) -> None:
    store = cas.Store.create(tmp_path / "aliasing", aliases=("sha256",))
    store.artifact_root("a").ingest_bytes(DATA, "weights")
    sha256 = Digest("sha256", hashlib.sha256(DATA).hexdigest())
    with store.blobs.open(sha256, len(DATA)) as file:
        assert file.read() == DATA
    ((key, _),) = store.backend.list(f"{BLOBS}blake3/")
    _flip(Path(store.name) / key)
    with pytest.raises(BlobDamaged):
        store.blobs.open(sha256, len(DATA))
    with pytest.raises((BlobDamaged, BlobNotFound)):
        store.blobs.open(digest_of(DATA), len(DATA))


def test_a_link_in_place_of_a_blob_is_not_followed(
    store: cas.Store, logged: cas.ArtifactRoot, tmp_path: Path
) -> None:
    blob = _blob(store)
    blob.unlink()
    (tmp_path / "planted").write_bytes(b"p" * len(DATA))
    blob.symlink_to(tmp_path / "planted")
    with pytest.raises((BlobDamaged, BlobNotFound)):
        logged.open("model/weights")
    assert (tmp_path / "planted").exists()
