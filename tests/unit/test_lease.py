"""A writer's intent: what it pins, how long it stays, and what becomes of a commit nobody heard the end of."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from cas import Store
from cas.backends import MemoryBackend
from cas.condemned import condemned_key, encode_condemned
from cas.errors import IntentAborted, KeyExists, StoreUnavailable
from cas.history import read_fragment
from cas.intent import Intent
from cas.keys import BLOBS, INTENTS, MANIFESTS, fragment_key, intent_key, parse_blob_key
from cas.lease import Lease
from cas.ulid import new_ulid
from cas.writer import Writer

PLACE = "7/models/m-1/artifacts"
ONE, TWO = b"one" * 20_000, b"two" * 20_000


class FaultyBackend(MemoryBackend):
    """Does something in the place of a put of a fragment."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[Callable[[Callable[[], None]], None]] = []

    def put(self, key: str, parts: Iterable[bytes], *, create: bool, size: int = 0) -> None:
        def put() -> None:
            MemoryBackend.put(self, key, parts, create=create, size=size)

        if self.faults and key.startswith(MANIFESTS):
            self.faults.pop(0)(put)
        else:
            put()


def _lose_the_answer(put: Callable[[], None]) -> None:
    put()
    raise StoreUnavailable("no answer")


def _lose_the_request(_: Callable[[], None]) -> None:
    raise StoreUnavailable("no answer")


@pytest.fixture
def backend() -> FaultyBackend:
    return FaultyBackend()


@pytest.fixture
def memory(backend: FaultyBackend) -> Store:
    return Store.create(backend)


def _pins(memory: Store, writer: Writer) -> set[str]:
    key = intent_key(writer.intent)
    return set(Intent.decode(key, memory.backend.read(key)).pins)


def test_what_is_pinned_stays_pinned_until_the_commit(memory: Store) -> None:
    root = memory.artifact_root(PLACE)
    root.ingest_bytes(ONE, "one")
    root.ingest_bytes(TWO, "two")
    with root.log_call() as writer:
        writer.put_bytes("again/one", ONE)
        writer.hold()
        writer.put_bytes("again/two", TWO)
        writer.hold()
        assert _pins(memory, writer) == {root.entry("one").blob, root.entry("two").blob}
        writer.commit()
    assert list(memory.backend.keys(INTENTS)) == []


def test_a_lease_is_renewed_while_its_writer_lives(backend: FaultyBackend) -> None:
    intent = new_ulid()
    lease = Lease(backend, PLACE, intent, seconds=1)
    lease.announce(["blobs/blake3/ab/" + "ab" * 32 + "/" + intent])
    before = backend.read(intent_key(intent))
    backend.delete([intent_key(intent)])
    while intent_key(intent) not in backend.keys(INTENTS):
        pass
    assert backend.read(intent_key(intent)) == before
    lease.release()
    lease.renew()  # the thread that does may come a moment too late
    assert list(backend.keys(INTENTS)) == []


def test_a_commit_whose_answer_was_lost_is_one(memory: Store, backend: FaultyBackend) -> None:
    backend.faults = [_lose_the_answer]
    memory.artifact_root(PLACE).ingest_bytes(ONE, "one")
    assert [entry.path for entry in memory.artifact_root(PLACE).manifest()] == ["one"]
    assert list(backend.keys(INTENTS)) == []


def test_a_commit_that_failed_never_happens_later(memory: Store, backend: FaultyBackend) -> None:
    """Its request may still be on its way; it then finds the key taken, by the writer's own tombstone."""
    late: list[Callable[[], None]] = []
    backend.faults = [lambda put: late.append(put) or _lose_the_request(put)]
    with pytest.raises(StoreUnavailable):
        memory.artifact_root(PLACE).ingest_bytes(ONE, "one")
    assert list(backend.keys(INTENTS)) == []
    with pytest.raises(KeyExists):
        late[0]()
    [key] = backend.keys(MANIFESTS)
    assert read_fragment(backend, key).aborted


@pytest.mark.parametrize("second", [_lose_the_request, _lose_the_answer])
def test_a_writer_that_cannot_tell_leaves_its_intent(memory: Store, backend: FaultyBackend, second) -> None:
    """It protects what may become visible at any time, until a collector makes sure that it will not."""
    backend.faults = [_lose_the_request, second]
    with pytest.raises(StoreUnavailable):
        memory.artifact_root(PLACE).ingest_bytes(ONE, "one")
    assert len(list(backend.keys(INTENTS))) == 1


def test_a_writer_whose_own_blob_is_condemned_commits_nothing(memory: Store) -> None:
    root = memory.artifact_root(PLACE)
    with root.log_call() as writer:
        writer.put_bytes("one", ONE)
        [entry] = writer.hold()
        assert entry.blob is not None
        memory.backend.put(condemned_key(new_ulid()), [encode_condemned([entry.blob], unneeded=False)], create=True)
        writer.put_bytes("again", ONE)
        with pytest.raises(IntentAborted, match="log it again"):
            writer.commit()
    assert list(root.manifest()) == []


def test_a_writer_whose_own_blob_was_collected_uses_no_key_again(memory: Store) -> None:
    root = memory.artifact_root(PLACE)
    with root.log_call() as writer:
        writer.put_bytes("one", ONE)
        [entry] = writer.hold()
        assert entry.blob is not None
        memory.backend.delete([entry.blob])
        writer.put_bytes("again", ONE)
        with pytest.raises(IntentAborted):
            writer.commit()
    assert list(memory.backend.keys(BLOBS)) == []


def test_a_writer_that_a_collector_gave_up_commits_nothing(memory: Store) -> None:
    root = memory.artifact_root(PLACE)
    with root.log_call() as writer:
        writer.put_bytes("one", ONE)
        memory.backend.put(fragment_key(PLACE, writer.intent), [b"a tombstone"], create=True)
        with pytest.raises(IntentAborted, match=f"writing to {PLACE}"):
            writer.commit()


def test_a_list_that_was_spent_while_it_was_read_is_none(memory: Store) -> None:
    """A collector deleted it, and all it named, after it was listed."""
    memory.artifact_root(PLACE).ingest_bytes(ONE, "before")
    spent = condemned_key(new_ulid())
    memory.backend.put(spent, [encode_condemned([], unneeded=False)], create=True)

    class Listing(MemoryBackend):
        def __init__(self) -> None:
            super().__init__()
            self._objects, self._times = memory.backend._objects, memory.backend._times

        def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
            if key == spent:
                self.delete([key])
            return super().read(key, start, length)

    again = Store.open(Listing()).artifact_root(PLACE)
    again.ingest_bytes(ONE, "after")
    assert again.entry("after").blob == again.entry("before").blob


def test_who_stores_a_blob_anew_stores_its_alias_too() -> None:
    """That of the blob which is about to be deleted is about to be deleted with it."""
    memory = Store.create(MemoryBackend(), aliases=("sha256",))
    root = memory.artifact_root(PLACE)
    root.ingest_bytes(ONE, "before")
    keys = list(memory.backend.keys(BLOBS))
    memory.backend.put(condemned_key(new_ulid()), [encode_condemned(keys, unneeded=False)], create=True)
    root.ingest_bytes(ONE, "after")
    memory.backend.delete(keys)
    assert {parse_blob_key(key)[0].algorithm for key in memory.backend.keys(BLOBS)} == {"blake3", "sha256"}
