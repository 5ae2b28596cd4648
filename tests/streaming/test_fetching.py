"""Where bytes are had from, and how they are stored."""

from __future__ import annotations

import json
import os
from pathlib import Path

import huggingface_hub.constants
import pytest

from cas import Store
from cas.digest import Digest
from cas.errors import BlobNotFound, OriginGated, OriginGone
from cas.fetch import Fetcher, How
from cas.manifest import Entry
from cas.references import persist, references
from cas.supply import Origins
from cas.ulid import new_ulid
from tests.support.hub import LoopbackHub
from tests.support.hub_faults import Counted
from tests.support.processes import run_fresh

from .conftest import REPO, SIZE, fetch, held


def blobs(store: Store) -> list[str]:
    return [key for key, _ in store.blobs.listing()]


def test_a_streamed_blob_lies_under_its_sha256_and_is_found_by_its_blake3(hub, store, entry, weights):
    fetch(store, entry)
    (key,) = blobs(store)
    assert key.startswith(f"blobs/sha256/{entry.digest.hex[:2]}/{entry.digest.hex}/")
    root = store.artifact_root("x")
    root.ingest_file(weights / entry.path, "again.safetensors")
    assert blobs(store) == [key]
    assert root.entry("again.safetensors").blob == key


def test_bytes_that_were_logged_from_a_file_before_get_only_a_name(hub, store, entry, weights):
    store.artifact_root("x").ingest_file(weights / entry.path, "first.safetensors")
    (key,) = blobs(store)
    fetch(store, entry)
    assert blobs(store) == [key]
    assert held(store, entry) == (weights / entry.path).read_bytes()


def test_a_file_in_the_hugging_face_cache_is_linked_and_sealed(hub, store, entry, tmp_path):
    cached = cached_by_the_real_client(hub, entry, tmp_path)
    hub.log.clear()
    report = fetch(store, entry)
    assert report.bytes == {How.LINKED: SIZE}
    assert not [request for request in hub.log if request.on_cdn]
    blob = store.blobs.local_path(entry.digest, entry.size)
    assert os.path.samefile(blob, cached)  # ext4 has no reflinks
    assert cached.stat().st_mode & 0o222 == 0


def test_a_write_through_the_hugging_face_cache_is_found_out(hub, store, entry, tmp_path):
    cached = cached_by_the_real_client(hub, entry, tmp_path)
    fetch(store, entry)
    cached.chmod(0o644)
    with cached.open("r+b") as file:
        file.write(b"careless")
    with pytest.raises(Exception, match="damaged"):
        held(store, entry)


def test_a_damaged_copy_is_passed_over(hub, store, entry, weights, tmp_path):
    cached = cached_by_the_real_client(hub, entry, tmp_path)
    cached.write_bytes(bytes(SIZE))
    report = fetch(store, entry)
    assert report.bytes == {How.STREAMED: SIZE}
    assert held(store, entry) == (weights / entry.path).read_bytes()


def test_what_was_fetched_to_be_read_is_linked_when_it_is_persisted(hub, store, entry, tmp_path):
    root = reference(store, entry)
    root.checkout("", tmp_path / "out", disposable=True)
    hub.fault = counted = Counted()
    assert persist(root).bytes == {How.LINKED: SIZE}
    assert counted.bytes == 0


def test_reading_a_reference_does_not_change_the_store(hub, store, entry, weights):
    root = reference(store, entry)
    with root.open(entry.path) as file:
        assert file.read() == (weights / entry.path).read_bytes()
    assert blobs(store) == []
    assert references(root) == [root.entry(entry.path)]


def test_persisting_keeps_the_models_identity(hub, store, entry):
    root = reference(store, entry)
    before = root.manifest().digest
    persist(root)
    assert root.manifest().digest == before
    assert references(root) == []


def test_a_reference_whose_bytes_are_here_is_none(hub, store, entry):
    persist(reference(store, entry))
    assert references(reference(store, entry, "another")) == []


