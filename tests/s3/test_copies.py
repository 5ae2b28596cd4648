"""What lies at one endpoint is copied there: no byte of it passes through us."""

from __future__ import annotations

import time

import pytest

from cas.backends import Backend, SupportsCopy, SupportsPartUploads, SupportsTimes, copying
from cas.backends.bucket import Bucket
from cas.backends.memory import MemoryBackend
from cas.backends.opening import open_bucket
from cas.errors import CasError, FileChanged, KeyNotFound
from tests.support.s3_faults import Exchange, FaultProxy, Times
from tests.support.s3_server import S3Server

MB = 1 << 20
DATA = b"".join(bytes([number]) * MB for number in range(12)) + b"the end"


@pytest.fixture
def source(bucket: str, client: str, proxy: FaultProxy) -> Backend:
    backend = open_bucket(Bucket("s3", bucket, "from/here"))
    backend.put("blobs/it", [DATA], create=False)
    return backend


@pytest.fixture
def target(s3: S3Server, source: Backend, bucket: str, client: str, proxy: FaultProxy) -> Backend:
    backend = open_bucket(Bucket("s3", s3.make_bucket(f"{bucket}-to"), "to/there"))
    proxy.log.clear()
    return backend


@pytest.fixture
def by_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if these few bytes were more than 5 GB."""
    monkeypatch.setattr(copying, "WHOLE", 6 * MB)
    monkeypatch.setattr(copying, "PART", 5 * MB)


def is_part_copy(exchange: Exchange) -> bool:
    return exchange.method == "PUT" and "partNumber" in exchange.path


def passed(proxy: FaultProxy) -> int:
    return sum(len(each.body) + len(each.answer) for each in proxy.log)


def unfinished(backend: Backend) -> list[str]:
    assert isinstance(backend, SupportsPartUploads)
    return [each.key for each in backend.unfinished()]


def test_the_server_copies(source: Backend, target: Backend, proxy: FaultProxy) -> None:
    assert isinstance(target, SupportsCopy)
    assert target.copy_from(source, "blobs/it", "blobs/copy", len(DATA))
    assert passed(proxy) < 10_000
    assert target.read("blobs/copy") == DATA


def test_beyond_the_limit_it_goes_by_parts(
    source: Backend, target: Backend, proxy: FaultProxy, by_parts: None
) -> None:
    assert isinstance(target, SupportsCopy)
    assert target.copy_from(source, "blobs/it", "blobs/copy", len(DATA))
    assert sum(map(is_part_copy, proxy.log)) == 3
    assert passed(proxy) < 20_000
    assert target.read("blobs/copy") == DATA
    assert unfinished(target) == []


def test_a_part_that_fails_leaves_no_upload(
    source: Backend, target: Backend, proxy: FaultProxy, by_parts: None
) -> None:
    assert isinstance(target, SupportsCopy)
    proxy.before = Times(1, lambda exchange: exchange.refuse(403, "AccessDenied"), is_part_copy)
    with pytest.raises(CasError, match="permission"):
        target.copy_from(source, "blobs/it", "blobs/copy", len(DATA))
    assert unfinished(target) == []
    assert list(target.keys("blobs/")) == []


def test_passing_failures_are_tried_again(
    source: Backend, target: Backend, proxy: FaultProxy, by_parts: None
) -> None:
    assert isinstance(target, SupportsCopy)
    proxy.before = Times(2, lambda exchange: exchange.refuse(503, "SlowDown"), is_part_copy)
    assert target.copy_from(source, "blobs/it", "blobs/copy", len(DATA))
    assert target.read("blobs/copy") == DATA


@pytest.mark.parametrize("limit", [1 << 40, 6 * MB])
def test_what_was_replaced_meanwhile_is_refused(
    source: Backend, target: Backend, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """By the condition of the request or, where the server ignores that, by a look afterwards."""
    assert isinstance(target, SupportsCopy)
    monkeypatch.setattr(copying, "WHOLE", limit)

    def replace(_: Exchange) -> None:
        source.put("blobs/it", [DATA[::-1]], create=False)

    proxy.before = Times(1, replace, lambda each: "x-amz-copy-source" in {name.lower() for name in each.headers})
    with pytest.raises(FileChanged, match="replaced"):
        target.copy_from(source, "blobs/it", "blobs/copy", len(DATA))
    assert list(target.keys("blobs/")) == []
    assert unfinished(target) == []


def test_another_object_than_was_seen_is_refused(source: Backend, target: Backend) -> None:
    assert isinstance(target, SupportsCopy)
    with pytest.raises(FileChanged):
        target.copy_from(source, "blobs/it", "blobs/copy", len(DATA), etag='"00000000000000000000000000000000"')
    with pytest.raises(FileChanged):
        target.copy_from(source, "blobs/it", "blobs/copy", len(DATA) - 1)
    with pytest.raises(KeyNotFound):
        target.copy_from(source, "blobs/none", "blobs/copy", 1)
    assert list(target.keys("")) == []


def test_elsewhere_it_has_to_be_streamed(
    source: Backend, target: Backend, s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(target, SupportsCopy)
    assert not target.copy_from(MemoryBackend(), "blobs/it", "blobs/copy", 1)
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", s3.endpoint)
    other = open_bucket(Bucket("s3", bucket, "from/here"))
    assert not target.copy_from(other, "blobs/it", "blobs/copy", len(DATA))


def test_unfinished_uploads_are_listed_with_their_age_and_aborted(target: Backend, bucket: str) -> None:
    s3 = target.s3  # type: ignore[attr-defined]  # as crashed writers leave them
    begun = {key: s3.client.create_multipart_upload(**s3.at(key))["UploadId"] for key in ("blobs/a", "tmp/b")}
    s3.client.create_multipart_upload(Bucket=f"{bucket}-to", Key="somebody/elses")
    assert isinstance(target, SupportsPartUploads)
    found = list(target.unfinished())
    assert {each.key: each.upload_id for each in found} == begun
    assert all(abs(each.started - time.time()) < 300 for each in found)
    for each in found:
        target.abort(each.key, each.upload_id)
        target.abort(each.key, each.upload_id)
    assert unfinished(target) == []


def test_objects_are_listed_with_the_time_they_were_stored(source: Backend) -> None:
    assert isinstance(source, SupportsTimes)
    [(key, when)] = source.modified("blobs/")
    assert key == "blobs/it"
    assert abs(when - time.time()) < 300


def test_nothing_shows_a_key(source: Backend) -> None:
    s3 = source.s3  # type: ignore[attr-defined]
    assert "testkey" not in repr(s3) + repr(source)
    assert "testsecret" not in repr(s3) + repr(source)
