"""What a ranged reader refuses, seen one answer at a time."""

from __future__ import annotations

import pytest

from cas.errors import SourceError, SourceUnavailable
from cas.sources import source
from cas.streaming.http import HttpRemote
from cas.streaming.patience import Patience
from tests.support import hub_faults as faults
from tests.support.hub_faults import on_bodies


def test_another_etag_at_the_same_address_is_another_file(hub, entry):
    hub.fault = on_bodies(faults.changing_etag())
    remote = source("hf").open(entry.origin, entry.digest, entry.size)
    remote.open_range(0, 10).close()
    with pytest.raises(SourceUnavailable, match="its ETag changed"):
        remote.open_range(10, 20)
    remote.open_range(10, 20).close()  # asked for at its origin again


@pytest.mark.parametrize(
    "target", ["https://10.0.0.1/x", "https://127.0.0.1/x", "https://[::1]/x", "http://1.1.1.1/x"]
)
def test_the_internet_does_not_redirect_into_a_private_network_or_out_of_encryption(target):
    remote = HttpRemote("https://1.1.1.1/file", name="file", size=5)
    with pytest.raises(SourceError, match="refused"):
        remote._check_target(target)
    remote._check_target("https://8.8.8.8/x")


def test_a_first_failure_waits_as_long_as_it_was_asked_to_and_no_longer():
    waits: list[float] = []
    failures = iter([SourceUnavailable("busy", retry_after=7), SourceUnavailable("cut")])

    def action() -> None:
        if error := next(failures, None):
            patience.progress()
            raise error

    patience = Patience()
    patience.persist(action, waits.append)
    assert waits == [7, 0]
