"""What a server or the network can do to a download: it is survived or refused, never believed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import pytest

from cas import Store
from cas.errors import OriginChanged, OriginGone, SourceError, SourceUnavailable
from cas.manifest import Entry
from tests.support import hub_faults as faults
from tests.support.hub import Fault, LoopbackHub, Request, cut, wrong_bytes
from tests.support.hub_faults import Counted, on_bodies

from .conftest import SIZE, fetch, held

LARGE = 1 << 20


def nothing_is_left(store: Store) -> bool:
    """No blob, no alias, and no unfinished download that would be believed."""
    downloads = Path(store.name) / "tmp" / "downloads"
    return not list(store.blobs.listing()) and not any(downloads.glob("*/data"))


def survives(hub: LoopbackHub, store: Store, entry: Entry, weights: Path) -> int:
    """Fetches, compares, and returns how many bytes were sent for it."""
    counted = hub.fault if isinstance(hub.fault, Counted) else Counted(hub.fault)
    hub.fault = counted
    fetch(store, entry)
    assert held(store, entry) == (weights / entry.path).read_bytes()
    return counted.bytes


def test_a_fair_server_is_asked_for_each_byte_once(hub, store, entry, weights):
    assert survives(hub, store, entry, weights) == SIZE


@pytest.mark.parametrize("after", [0, 1, 131_071, 131_072, 3_000_000])
def test_a_cut_connection_goes_on_where_it_was_cut(hub, store, entry, weights, after):
    hub.fault = on_bodies(cut(after), times=3)
    # What was cut was not sent; nothing that was received is asked for again.
    assert survives(hub, store, entry, weights) <= SIZE + 3 * 300_000


@pytest.mark.parametrize("code", [429, 500, 502, 503])
def test_a_refusal_that_may_pass_is_tried_again(hub, store, entry, weights, code):
    hub.fault = on_bodies(faults.status(code), times=4)
    survives(hub, store, entry, weights)


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_server_that_asks_to_be_left_alone_is_left_alone(hub, store, entry, weights, form):
    asked = "2" if form == "seconds" else formatdate(time.time() + 3, usegmt=True)
    refused: list[float] = []

    def refuse(request: Request, answer: Callable) -> object:
        refused.append(time.monotonic())
        return faults.status(429, {"Retry-After": asked})(request, answer)

    hub.fault = on_bodies(refuse, times=2)
    start = time.monotonic()
    survives(hub, store, entry, weights)
    assert refused
    assert time.monotonic() - start >= 1.5


def test_a_server_that_asks_for_an_hour_gets_an_error_instead(hub, store, entry):
    hub.fault = on_bodies(faults.status(429, {"Retry-After": "3600"}))
    with pytest.raises(SourceUnavailable, match="429"):
        fetch(store, entry)


def test_a_stalled_connection_is_noticed_and_replaced(hub, store, entry, weights):
    hub.fault = on_bodies(faults.stalled(200_000, seconds=4), times=2)
    survives(hub, store, entry, weights)


def test_a_trickling_connection_is_noticed_and_replaced(hub, store, entry, weights, monkeypatch):
    monkeypatch.setattr("cas.streaming.http.TRICKLE_SECONDS", 0.5)
    hub.fault = on_bodies(faults.throttled(20_000), times=2)
    survives(hub, store, entry, weights)


def test_a_server_that_is_away_for_a_while_is_waited_for(hub, store, entry, weights):
    hub.down()
    timer = threading.Timer(1.0, hub.up)
    timer.start()
    try:
        survives(hub, store, entry, weights)
    finally:
        timer.join()


def test_a_server_that_stays_away_ends_in_an_error_that_names_file_and_reason(hub, store, entry):
    hub.down()
    with pytest.raises(SourceUnavailable, match=r"hf://models/acme/weights@\w{40}/model.safetensors: .*refused"):
        fetch(store, entry, patience=0.5)
    assert not list(store.blobs.listing())


def test_patience_counts_from_the_last_progress_not_from_the_start(hub, store, entry, weights):
    def fault(request: Request) -> Fault | None:
        # Every second connection is cut early: many more failures than any fixed number of tries would allow.
        return cut(150_000) if request.on_cdn and len(hub.log) % 2 else None

    hub.fault = fault
    fetch(store, entry, patience=2)
    assert held(store, entry) == (weights / entry.path).read_bytes()


def test_a_server_that_ignores_ranges_is_read_from_the_start(hub, store, entry, weights):
    hub.fault = on_bodies(faults.ranges_ignored)
    survives(hub, store, entry, weights)


def test_an_expired_signature_is_renewed_at_the_origin(hub, store, entry, weights):
    hub.fault = on_bodies(faults.status(403), every=3)
    survives(hub, store, entry, weights)
    assert len([each for each in hub.log if "/resolve/" in each.path]) > 1


def test_an_etag_that_changes_once_is_looked_into(hub, store, entry, weights):
    hub.fault = on_bodies(faults.changing_etag(), times=1)
    survives(hub, store, entry, weights)


def test_an_etag_that_always_changes_is_refused_or_verified_but_never_mixed(hub, store, entry, weights):
    hub.fault = on_bodies(faults.changing_etag())
    try:
        fetch(store, entry, patience=1)
    except SourceUnavailable:
        assert not list(store.blobs.listing())
    else:
        assert held(store, entry) == (weights / entry.path).read_bytes()


def test_another_range_than_was_asked_for_is_not_taken(hub, store, entry, weights):
    hub.fault = on_bodies(faults.shifted, times=3)
    survives(hub, store, entry, weights)


def test_an_unasked_for_encoding_is_not_taken(hub, store, entry, weights):
    hub.fault = on_bodies(faults.compressed, times=2)
    survives(hub, store, entry, weights)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (faults.flipped_bit(0), "expected sha256:.*found sha256:"),
        (faults.flipped_bit(SIZE - 1), "expected sha256:.*found sha256:"),
        (faults.flipped_bit(SIZE // 2), "expected sha256:.*found sha256:"),
        (faults.other_bytes, "expected sha256:.*found sha256:"),
        (wrong_bytes, "expected sha256:.*found sha256:"),
        (faults.longer, "999999999999.*promised"),
    ],
    ids=["first bit", "last bit", "middle bit", "same size", "every bit", "lies about the length"],
)
def test_other_bytes_than_promised_are_never_published(hub, store, entry, fault, said):
    hub.fault = on_bodies(fault)
    with pytest.raises(OriginChanged, match=f"(?s)acme/weights@.*model.safetensors.*{said}"):
        fetch(store, entry)
    assert nothing_is_left(store)


def test_a_truncated_body_is_never_published(hub, store, entry):
    hub.fault = on_bodies(faults.truncated)
    with pytest.raises(SourceError):
        fetch(store, entry, patience=1)
    assert not list(store.blobs.listing())


def test_after_wrong_bytes_a_server_that_was_mended_is_asked_anew(hub, store, entry, weights):
    hub.fault = on_bodies(faults.flipped_bit(SIZE // 2))
    with pytest.raises(OriginChanged):
        fetch(store, entry)
    hub.fault = None
    assert survives(hub, store, entry, weights) == SIZE


def test_a_vanished_file_is_an_error_at_once(hub, store, entry):
    hub.fault = lambda request: None if request.on_cdn else faults.status(404, {"X-Error-Code": "EntryNotFound"})
    with pytest.raises(OriginGone, match="no such file"):
        fetch(store, entry)


def test_a_redirect_that_promises_another_file_is_refused_before_a_byte_is_read(hub, store, entry):
    other = Entry(entry.path, entry.size, type(entry.digest)("sha256", "0" * 64), entry.origin)
    with pytest.raises(OriginChanged, match="0000 was promised"):
        fetch(store, other)
    assert not [request for request in hub.log if request.on_cdn]


def test_a_listing_that_changed_is_refused(hub, store, entry):
    hub.tamper("acme/weights", entry.path, bytes(SIZE))
    with pytest.raises(
        OriginChanged, match=rf"acme/weights@.*model.safetensors is \w{{64}} now; {entry.digest.hex} was promised"
    ):
        fetch(store, entry)
    assert nothing_is_left(store)


def test_a_redirect_loop_ends(hub, store, entry):
    loop = faults.status(302, {"Location": "/acme/weights/again"})
    hub.fault = lambda request: None if request.on_cdn else loop
    with pytest.raises(SourceError, match="redirected more than"):
        fetch(store, entry, patience=0.5)


def test_a_redirect_to_something_that_is_no_web_address_is_refused(hub, store, entry):
    hub.fault = lambda request: faults.status(302, {"Location": "file:///etc/passwd"})
    with pytest.raises(SourceError, match="no web address"):
        fetch(store, entry)


def test_the_token_goes_to_the_hub_and_to_no_other_host(hub, store, entry, weights, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_secret")
    survives(hub, store, entry, weights)
    with_token = {request.on_cdn for request in hub.log if "hf_secret" in str(request.headers)}
    assert with_token == {False}


def test_no_error_quotes_a_signature_or_a_token(hub, store, entry, monkeypatch, caplog):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_secret")
    caplog.set_level("DEBUG", logger="cas")
    hub.fault = on_bodies(faults.status(403))
    with pytest.raises(SourceUnavailable) as raised:
        fetch(store, entry, patience=0.5)
    said = str(raised.value) + caplog.text
    assert "hf_secret" not in said
    assert "Signature" not in said


def test_nothing_that_is_stored_holds_a_signature_or_a_token(hub, store, entry, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_secret")
    root = store.artifact_root("models/m/artifacts")
    with root.log_call() as writer:
        writer.put_known(entry.path, entry.digest, entry.size, entry.origin)
        writer.commit()
    fetch(store, entry)
    root.checkout("", tmp_path / "out")
    small = [each for each in tmp_path.rglob("*") if each.is_file() and each.stat().st_size < 1 << 20]
    assert any(each.suffix == ".fragment" for each in small)
    for each in small:
        assert not any(secret in each.read_bytes() for secret in (b"hf_secret", b"Signature"))
