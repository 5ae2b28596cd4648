"""Links in the directories of a store: whoever may write there must not lead anybody out of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

import cas
from cas.backends import MemoryBackend
from cas.cache import Cache
from cas.errors import CasError, Damaged
from cas.keys import parse_blob_key
from cas.scratch import own_name
from cas.verify import verify
from cas_mlflow.repository import CasArtifactRepository
from tests.adapters.files import read_tree

RUN = f"7/{'a' * 32}/artifacts"
LARGE = b"weights" * 10_000


@pytest.fixture
def logged(store: cas.Store) -> cas.ArtifactRoot:
    root = store.artifact_root(RUN)
    root.ingest_bytes(LARGE, "weights")
    root.ingest_bytes(b"small", "small")
    return root


def moved_away(store: cas.Store, key: str, tmp_path: Path) -> Path:
    """A directory of the store lies elsewhere now, with all that was in it, and a link leads there."""
    place, elsewhere = Path(store.name, key), tmp_path / "elsewhere"
    if place.exists():
        shutil.move(place, elsewhere)
    else:
        elsewhere.mkdir()
        place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(elsewhere)
    return elsewhere


def of_the_blob(store: cas.Store) -> list[str]:
    """Every directory on the way to the blob."""
    digest = parse_blob_key(next(iter(store.backend.keys("blobs/"))))[0]
    return [
        f"blobs/blake3/{digest.hex[:2]}/{digest.hex}",
        f"blobs/blake3/{digest.hex[:2]}",
        "blobs/blake3",
        "blobs",
    ]


@pytest.mark.parametrize("level", range(4))
def test_no_blob_is_read_through_a_link(logged: cas.ArtifactRoot, level: int, tmp_path: Path) -> None:
    store = logged.store
    elsewhere = moved_away(store, of_the_blob(store)[level], tmp_path)
    before = read_tree(elsewhere)
    for use in (
        lambda: logged.open("weights"),
        lambda: logged.local_path(logged.entry("weights")),
        lambda: logged.checkout("", tmp_path / "out"),
    ):
        with pytest.raises(Damaged, match="is a link, which no store has"):
            use()
    assert read_tree(elsewhere) == before


@pytest.mark.parametrize("level", range(4))
def test_no_blob_is_written_or_deleted_through_a_link(logged: cas.ArtifactRoot, level: int, tmp_path: Path) -> None:
    store = logged.store
    keys = list(store.backend.keys("blobs/"))
    elsewhere = moved_away(store, of_the_blob(store)[level], tmp_path)
    before = read_tree(elsewhere)
    with pytest.raises(Damaged):
        store.artifact_root("other").ingest_bytes(LARGE, "weights")
    with pytest.raises(Damaged):
        store.backend.delete(keys)
    assert read_tree(elsewhere) == before
    assert len(store.artifact_root("other").manifest()) == 0


@pytest.mark.parametrize("key", [f"manifests/{RUN}", "manifests/7", "manifests"])
def test_no_record_is_read_or_written_through_a_link(logged: cas.ArtifactRoot, key: str, tmp_path: Path) -> None:
    elsewhere = moved_away(logged.store, key, tmp_path)
    before = read_tree(elsewhere)
    root = cas.Store.open(logged.store.name).artifact_root(RUN)
    for use in (root.manifest, lambda: root.ingest_bytes(b"more", "more"), root.remove, root.fold):
        with pytest.raises(Damaged):
            use()
    repository = CasArtifactRepository(f"cas://{logged.store.name}/{RUN}")
    with pytest.raises(MlflowException):
        repository.list_artifacts()
    assert read_tree(elsewhere) == before


@pytest.mark.parametrize("key", ["intents", "condemned", "tmp"])
def test_no_log_call_writes_through_a_link(logged: cas.ArtifactRoot, key: str, tmp_path: Path) -> None:
    place = Path(logged.store.name, key)
    shutil.rmtree(place, ignore_errors=True)
    elsewhere = moved_away(logged.store, key, tmp_path)
    (elsewhere / "kept").write_bytes(b"kept")
    root = cas.Store.open(logged.store.name).artifact_root(RUN)
    with pytest.raises(Damaged):
        root.ingest_bytes(LARGE, "again")  # which is held: so what is condemned is asked for, too
    assert read_tree(elsewhere) == {"kept": b"kept"}
    assert len(root.manifest()) == 2


def test_nothing_is_put_into_quarantine_through_a_link(logged: cas.ArtifactRoot, tmp_path: Path) -> None:
    blob = Path(logged.store.name, next(iter(logged.store.backend.keys("blobs/"))))
    blob.chmod(0o644)
    blob.write_bytes(LARGE[::-1])
    elsewhere = moved_away(logged.store, "quarantine", tmp_path)
    with pytest.raises(CasError):
        logged.open("weights")
    assert list(elsewhere.iterdir()) == []


def test_a_verification_says_which_link_it_is(logged: cas.ArtifactRoot, tmp_path: Path) -> None:
    moved_away(logged.store, "blobs/blake3", tmp_path)
    with pytest.raises(Damaged, match="blobs/blake3 is a link"):
        verify(logged.store)


def test_no_download_goes_through_a_link(tmp_path: Path) -> None:
    remote = cas.Store.create(MemoryBackend())
    remote.artifact_root(RUN).ingest_bytes(LARGE, "weights")
    cache = Cache(tmp_path / "cache")
    (cache.root / "tmp").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (cache.root / "tmp" / "downloads").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Damaged):
        cache.fetch(remote.artifact_root(RUN).manifest(), remote.supply)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_no_other_users_directory_is_taken_for_ones_own(store: cas.Store, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    own = Path(store.name, "tmp", own_name())
    shutil.rmtree(own)
    own.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Damaged, match="not this user's own"):
        cas.Store.open(store.name).artifact_root(RUN).ingest_bytes(LARGE, "weights")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_store_itself_may_be_reached_through_a_link(logged: cas.ArtifactRoot, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(logged.store.name)
    root = cas.Store.open(tmp_path / "link").artifact_root(RUN)
    root.ingest_bytes(LARGE + b"more", "more")
    with root.open("weights") as file:
        assert file.read() == LARGE
