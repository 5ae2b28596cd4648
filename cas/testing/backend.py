"""What every backend must do: the conformance suite for :class:`cas.backends.Backend`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import pytest

from cas.backends import Backend
from cas.errors import KeyExists, KeyNotFound
from cas.keys import fragment_key
from cas.ulid import new_ulid

T = TypeVar("T")

KEY = "condemned/one.json"
OTHER = "condemned/two.json"
MISSING = "condemned/none.json"
DATA = bytes(range(256)) * 4

ODD_ROOTS = (
    "with space",
    " leading and trailing ",
    "hash#question?percent%20plus+",
    "%2e%2e/%2F",
    "quote'\"back`tick",
    ".hidden/..three/-dash/~tilde",
    "c:/con/aux.txt.",
    "composed-\u00e9",
    "decomposed-e\u0301",
    "Case/case",
    "right-to-left-\u202e\u05d0",
    "emoji-\U0001f600",
    "*[a-z]{x,y}$HOME;&|<>",
    "x" * 255,
    "/".join(["deep"] * 40),
)
"""Artifact roots that pass the checks of cas.keys, and that some place or other trips over."""


class BackendContract:
    """Subclass it, name the subclass ``Test…``, and give it the fixture ``backend``: a new, empty backend."""

    @pytest.fixture
    def backend(self) -> Backend:
        raise NotImplementedError("a subclass's fixture returns an empty backend")

    @pytest.fixture
    def reopened(self) -> Callable[[], Backend]:
        """Optional: makes another instance that sees the same objects as ``backend``."""
        pytest.skip("this backend's objects are seen by one instance only")

    def stored(self, backend: Backend) -> dict[str, bytes]:
        """Every object there is. Optional: override it with a back door, so that a backend that lies to its
        readers is found out."""
        prefixes = ("blobs/", "manifests/", "intents/", "condemned/")
        return {key: backend.read(key) for prefix in prefixes for key, _ in backend.list(prefix)}

    # Reading

    def test_what_was_put_is_read(self, backend: Backend) -> None:
        backend.put(KEY, [DATA], create=True)
        assert backend.read(KEY) == DATA
        assert self.stored(backend) == {KEY: DATA}

    def test_parts_are_concatenated(self, backend: Backend) -> None:
        backend.put(KEY, iter([b"one ", b"", b"two ", b"three"]), create=False)
        assert self.stored(backend) == {KEY: b"one two three"}

    @pytest.mark.parametrize("create", [True, False])
    def test_an_object_may_be_empty(self, backend: Backend, *, create: bool) -> None:
        backend.put(KEY, (), create=create)
        assert backend.read(KEY) == b""
        assert backend.read(KEY, 0, 10) == b""
        assert backend.size(KEY) == 0
        assert list(backend.list("condemned/")) == [(KEY, 0)]

    @pytest.mark.parametrize(("start", "length"), [(0, 1), (0, 1024), (1, 1022), (1023, 1), (512, 0), (255, 513)])
    def test_a_range_is_read(self, backend: Backend, start: int, length: int) -> None:
        backend.put(KEY, [DATA], create=True)
        assert backend.read(KEY, start, length) == DATA[start : start + length]

    def test_a_range_without_length_goes_to_the_end(self, backend: Backend) -> None:
        backend.put(KEY, [DATA], create=True)
        assert backend.read(KEY, 1000) == DATA[1000:]

    @pytest.mark.parametrize(
        ("start", "length", "rest"), [(1000, 100, 24), (1024, 1, 0), (1024, None, 0), (5000, 7, 0), (5000, None, 0)]
    )
    def test_a_range_ends_with_the_object(
        self, backend: Backend, start: int, length: int | None, rest: int
    ) -> None:
        backend.put(KEY, [DATA], create=True)
        assert backend.read(KEY, start, length) == DATA[start : start + rest]

    def test_a_buffer_is_filled(self, backend: Backend) -> None:
        backend.put(KEY, [DATA], create=True)
        buffer = bytearray(100)
        assert backend.read_into(KEY, 200, memoryview(buffer)) == 100
        assert buffer == DATA[200:300]

    @pytest.mark.parametrize(("start", "count"), [(1000, 24), (1024, 0), (5000, 0)])
    def test_a_buffer_is_filled_only_to_the_end(self, backend: Backend, start: int, count: int) -> None:
        backend.put(KEY, [DATA], create=True)
        buffer = bytearray(b"." * 100)
        assert backend.read_into(KEY, start, memoryview(buffer)) == count
        assert buffer == DATA[start : start + count] + b"." * (100 - count)

    def test_an_empty_buffer_takes_nothing(self, backend: Backend) -> None:
        backend.put(KEY, [DATA], create=True)
        assert backend.read_into(KEY, 0, memoryview(bytearray())) == 0

    def test_a_large_object_of_many_parts_is_whole(self, backend: Backend) -> None:
        parts = [bytes([number]) * (1 << 20) + b"!" for number in range(9)]
        backend.put(KEY, iter(parts), create=True)
        whole = b"".join(parts)
        assert backend.size(KEY) == len(whole)
        assert backend.read(KEY) == whole
        assert backend.read(KEY, 5 << 20, 3 << 20) == whole[5 << 20 : 8 << 20]
        buffer = bytearray(8 << 20)
        assert backend.read_into(KEY, 1 << 20, memoryview(buffer)) == 8 << 20
        assert buffer == whole[1 << 20 : 9 << 20]

    def test_the_size_is_the_objects(self, backend: Backend) -> None:
        backend.put(KEY, [DATA], create=True)
        assert backend.size(KEY) == len(DATA)

    @pytest.mark.parametrize("key", [MISSING, "condemned", "blobs/blake3/ab", f"{KEY}/below"])
    def test_what_is_not_there_is_not_found(self, backend: Backend, key: str) -> None:
        """Neither is a directory, where there are such, nor anything below an object."""
        backend.put(KEY, [DATA], create=True)
        with pytest.raises(KeyNotFound) as caught:
            backend.read(key)
        assert caught.value.key == key
        with pytest.raises(KeyNotFound):
            backend.read(key, 5, 5)
        with pytest.raises(KeyNotFound):
            backend.read_into(key, 0, memoryview(bytearray(4)))
        with pytest.raises(KeyNotFound):
            backend.size(key)

    # Listing

    def test_a_listing_names_every_object_below_a_prefix_with_its_size(self, backend: Backend) -> None:
        keys = ["manifests/a/1", "manifests/a/b/2", "manifests/a/b/c/3"]
        for size, key in enumerate(keys):
            backend.put(key, [bytes(size)], create=True)
        assert sorted(backend.list("manifests/a/")) == [(key, size) for size, key in enumerate(keys)]
        assert sorted(backend.list("manifests/")) == [(key, size) for size, key in enumerate(keys)]
        assert sorted(backend.list("manifests/a/b/")) == [(keys[1], 1), (keys[2], 2)]
        assert sorted(backend.keys("manifests/")) == sorted(keys)
        assert sorted(backend.keys("manifests/a/b/")) == [keys[1], keys[2]]

    def test_siblings_that_begin_alike_are_not_listed(self, backend: Backend) -> None:
        for key in ("manifests/run/1", "manifests/run2/1", "manifests/run-2/1", "manifests/run.json"):
            backend.put(key, [b"x"], create=True)
        assert list(backend.list("manifests/run/")) == [("manifests/run/1", 1)]

    @pytest.mark.parametrize("prefix", ["manifests/", "condemned/none/", f"{KEY}/"])
    def test_nothing_is_listed_where_nothing_is(self, backend: Backend, prefix: str) -> None:
        backend.put(KEY, [DATA], create=True)
        assert list(backend.list(prefix)) == []
        assert list(backend.keys(prefix)) == []

    def test_a_long_listing_is_complete(self, backend: Backend) -> None:
        keys = {f"intents/{number:05}" for number in range(1500)}
        for key in keys:
            backend.put(key, (), create=False)
        assert {key for key, _ in backend.list("intents/")} == keys

    # Putting

    def test_a_put_replaces(self, backend: Backend) -> None:
        backend.put(KEY, [DATA], create=False)
        backend.put(KEY, [b"new"], create=False)
        assert backend.size(KEY) == 3
        assert self.stored(backend) == {KEY: b"new"}

    def test_a_creating_put_does_not_replace(self, backend: Backend) -> None:
        backend.put(KEY, [DATA], create=False)
        with pytest.raises(KeyExists) as caught:
            backend.put(KEY, [b"new"], create=True)
        assert caught.value.key == KEY
        assert self.stored(backend) == {KEY: DATA}

    def test_the_same_bytes_lose_too(self, backend: Backend) -> None:
        backend.put(KEY, [DATA], create=True)
        with pytest.raises(KeyExists):
            backend.put(KEY, [DATA], create=True)

    @pytest.mark.parametrize("create", [True, False])
    def test_parts_that_raise_store_nothing(self, backend: Backend, *, create: bool) -> None:
        with pytest.raises(_SourceError):
            backend.put(KEY, _failing(), create=create)
        assert self.stored(backend) == {}
        backend.put(KEY, [DATA], create=True)

    def test_parts_that_raise_replace_nothing(self, backend: Backend) -> None:
        backend.put(KEY, [DATA], create=True)
        with pytest.raises(_SourceError):
            backend.put(KEY, _failing(), create=False)
        assert self.stored(backend) == {KEY: DATA}

    @pytest.mark.parametrize("root", ODD_ROOTS)
    def test_odd_keys_are_keys(self, backend: Backend, root: str) -> None:
        key = fragment_key(root, new_ulid())
        backend.put(key, [DATA], create=True)
        assert backend.read(key) == DATA
        assert list(backend.list(f"manifests/{root}/")) == [(key, len(DATA))]
        assert list(backend.list("manifests/")) == [(key, len(DATA))]
        backend.delete([key])
        assert self.stored(backend) == {}

    def test_odd_keys_are_different_keys(self, backend: Backend) -> None:
        intent = new_ulid()
        keys = {fragment_key(root, intent): root.encode() for root in ODD_ROOTS}
        for key, data in keys.items():
            backend.put(key, [data], create=True)
        assert self.stored(backend) == keys

    # Deleting

    def test_what_was_deleted_is_gone(self, backend: Backend) -> None:
        backend.put(KEY, [DATA], create=True)
        backend.put(OTHER, [DATA], create=True)
        backend.delete([KEY])
        assert self.stored(backend) == {OTHER: DATA}
        with pytest.raises(KeyNotFound):
            backend.read(KEY)

    @pytest.mark.parametrize("missing", [MISSING, "manifests/no/such", f"{KEY}/below"])
    def test_deleting_what_is_not_there_is_no_error(self, backend: Backend, missing: str) -> None:
        backend.put(KEY, [DATA], create=True)
        backend.put(OTHER, [DATA], create=True)
        backend.delete([missing, KEY, KEY])
        backend.delete([])
        assert self.stored(backend) == {OTHER: DATA}

    def test_a_deleted_key_can_be_created_again(self, backend: Backend) -> None:
        backend.put(KEY, [DATA], create=True)
        backend.delete([KEY])
        backend.put(KEY, [b"new"], create=True)
        assert self.stored(backend) == {KEY: b"new"}

    # Sharing

    def test_another_instance_sees_what_this_one_does(
        self, backend: Backend, reopened: Callable[[], Backend]
    ) -> None:
        other = reopened()
        backend.put(KEY, [DATA], create=True)
        assert other.read(KEY) == DATA
        assert list(other.list("condemned/")) == [(KEY, len(DATA))]
        with pytest.raises(KeyExists):
            other.put(KEY, [b"new"], create=True)
        other.delete([KEY])
        assert list(backend.list("condemned/")) == []
        with pytest.raises(KeyNotFound):
            backend.read(KEY)

    def test_of_concurrent_creators_exactly_one_wins(self, backend: Backend) -> None:
        for attempt in range(25):
            key = f"condemned/{attempt}"
            outcomes = _at_once(8, partial(_created, backend, key))
            (winner,) = [number for number, won in enumerate(outcomes) if won]
            assert backend.read(key) == bytes([winner]) * 1000

    def test_concurrent_replacers_leave_one_whole_object(self, backend: Backend) -> None:
        candidates = [bytes([65 + number]) * (200_000 + number) for number in range(6)]
        for _ in range(5):
            _at_once(6, lambda number: backend.put(KEY, [candidates[number]], create=False))
            assert backend.read(KEY) in candidates

    def test_a_reader_never_sees_a_part_of_an_object(self, backend: Backend) -> None:
        whole = {bytes([letter]) * 300_000 for letter in b"ABC"}
        backend.put(KEY, [next(iter(whole))], create=True)

        def work(number: int) -> bool:
            if number == 0:
                for _ in range(10):
                    for data in whole:
                        backend.put(
                            KEY, (data[start : start + 50_000] for start in range(0, 300_000, 50_000)), create=False
                        )
                return True
            return all(backend.read(KEY) in whole for _ in range(30))

        assert all(_at_once(3, work))


class _SourceError(BaseException):
    """What a source of bytes may raise; no Exception, as KeyboardInterrupt is none."""


def _failing() -> Iterator[bytes]:
    yield DATA
    raise _SourceError


def _created(backend: Backend, key: str, number: int) -> bool:
    try:
        backend.put(key, [bytes([number]) * 1000], create=True)
    except KeyExists:
        return False
    return True


def _at_once(count: int, work: Callable[[int], T]) -> list[T]:
    """Call ``work`` with 0, 1, … in as many threads, all let go at one moment."""
    barrier = threading.Barrier(count)

    def run(number: int) -> T:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))
