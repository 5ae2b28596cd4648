"""The store on the backends of this package, held to the suite that ships with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cas import Store
from cas.backends import LocalBackend, MemoryBackend
from cas.testing import CollectionContract, StoreContract
from cas.testing.fixtures import StoreFixtures


class Local(StoreFixtures):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return Store.create(tmp_path / "store")

    @pytest.fixture
    def aliasing_store(self, tmp_path: Path) -> Store:
        return Store.create(tmp_path / "aliasing", aliases=("sha256",))

    def again(self, store: Store) -> Store:
        assert isinstance(store.backend, LocalBackend)
        return Store.open(store.backend.root)


class TestLocalStore(Local, StoreContract):
    pass


class TestLocalCollection(Local, CollectionContract):
    pass


class InMemory(StoreFixtures):
    @pytest.fixture
    def store(self) -> Store:
        return Store.create(MemoryBackend())

    @pytest.fixture
    def aliasing_store(self) -> Store:
        return Store.create(MemoryBackend(), aliases=("sha256",))


class TestMemoryStore(InMemory, StoreContract):
    pass


class TestMemoryCollection(InMemory, CollectionContract):
    pass
