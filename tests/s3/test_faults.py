"""Whatever goes wrong between a store and its bucket: it ends right, or fails clearly, and nothing wrong shows."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cas import Store
from cas.errors import (
    BlobDamaged,
    CasError,
    KeyNotFound,
    SourceUnavailable,
    StoreExists,
    StoreRefused,
    StoreUnavailable,
)
from cas.verify import verify
from tests.support.s3_faults import Exchange, FaultProxy, Times, flipped

from .conftest import PLACE


def slow_down(exchange: Exchange) -> None:
    exchange.refuse(503, "SlowDown")


def internal_error(exchange: Exchange) -> None:
    exchange.refuse(500, "InternalError")


def cut(exchange: Exchange) -> None:
    exchange.send = 0


def lost_answer(exchange: Exchange) -> None:
    exchange.send = 0


def cut_midway(exchange: Exchange) -> None:
    exchange.send = len(exchange.answer) // 2


def slow(exchange: Exchange) -> None:
    exchange.rate = 20 << 20


def flip_answer(exchange: Exchange) -> None:
    exchange.answer = flipped(exchange.answer)


def flip_request(exchange: Exchange) -> None:
    exchange.body = flipped(exchange.body)


def is_upload(exchange: Exchange) -> bool:
    return exchange.is_upload and "/blobs/" in exchange.path


def is_download(exchange: Exchange) -> bool:
    return exchange.is_download


def is_any(exchange: Exchange) -> bool:
    return True


@pytest.mark.parametrize("fault", [slow_down, internal_error, cut])
def test_an_upload_survives(store: Store, proxy: FaultProxy, large: Path, fault) -> None:
    proxy.before = Times(2, fault, is_upload)
    store.artifact_root(PLACE).ingest_file(large, "large")
    proxy.before = None
    assert verify(store).problems == []
    assert store.artifact_root(PLACE).entry("large").size == large.stat().st_size


@pytest.mark.parametrize("fault", [slow_down, internal_error, cut])
def test_every_third_request_may_fail(store: Store, proxy: FaultProxy, large: Path, tmp_path: Path, fault) -> None:
    counted = iter(range(10**9))
    proxy.before = lambda exchange: fault(exchange) if next(counted) % 3 == 2 else None
    root = store.artifact_root(PLACE)
    root.ingest_files({"large": large, "small": Path(__file__)})
    root.checkout("", tmp_path / "out")
    proxy.before = None
    assert (tmp_path / "out/large").read_bytes() == large.read_bytes()
    assert verify(store).problems == []


def test_a_put_whose_answer_is_lost_counts_once(store: Store, proxy: FaultProxy, tmp_path: Path) -> None:
    """The commit is tried again, and finds itself."""
    proxy.after = Times(1, lost_answer, lambda each: each.method == "PUT" and "/manifests/" in each.path)
    root = store.artifact_root(PLACE)
    root.ingest_bytes(b"said once", "file")
    with root.open("file") as file:
        assert file.read() == b"said once"
    assert len(list(store.backend.keys("manifests/"))) == 1


def test_a_store_whose_making_was_not_answered_is_made(uri: str, client: str, proxy: FaultProxy) -> None:
    proxy.after = Times(1, lost_answer, lambda each: each.method == "PUT" and each.path.endswith("/cas.json"))
    store = Store.create(uri)
    assert Store.open(uri).settings == store.settings
    with pytest.raises(StoreExists):
        Store.create(uri)


def test_a_bit_that_falls_over_on_the_way_up_is_not_believed(store: Store, proxy: FaultProxy, large: Path) -> None:
    """The signature covers every byte: the server refuses the part."""
    proxy.before = Times(10**6, flip_request, is_upload)
    with pytest.raises(CasError):
        store.artifact_root(PLACE).ingest_file(large, "large")
    proxy.before = None
    assert list(store.blobs.listing()) == []
    assert len(store.artifact_root(PLACE).manifest()) == 0


@pytest.mark.parametrize("fault", [slow_down, internal_error, cut_midway, slow])
def test_a_download_survives(store: Store, proxy: FaultProxy, large: Path, tmp_path: Path, fault) -> None:
    root = store.artifact_root(PLACE)
    root.ingest_file(large, "large")
    times = Times(3, fault, is_download)
    if fault in (slow_down, internal_error):
        proxy.before = times
    else:
        proxy.after = times
    root.checkout("", tmp_path / "out")
    assert (tmp_path / "out/large").read_bytes() == large.read_bytes()


def test_a_stalled_download_goes_on_elsewhere(store: Store, proxy: FaultProxy, large: Path, tmp_path: Path) -> None:
    root = store.artifact_root(PLACE)
    root.ingest_file(large, "large")

    def stall(exchange: Exchange) -> None:
        exchange.stall = 25

    proxy.after = Times(1, stall, is_download)
    start = time.monotonic()
    root.checkout("", tmp_path / "out")
    assert (tmp_path / "out/large").read_bytes() == large.read_bytes()
    assert time.monotonic() - start < 24  # it did not wait for the end of the silence


def test_one_bit_that_falls_over_on_the_way_down_is_fetched_again(
    store: Store, proxy: FaultProxy, large: Path, tmp_path: Path
) -> None:
    root = store.artifact_root(PLACE)
    root.ingest_file(large, "large")
    proxy.after = Times(1, flip_answer, is_download)
    root.checkout("", tmp_path / "out")
    assert (tmp_path / "out/large").read_bytes() == large.read_bytes()


def test_bits_that_always_fall_over_are_never_served(
    store: Store, proxy: FaultProxy, large: Path, tmp_path: Path
) -> None:
    root = store.artifact_root(PLACE)
    root.ingest_file(large, "large")
    proxy.after = Times(10**6, flip_answer, is_download)
    with pytest.raises(BlobDamaged, match="damaged"):
        root.checkout("", tmp_path / "out")
    assert not (tmp_path / "out/large").exists()
    assert store.cache.find(root.entry("large")) is None


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((403, "AccessDenied"), "permission"),
        ((400, "ExpiredToken"), "expired"),
        ((403, "RequestTimeTooSkewed"), "clock"),
        ((403, "InvalidAccessKeyId"), "credentials"),
        ((404, "NoSuchBucket"), "bucket"),
    ],
)
def test_a_refusal_says_what_to_do(
    store: Store, proxy: FaultProxy, large: Path, answer: tuple[int, str], says: str
) -> None:
    proxy.before = lambda exchange: exchange.refuse(*answer)
    with pytest.raises(StoreRefused, match=says) as caught:
        store.artifact_root(PLACE).ingest_file(large, "large")
    assert answer[1] in str(caught.value)


def test_what_lasts_too_long_is_given_up(
    uri: str, client: str, proxy: FaultProxy, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAS_PATIENCE", "1")
    store = Store.create(uri)
    proxy.log.clear()
    proxy.before = slow_down
    with pytest.raises((StoreUnavailable, SourceUnavailable)):
        store.artifact_root(PLACE).ingest_file(large, "large")
    assert len(proxy.log) < 12  # one request, tried for a second
    proxy.before = None
    assert list(store.backend.keys("manifests/")) == []


def test_errors_show_no_secret(store: Store, proxy: FaultProxy, large: Path, tmp_path: Path) -> None:
    root = store.artifact_root(PLACE)
    root.ingest_file(large, "large")
    seen = [repr(store), repr(store.backend), store.uri]
    for refuse in (lambda e: e.refuse(403, "SignatureDoesNotMatch"), lambda e: e.refuse(404, "NoSuchKey")):
        proxy.before = refuse
        for call in (lambda: root.checkout("", tmp_path / "out"), lambda: root.ingest_file(large, "again")):
            with pytest.raises((CasError, KeyNotFound)) as caught:
                call()
            error: BaseException | None = caught.value
            while error is not None:
                seen.append(f"{error!r} {error}")
                error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    text = "\n".join(seen)
    for secret in ("testkey", "testsecret", "X-Amz-Signature", "Signature="):
        assert secret not in text
