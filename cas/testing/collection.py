"""A store in which something is collected."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from cas.artifact_root import ArtifactRoot
from cas.collect import Collected, execute, plan
from cas.condemned import condemned_key, encode_condemned
from cas.keys import BLOBS, CONDEMNED, INTENTS, MANIFESTS, parse_blob_key
from cas.store import Store
from cas.testing.fixtures import LARGE, StoreFixtures
from cas.ulid import new_ulid
from cas.writer import Writer

OTHER = LARGE[::-1]
ELSEWHERE = "7/models/m-2/artifacts"
HOUR, DAY = 3600.0, 24 * 3600.0


class CollectionFixtures(StoreFixtures):
    """Two artifact roots, and writers that are left when the test ends."""

    @pytest.fixture
    def stack(self) -> Iterator[ExitStack]:
        with ExitStack() as stack:
            yield stack

    @pytest.fixture
    def other(self, store: Store) -> ArtifactRoot:
        return self.again(store).artifact_root(ELSEWHERE)


def collected(store: Store, *, grace: float = 0, after: float = 0) -> Collected:
    """Collect as if so many seconds had passed."""
    return execute(store, plan(store, grace=grace, now=time.time() + after))


def keys(store: Store, prefix: str = "") -> list[str]:
    """The keys below a prefix, or every key of records and blobs."""
    prefixes = [prefix] if prefix else [BLOBS, MANIFESTS, INTENTS, CONDEMNED]
    return sorted(key for each in prefixes for key in store.backend.keys(each))


def sizes(store: Store) -> list[int]:
    """Of all blobs."""
    return sorted(size for key, size in store.backend.list(BLOBS) if parse_blob_key(key)[2] is None)


def holding(stack: ExitStack, root: ArtifactRoot, path: str, data: bytes) -> Writer:
    """A writer that has its blobs and has not committed; it leaves when the stack is closed."""
    writer = stack.enter_context(root.log_call([path]))
    writer.put_bytes(path, data)
    writer.hold()
    return writer


def condemn(store: Store, blobs: list[str]) -> None:
    """As a collector does that found them unneeded some time ago."""
    store.backend.put(condemned_key(new_ulid()), [encode_condemned(blobs, unneeded=False)], create=True)
