"""Pointer files: one form, and no bytes for a digest alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cas
from cas.errors import PointerRefused
from cas.pointer import MAGIC, Pointer, check, is_pointer
from cas.ulid import new_ulid

DIGESTS = st.builds(
    cas.Digest, st.sampled_from(["blake3", "sha256"]), st.text("0123456789abcdef", min_size=64, max_size=64)
)


@given(DIGESTS, st.integers(0, 1 << 60), st.none() | st.just("hf://models/o/n@" + "c" * 40 + "/f"), st.booleans())
def test_what_is_written_is_read(digest, size, origin, held):
    pointer = Pointer(digest, size, origin, new_ulid() if held else None)
    assert is_pointer(pointer.encode())
    assert Pointer.decode(pointer.encode()) == pointer


@given(st.binary(max_size=300))
def test_anything_else_is_refused_and_nothing_worse(data):
    with pytest.raises(PointerRefused, match="malformed pointer file"):
        Pointer.decode(MAGIC + data)


@pytest.fixture
def stored(root: cas.ArtifactRoot) -> cas.ArtifactRoot:
    """Two files of somebody else."""
    for name in ("theirs", "other"):
        root.ingest_bytes(name.encode() * 50_000, name)
    return root


def test_a_writer_that_holds_the_bytes_may_point_to_them(stored: cas.ArtifactRoot):
    entry = stored.entry("theirs")
    with stored.log_call() as writer:
        writer.put_known("mine", entry.digest, entry.size)
        writer.hold()
        check(Pointer(entry.digest, entry.size, intent=writer.intent), "mine", stored.store.blobs)


def test_a_writer_that_holds_other_bytes_may_not(stored: cas.ArtifactRoot):
    entry, other = stored.entry("theirs"), stored.entry("other")
    with stored.log_call() as writer:
        writer.put_known("mine", other.digest, other.size)
        writer.hold()
        with pytest.raises(PointerRefused, match="nobody holds for it"):
            check(Pointer(entry.digest, entry.size, intent=writer.intent), "mine", stored.store.blobs)


def test_a_pointer_is_good_for_as_long_as_its_writer_holds(stored: cas.ArtifactRoot):
    entry = stored.entry("theirs")
    with stored.log_call() as writer:
        writer.put_known("mine", entry.digest, entry.size)
        writer.hold()
    pointer = Pointer(entry.digest, entry.size, intent=writer.intent)
    with pytest.raises(PointerRefused, match="while the `stage` that wrote it is open"):
        stored.ingest_bytes(pointer.encode(), "mine")
    assert stored.manifest().get("mine") is None


def test_a_wrong_size_finds_no_blob(stored: cas.ArtifactRoot):
    entry = stored.entry("theirs")
    with stored.log_call() as writer:
        writer.put_known("mine", entry.digest, entry.size)
        writer.hold()
        pointer = Pointer(entry.digest, entry.size + 1, intent=writer.intent)
        with pytest.raises(cas.errors.BlobNotFound):
            stored.ingest_bytes(pointer.encode(), "mine")
