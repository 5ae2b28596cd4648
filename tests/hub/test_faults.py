"""Each fault does what its name says, as seen by a client that hides nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.hub.conftest import MODEL, WEIGHTS
from tests.support import hub_faults as faults
from tests.support.hub import LoopbackHub, cut
from tests.support.hub_faults import Counted, on_bodies

RANGE = {"Range": "bytes=1000-1999"}


class Got(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


def get(hub: LoopbackHub, headers: Mapping[str, str] | None = None) -> Got:
    """The weights, straight from the CDN."""
    sha256 = next(iter(hub._on_cdn))
    connection = HTTPConnection("localhost", hub.port, timeout=10)
    try:
        connection.request("GET", f"/cdn/{sha256}", headers=dict(headers or {}))
        response = connection.getresponse()
        return Got(response.status, response.headers, response.read())
    finally:
        connection.close()


@pytest.fixture
def content(files: Path) -> bytes:
    return (files / WEIGHTS).read_bytes()


def test_without_a_fault_the_range_is_sent(hub: LoopbackHub, content: bytes) -> None:
    got = get(hub, RANGE)
    assert (got.status, got.headers["Content-Range"]) == (206, f"bytes 1000-1999/{len(content)}")
    assert got.body == content[1000:2000]


def test_cut_ends_the_body_early(hub: LoopbackHub, content: bytes) -> None:
    hub.fault = on_bodies(cut(400))
    with pytest.raises(IncompleteRead) as caught:
        get(hub, RANGE)
    assert caught.value.partial == content[1000:1400]


@pytest.mark.parametrize("headers", [{}, RANGE])
def test_flipped_bit_is_one_bit_at_that_offset_of_the_file(
    hub: LoopbackHub, content: bytes, headers: Mapping[str, str]
) -> None:
    hub.fault = on_bodies(faults.flipped_bit(1500))
    start, body = (1000, get(hub, headers).body) if headers else (0, get(hub).body)
    wrong = [i for i, byte in enumerate(body, start) if byte != content[i]]
    assert wrong == [1500]
    assert (body[1500 - start] ^ content[1500]).bit_count() == 1


def test_flipped_bit_leaves_other_ranges_alone(hub: LoopbackHub, content: bytes) -> None:
    hub.fault = on_bodies(faults.flipped_bit(2000))
    assert get(hub, RANGE).body == content[1000:2000]


def test_other_bytes_are_as_many(hub: LoopbackHub, content: bytes) -> None:
    hub.fault = on_bodies(faults.other_bytes)
    assert get(hub).body == bytes(len(content))


def test_truncated_has_a_content_length_that_agrees(hub: LoopbackHub, content: bytes) -> None:
    hub.fault = on_bodies(faults.truncated)
    assert get(hub).body == content[: len(content) // 2]


def test_ranges_ignored_sends_the_whole_file(hub: LoopbackHub, content: bytes) -> None:
    hub.fault = on_bodies(faults.ranges_ignored)
    got = get(hub, RANGE)
    assert (got.status, got.body) == (200, content)


def test_shifted_starts_a_byte_early_and_says_so(hub: LoopbackHub, content: bytes) -> None:
    hub.fault = on_bodies(faults.shifted)
    got = get(hub, RANGE)
    assert got.headers["Content-Range"].startswith("bytes 999-1998/")
    assert got.body == content[999:1999]


def test_longer_lies_about_the_total_only(hub: LoopbackHub, content: bytes) -> None:
    hub.fault = on_bodies(faults.longer)
    got = get(hub, RANGE)
    assert got.headers["Content-Range"] == "bytes 1000-1999/999999999999"
    assert got.body == content[1000:2000]


def test_compressed_only_claims_to_be(hub: LoopbackHub, content: bytes) -> None:
    hub.fault = on_bodies(faults.compressed)
    got = get(hub, RANGE)
    assert (got.headers["Content-Encoding"], got.body) == ("gzip", content[1000:2000])


def test_changing_etag_is_another_each_time(hub: LoopbackHub) -> None:
    hub.fault = on_bodies(faults.changing_etag())
    assert get(hub, RANGE).headers["ETag"] != get(hub, RANGE).headers["ETag"]


def test_status_refuses_with_headers(hub: LoopbackHub) -> None:
    hub.fault = on_bodies(faults.status(429, {"Retry-After": "7"}))
    got = get(hub)
    assert (got.status, got.headers["Retry-After"]) == (429, "7")


def test_a_stall_does_not_hold_up_the_end_of_the_hub(hub: LoopbackHub) -> None:
    hub.fault = on_bodies(faults.stalled(100, seconds=60))
    connection = HTTPConnection("localhost", hub.port, timeout=10)
    connection.request("GET", f"/cdn/{next(iter(hub._on_cdn))}")
    assert len(connection.getresponse().read(100)) == 100
    start = time.monotonic()
    hub.down()
    assert time.monotonic() - start < 5
    connection.close()
    hub.up()


def test_throttled_takes_its_time(hub: LoopbackHub, content: bytes) -> None:
    hub.fault = on_bodies(faults.throttled(len(content) * 4))
    start = time.monotonic()
    assert get(hub).body == content
    assert time.monotonic() - start > 0.2


def test_first_times_of_each_so_many(hub: LoopbackHub) -> None:
    hub.fault = on_bodies(faults.status(503), times=2, every=2)
    assert [get(hub, RANGE).status for _ in range(6)] == [503, 206, 503, 206, 206, 206]


def test_faults_of_bodies_spare_the_hub(hub: LoopbackHub) -> None:
    hub.fault = on_bodies(faults.status(503))
    connection = HTTPConnection("127.0.0.1", hub.port, timeout=10)
    connection.request("GET", f"/api/models/{MODEL}")
    assert connection.getresponse().status == 200
    connection.close()


def test_counted_counts_what_is_sent_through_another_fault(hub: LoopbackHub) -> None:
    counted = hub.fault = Counted(on_bodies(cut(400), times=1))
    with pytest.raises(IncompleteRead):
        get(hub, RANGE)
    get(hub, RANGE)
    assert counted.bytes == 400 + 1000
