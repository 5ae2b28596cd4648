"""A local store, used through two objects at once, and one in memory, against a dictionary."""

from __future__ import annotations

import io
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from cas import ArtifactRoot, Store
from cas.backends import MemoryBackend
from cas.collect import execute, plan
from cas.digest import digest_of
from cas.errors import PathConflict, PathNotFound
from cas.keys import INTENTS
from cas.paths import ancestors, relative_to
from cas.verify import verify

ROOT = "7/models/artifacts"
INLINE_LIMIT = 64  # so that little data makes blobs, too

names = st.sampled_from(["a", "b", "é"])
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
places = st.just("") | paths
# Few different bytes of few lengths: they shall meet again, and lie on both sides of the limit.
lengths = st.sampled_from([0, 1, INLINE_LIMIT, INLINE_LIMIT + 1, 5000])
contents = st.builds(lambda byte, length: byte * length, st.sampled_from([b"x", b"y", b"z"]), lengths)
trees = st.dictionaries(st.sampled_from(["f", "g", "d/f", "d/g", "d/e/f"]), contents, max_size=4)
users = st.sampled_from(["one", "two"])  # who use one local store at the same time


class StoreModel(RuleBasedStateMachine):
    """Every step is done to a local store and to one in memory, and must do to both what it does to the model."""

    def __init__(self, parent: Path) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(dir=parent))
        self.local = self.directory / "store"
        Store.create(self.local, inline_limit=INLINE_LIMIT)
        self.memory = Store.create(MemoryBackend(), inline_limit=INLINE_LIMIT)
        self.stores = {"one": Store.open(self.local), "two": Store.open(self.local), "memory": self.memory}
        self.files: dict[str, bytes] = {}
        self.made = 0

    def teardown(self) -> None:
        shutil.rmtree(self.directory)

    @rule(user=users, path=paths, data=contents)
    def ingest_bytes(self, user: str, path: str, data: bytes) -> None:
        self._log(user, {path: data}, lambda root: root.ingest_bytes(data, path))

    @rule(user=users, path=paths, data=contents)
    def ingest_file(self, user: str, path: str, data: bytes) -> None:
        source = self._new_path()
        source.write_bytes(data)
        self._log(user, {path: data}, lambda root: root.ingest_file(source, path))
        self._log(user, {path: data}, lambda root: root.ingest_file(source, path))  # now its digest is remembered

    @rule(user=users, path=paths, data=contents, piece=st.integers(1, 100))
    def ingest_stream(self, user: str, path: str, data: bytes, piece: int) -> None:
        def stream() -> Iterator[bytes]:
            yield from (data[start : start + piece * 100] for start in range(0, len(data), piece * 100))

        self._log(user, {path: data}, lambda root: root.ingest_stream(stream(), path))

    @rule(user=users, path=places, files=trees)
    def ingest_tree(self, user: str, path: str, files: dict[str, bytes]) -> None:
        source = self._new_path()
        source.mkdir()
        for name, data in files.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(data)
        below = {f"{path}/{name}" if path else name: data for name, data in files.items()}
        self._log(user, below, lambda root: root.ingest_tree(source, path))

    @rule(user=users, path=paths, data=contents)
    def a_stream_raises(self, user: str, path: str, data: bytes) -> None:
        def stream() -> Iterator[bytes]:
            yield data
            raise _SourceError

        for root in self._roots(user):
            try:
                root.ingest_stream(stream(), path)
            except PathConflict:
                assert self._conflict([path])
            except _SourceError:
                assert not self._conflict([path])

    @rule(user=users, path=places)
    def remove(self, user: str, path: str) -> None:
        gone = [each for each in self.files if relative_to(each, path) is not None]
        for root in self._roots(user):
            assert root.remove(path) == len(gone)
        for each in gone:
            del self.files[each]

    @rule(user=users)
    def collect(self, user: str) -> None:
        for root in self._roots(user):
            execute(root.store, plan(root.store, grace=0))
            needed = {entry.blob for entry in root.manifest() if entry.blob is not None}
            assert {key for key, _ in root.store.blobs.listing()} == needed

    @rule(user=users)
    def fold(self, user: str) -> None:
        for root in self._roots(user):
            root.fold()
            root.fold()  # a fold leaves what it replaced to the next
            assert len(list(root.store.backend.list("manifests/"))) <= 1

    @rule(user=users)
    def reopen(self, user: str) -> None:
        self.stores[user] = Store.open(self.local)
        self.stores["memory"] = Store.open(self.memory.backend)

    @rule(one=trees, two=trees, fold=st.booleans())
    def log_at_the_same_time(self, one: dict[str, bytes], two: dict[str, bytes], fold: bool) -> None:
        """Below directories of their own, so that neither is in the other's way."""
        together = {f"of one/{name}": data for name, data in one.items()}
        together |= {f"of two/{name}": data for name, data in two.items()}
        work: list[Callable[[], None]] = [
            lambda: _log_one_by_one(self._root("one"), {f"of one/{name}": data for name, data in one.items()}),
            lambda: _log_one_by_one(self._root("two"), {f"of two/{name}": data for name, data in two.items()}),
        ]
        if fold:
            work.append(Store.open(self.local).artifact_root(ROOT).fold)
        conflicts = self._conflict([path for path in together if path.startswith("of one/")])
        assert not conflicts, "nothing else is logged below these"
        _run_together(work)
        _log_one_by_one(self._root("memory"), together)
        self.files |= together

    @rule(directory=places)
    def list_a_directory(self, directory: str) -> None:
        expected = {}
        for path, data in self.files.items():
            below = relative_to(path, directory)
            if below:
                name, slash, _ = below.partition("/")
                expected[f"{directory}/{name}" if directory else name] = None if slash else len(data)
        for root in self._roots("one", "two"):
            listed = [(path, entry and entry.size) for path, entry in root.list(directory)]
            assert listed == sorted(expected.items())

    @rule(path=paths, start=st.integers(0, 6000), length=st.integers(0, 6000))
    def open_and_seek(self, path: str, start: int, length: int) -> None:
        for root in self._roots("one", "two"):
            try:
                with root.open(path) as file:
                    assert file.seek(start) == start
                    assert file.read(length) == self.files[path][start : start + length]
                    assert file.seek(0, io.SEEK_END) == len(self.files[path])
            except PathNotFound:
                assert path not in self.files

    @rule(user=users, path=places, disposable=st.booleans())
    def checkout(self, user: str, path: str, disposable: bool) -> None:
        expected = {each: data for each, data in self.files.items() if relative_to(each, path) is not None}
        for root in self._roots(user):
            target = self._new_path()
            try:
                root.checkout(path, target, disposable=disposable)
            except PathNotFound:
                assert path != ""
                assert expected == {}
                continue
            found = {str(each.relative_to(target)): each for each in target.rglob("*") if each.is_file()}
            assert {name: file.read_bytes() for name, file in found.items()} == expected

    @invariant()
    def everybody_sees_what_the_model_says(self) -> None:
        expected = {path: (len(data), digest_of(data)) for path, data in self.files.items()}
        manifests = [root.manifest() for root in self._roots("one", "two")]
        manifests.append(Store.open(self.local).artifact_root(ROOT).manifest())
        for manifest in manifests:
            assert {entry.path: (entry.size, entry.digest) for entry in manifest} == expected
        assert len({manifest.digest for manifest in manifests}) == 1

    @invariant()
    def every_byte_is_right_and_nothing_is_left_over(self) -> None:
        for store in (self.stores["one"], self.stores["memory"]):
            report = verify(store)
            assert report.problems == []
            assert report.files == len(self.files)
            assert list(store.backend.list(INTENTS)) == []
            assert [each for each in store.scratch.parent.rglob("*") if each.is_file()] == []

    def _root(self, user: str) -> ArtifactRoot:
        return self.stores[user].artifact_root(ROOT)

    def _roots(self, *users: str) -> list[ArtifactRoot]:
        return [self._root(user) for user in (*users, "memory")]

    def _new_path(self) -> Path:
        self.made += 1
        return self.directory / f"user-{self.made}"

    def _log(self, user: str, files: dict[str, bytes], log: Callable[[ArtifactRoot], None]) -> None:
        conflict = self._conflict(list(files))
        for root in self._roots(user):
            try:
                log(root)
            except PathConflict:
                assert conflict
            else:
                assert not conflict
        if not conflict:
            self.files |= files

    def _conflict(self, new: list[str]) -> bool:
        """Whether one of the new paths would be a directory, or lie below a file."""
        directories = {directory for path in self.files for directory in ancestors(path)}
        return any(path in directories or not self.files.keys().isdisjoint(ancestors(path)) for path in new)


class _SourceError(BaseException):
    """What a source of bytes may raise; no Exception, as KeyboardInterrupt is none."""


def _log_one_by_one(root: ArtifactRoot, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        root.ingest_bytes(data, path)


def _run_together(work: list[Callable[[], None]]) -> None:
    errors: list[BaseException] = []

    def run(each: Callable[[], None]) -> None:
        try:
            each()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(each,)) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_stores_agree_with_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where the store in memory keeps unfinished files
    run_state_machine_as_test(
        lambda: StoreModel(tmp_path), settings=settings(deadline=None, max_examples=40, stateful_step_count=20)
    )
