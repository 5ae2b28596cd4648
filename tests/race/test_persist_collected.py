"""Persisting beside others who log, remove and collect the very same bytes."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from cas import ArtifactRoot, Store
from cas.backends import MemoryBackend
from cas.digest import Digest
from cas.references import persist
from cas.testing.fixtures import contents
from tests.support.meanwhile import collected_after_fetching, log_and_remove
from tests.support.origin import SCHEME, install

DATA = b"weights" * 30_000


@pytest.fixture(params=["on a disk", "in a bucket"])
def target(request: pytest.FixtureRequest, store: Store) -> Store:
    return store if request.param == "on a disk" else Store.create(MemoryBackend(), aliases=("sha256",))


@pytest.fixture
def reference(target: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArtifactRoot:
    install(tmp_path / "packages")
    (tmp_path / "origin").mkdir()
    (tmp_path / "origin" / "weights").write_bytes(DATA)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.setenv("CAS_TEST_ORIGIN", str(tmp_path / "origin"))
    root = target.artifact_root("7/" + "a" * 32 + "/artifacts")
    with root.log_call() as writer:
        known = Digest.parse(f"sha256:{sha256(DATA).hexdigest()}")
        writer.put_known("weights", known, len(DATA), f"{SCHEME}://weights")
        writer.commit()
    return root


def test_it_ends_though_what_is_found_is_collected_again_and_again(
    target: Store, reference: ArtifactRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = collected_after_fetching(monkeypatch, target, lambda: log_and_remove(target, DATA))
    persist(reference)
    assert gone == [1, 1, 1]
    assert reference.entry("weights").blob is not None
    assert contents(reference) == {"weights": DATA}
