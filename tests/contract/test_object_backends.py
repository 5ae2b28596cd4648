"""Object stores, through both clients, held to the suites that ship with this package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from cas import Store
from cas.backends import Backend
from cas.backends.bucket import Bucket
from cas.backends.fsspec import FsspecBackend
from cas.backends.fsspec import open_bucket as fsspec_bucket
from cas.backends.obstore import ObstoreBackend
from cas.testing import BackendContract, CollectionContract, StoreContract
from cas.testing.fixtures import StoreFixtures
from cas.ulid import new_ulid

OPENERS = {"obstore": ObstoreBackend, "fsspec": fsspec_bucket}


class OnS3(BackendContract):
    client = ""

    @pytest.fixture
    def place(self, bucket: str) -> Bucket:
        return Bucket("s3", bucket, "some/prefix")

    @pytest.fixture
    def backend(self, place: Bucket) -> Backend:
        return OPENERS[self.client](place)

    @pytest.fixture
    def reopened(self, place: Bucket) -> Callable[[], Backend]:
        return lambda: OPENERS[self.client](place)


class TestObstoreOnS3(OnS3):
    client = "obstore"


class TestFsspecOnS3(OnS3):
    client = "fsspec"


class TestFsspecInMemory(BackendContract):
    @pytest.fixture
    def backend(self) -> Backend:
        return FsspecBackend(fsspec.filesystem("memory"), f"/{new_ulid()}")


class StoreOnS3(StoreFixtures):
    client = ""

    @pytest.fixture
    def store(self, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
        monkeypatch.setenv("CAS_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("CAS_CLIENT", self.client)
        return Store.create(f"cas-s3://{bucket}/a/store")

    @pytest.fixture
    def aliasing_store(self, bucket: str, store: Store) -> Store:
        return Store.create(f"cas-s3://{bucket}/aliasing", aliases=("sha256",))

    def again(self, store: Store) -> Store:
        return Store.open(store.uri)


class TestStoreOnS3ThroughObstore(StoreOnS3, StoreContract):
    client = "obstore"


class TestStoreOnS3ThroughFsspec(StoreOnS3, StoreContract):
    client = "fsspec"


class TestCollectionOnS3ThroughObstore(StoreOnS3, CollectionContract):
    client = "obstore"


class TestCollectionOnS3ThroughFsspec(StoreOnS3, CollectionContract):
    client = "fsspec"


class StoreInMemoryThroughFsspec(StoreFixtures):
    @pytest.fixture
    def store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
        monkeypatch.setenv("CAS_CACHE", str(tmp_path / "cache"))
        return Store.create(FsspecBackend(fsspec.filesystem("memory"), f"/{new_ulid()}"))


class TestStoreInMemoryThroughFsspec(StoreInMemoryThroughFsspec, StoreContract):
    pass


class TestCollectionInMemoryThroughFsspec(StoreInMemoryThroughFsspec, CollectionContract):
    pass
