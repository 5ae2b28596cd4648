"""Mirroring into buckets, out of them, and between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cas import ArtifactRoot, Store
from cas.errors import StoreUnavailable
from cas.fetch import How
from cas.mirror import mirror
from cas.testing.fixtures import contents
from cas.verify import verify
from tests.support.s3_faults import Exchange, FaultProxy
from tests.support.s3_fixtures import new_store
from tests.support.s3_server import S3Server

from .conftest import MB, PLACE


@pytest.fixture
def root(store: Store, large: Path) -> ArtifactRoot:
    root = store.artifact_root(PLACE)
    root.ingest_file(large, "model/weights")
    root.ingest_bytes(b"w" * 3 * MB, "model/more")
    root.ingest_bytes(b"small", "model/config")
    return root


@pytest.fixture
def target(s3: S3Server, store: Store, bucket: str) -> Store:
    return new_store(f"cas-s3://{s3.make_bucket(f'{bucket}-to')}/copy")


def passed(proxy: FaultProxy) -> int:
    return sum(len(each.body) + len(each.answer) for each in proxy.log)


def moved(source: Store, target: Store) -> dict[How, int]:
    report = mirror(source, target)
    assert not report.failed
    return {how: count for how, count in report.fetched.bytes.items() if count}


def test_between_buckets_of_one_endpoint_the_server_copies(
    root: ArtifactRoot, target: Store, large: Path, proxy: FaultProxy
) -> None:
    proxy.log.clear()
    assert moved(root.store, target) == {How.COPIED_THERE: large.stat().st_size + 3 * MB}
    assert passed(proxy) < MB // 8
    assert contents(target.artifact_root(PLACE)) == contents(root)
    assert verify(target).problems == []


def test_a_second_time_nothing_moves(root: ArtifactRoot, target: Store, proxy: FaultProxy) -> None:
    mirror(root.store, target)
    proxy.log.clear()
    assert moved(root.store, target) == {}
    assert [each for each in proxy.log if each.method in ("PUT", "POST", "DELETE")] == []


def test_a_store_that_needs_another_digest_of_the_bytes_has_them_read(
    s3: S3Server, root: ArtifactRoot, bucket: str, large: Path
) -> None:
    target = new_store(f"cas-s3://{s3.make_bucket(f'{bucket}-256')}", aliases=("sha256",))
    assert moved(root.store, target) == {How.STREAMED: large.stat().st_size + 3 * MB}
    assert len(list(target.backend.keys("blobs/sha256/"))) == 2


def test_a_digest_that_is_recorded_needs_no_reading(s3: S3Server, store: Store, bucket: str, large: Path) -> None:
    sources = [new_store(f"cas-s3://{s3.make_bucket(f'{bucket}-{n}')}", aliases=("sha256",)) for n in "ab"]
    sources[0].artifact_root(PLACE).ingest_file(large, "weights")
    assert moved(*sources) == {How.COPIED_THERE: large.stat().st_size}
    aliases = [sorted(key.rpartition("/")[0] for key in each.backend.keys("blobs/sha256/")) for each in sources]
    assert aliases[0] == aliases[1]


def test_from_a_disk_and_back(
    root: ArtifactRoot, target: Store, tmp_path: Path, large: Path, proxy: FaultProxy
) -> None:
    disk, again = Store.create(tmp_path / "disk"), Store.create(tmp_path / "again")
    size = large.stat().st_size + 3 * MB
    assert moved(root.store, disk) == {How.STREAMED: size}
    assert moved(disk, target) == {How.COPIED: size}
    assert moved(target, again) == {How.STREAMED: size}
    assert contents(again.artifact_root(PLACE)) == contents(root)


def test_what_fails_leaves_nothing_visible_and_the_next_attempt_goes_on(
    root: ArtifactRoot, target: Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAS_PATIENCE", "0")

    def refuse(exchange: Exchange) -> None:
        if exchange.method == "PUT" and "/manifests/" in exchange.path:
            exchange.refuse(500, "InternalError")

    proxy.before = refuse
    failing = Store.open(target.name)
    report = mirror(root.store, failing)
    assert [each.root for each in report.failed] == [PLACE]
    assert "InternalError" in report.failed[0].reason
    assert len(target.artifact_root(PLACE).manifest()) == 0
    proxy.before = None
    assert How.COPIED_THERE not in moved(root.store, target)
    assert contents(target.artifact_root(PLACE)) == contents(root)


def test_a_source_that_does_not_answer_is_reported(
    root: ArtifactRoot, tmp_path: Path, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAS_PATIENCE", "1")
    source = Store.open(root.store.name)
    proxy.before = lambda exchange: exchange.refuse(503, "SlowDown")
    with pytest.raises(StoreUnavailable, match="SlowDown"):
        mirror(source, Store.create(tmp_path / "disk"))