def test_a_failed_part_leaves_the_model_as_it_was_and_keeps_the_others(hub, store, entry):
    other = Entry("b.safetensors", 5, Digest("sha256", "0" * 64), entry.origin)
    root = reference(store, entry, more=[other])
    fragments = set(store.backend.keys("manifests/"))
    with pytest.raises(Exception, match="promised"):
        persist(root)
    assert set(store.backend.keys("manifests/")) == fragments
    assert not list(store.backend.keys("intents/"))
    assert len(blobs(store)) == 1  # complete, and there for the next time


def test_a_blob_that_is_gone_is_had_from_its_origin_again(hub, store, entry, weights):
    root = reference(store, entry)
    persist(root)
    store.backend.delete(blobs(store))
    with root.open(entry.path) as file:
        assert file.read() == (weights / entry.path).read_bytes()
    persist(root)
    assert len(blobs(store)) == 1


def test_a_model_whose_bytes_another_one_keeps_gets_a_claim_of_its_own(hub, store, entry):
    later = reference(store, entry, "later")
    persist(reference(store, entry))
    assert references(later) == [later.entry(entry.path)]
    hub.fault = counted = Counted()
    assert persist(later).bytes == {How.HELD: SIZE}
    assert counted.bytes == 0
    assert [later.entry(entry.path).blob] == blobs(store)


def test_a_blob_that_is_listed_for_deletion_is_not_relied_on(hub, store, entry):
    persist(reference(store, entry))
    (doomed,) = blobs(store)
    store.backend.put(f"condemned/{new_ulid()}.json", [json.dumps({"keys": [doomed]}).encode()], create=True)
    root = reference(store, entry, "another")
    assert root.entry(entry.path).blob is None
    persist(root)
    assert root.entry(entry.path).blob in set(blobs(store)) - {doomed}


def test_a_pinned_digest_without_origin_must_be_here_at_the_commit(store):
    digest = Digest("sha256", "0" * 64)
    with store.artifact_root("x").log_call() as writer:
        writer.put_known("a", digest, 5)
        with pytest.raises(BlobNotFound):
            writer.commit()


def test_a_gated_repository_says_what_to_do(hub, store, entry, monkeypatch):
    hub.access.gate(REPO, "hf_invited")
    with pytest.raises(OriginGated, match=r"Accept its terms at http.*acme/weights.*HF_TOKEN"):
        fetch(store, entry)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_invited")
    fetch(store, entry)


def test_a_private_repository_is_no_repository(hub, store, entry):
    hub.access.hide(REPO, "hf_member")
    with pytest.raises(OriginGone, match="private"):
        fetch(store, entry)


def test_a_renamed_repository_still_gives_its_commits(hub, store, entry, weights):
    hub.add_repo("acme/new-name", weights)
    hub._repos["acme/new-name"] = hub._repos.pop(REPO)
    hub.access.rename(REPO, "acme/new-name")
    fetch(store, entry)
    assert held(store, entry) == (weights / entry.path).read_bytes()


def test_too_little_space_is_said_before_anything_is_fetched(hub, store, entry, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    hub.log.clear()
    with pytest.raises(OSError, match="are to be fetched, and 1000 are free"):
        Fetcher(store.blobs, Origins()).fetch([entry], new_ulid())
    assert not [request for request in hub.log if request.on_cdn]


def reference(store: Store, entry: Entry, path: str = "m", more: list[Entry] | None = None):
    root = store.artifact_root(path)
    with root.log_call() as writer:
        for each in (entry, *(more or [])):
            writer.put_known(each.path, each.digest, each.size, each.origin)
        writer.commit()
    return root


def cached_by_the_real_client(hub: LoopbackHub, entry: Entry, directory: Path) -> Path:
    """Where huggingface_hub keeps the file after a download, in a process whose cache this one shares."""
    huggingface_hub.constants.HF_HUB_CACHE = str(directory / "home" / "hub")
    return run_fresh(hub.environment(directory / "home"), download, entry.path)


def download(path: str) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(REPO, path)).resolve()
