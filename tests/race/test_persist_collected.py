"""Persisting beside others who log, remove and collect the very same bytes."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from cas import ArtifactRoot, Store, collect
from cas.digest import Digest
from cas.fetch import Fetcher, FetchReport
from cas.references import persist
from cas.testing.fixtures import contents
from tests.support.origin import METADATA, SCHEME

DATA = b"weights" * 30_000


@pytest.fixture
def reference(root: ArtifactRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArtifactRoot:
    for path, text in METADATA.items():
        (tmp_path / "packages" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "packages" / path).write_text(text)
    (tmp_path / "origin").mkdir()
    (tmp_path / "origin" / "weights").write_bytes(DATA)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.setenv("CAS_TEST_ORIGIN", str(tmp_path / "origin"))
    with root.log_call() as writer:
        known = Digest.parse(f"sha256:{sha256(DATA).hexdigest()}")
        writer.put_known("weights", known, len(DATA), f"{SCHEME}://weights")
        writer.commit()
    return root


def test_it_ends_though_what_is_found_is_collected_again_and_again(
    store: Store, reference: ArtifactRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, collected = Fetcher.fetch, []

    def fetch_beside_others(self: Fetcher, *arguments: Any) -> FetchReport:
        another = store.artifact_root("7/another/artifacts")
        another.ingest_bytes(DATA, "weights")
        another.remove("weights")
        report = fetch(self, *arguments)
        collected.append(collect.execute(store, collect.plan(store, grace=0)).blobs)
        return report

    monkeypatch.setattr(Fetcher, "fetch", fetch_beside_others)
    persist(reference)
    assert collected == [1, 1, 1]
    assert reference.entry("weights").blob is not None
    assert contents(reference) == {"weights": DATA}
