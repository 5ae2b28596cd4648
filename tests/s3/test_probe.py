"""A server that cannot hold a store is found out by `cas init`, which says why."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from cas import Store
from cas.errors import InvalidInput, StoreNotFound
from tests.support.s3_faults import Exchange, FaultProxy
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, S3Server

Spoil = Callable[[Exchange, S3Server], None]


def without_condition(exchange: Exchange) -> None:
    """Take the condition of a put off, and sign what is left, since its headers are signed, too."""
    kept = ("host", "content-length", "content-type")
    headers = {name: value for name, value in exchange.headers.items() if name.lower() in kept}
    host = {name.lower(): value for name, value in headers.items()}["host"]
    request = AWSRequest(exchange.method, f"http://{host}{exchange.path}", headers, exchange.body)
    S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", "us-east-1").add_auth(request)
    exchange.headers = dict(request.headers.items())


def ignores_conditions(exchange: Exchange, server: S3Server) -> None:
    """As servers did before conditional puts came to S3, and many that speak its language still do."""
    without_condition(exchange)


def looks_first(exchange: Exchange, server: S3Server) -> None:
    """As OpenStack Swift does: it looks whether there is such an object, and then puts it."""
    there = _status_of_head(exchange, server) == 200
    time.sleep(0.05)  # a store that is spread over machines takes its time
    if there:
        exchange.refuse(412, "PreconditionFailed")
    else:
        without_condition(exchange)


def _status_of_head(exchange: Exchange, server: S3Server) -> int:
    asking = Exchange("HEAD", exchange.path, {"Host": urlsplit(server.endpoint).netloc}, b"")
    without_condition(asking)
    connection = http.client.HTTPConnection(asking.headers["Host"], timeout=10)
    connection.request("HEAD", asking.path, headers=asking.headers)
    try:
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("liar", [ignores_conditions, looks_first])
def test_a_server_whose_create_only_puts_all_succeed_is_refused(
    s3: S3Server, uri: str, client: str, proxy: FaultProxy, liar: Spoil
) -> None:
    asked = []

    def spoil(exchange: Exchange) -> None:
        if exchange.method == "PUT" and "if-none-match" in {name.lower() for name in exchange.headers}:
            asked.append(exchange)
            liar(exchange, s3)

    proxy.before = spoil
    with pytest.raises(
        InvalidInput, match=r"cannot hold a store: of 8 writers .* create-only puts \(If-None-Match"
    ):
        Store.create(uri)
    assert {each.status for each in asked} <= {200, 412}  # it did not fail for another reason
    assert sum(each.status == 200 for each in asked) > 1
    proxy.before = None
    with pytest.raises(StoreNotFound):
        Store.open(uri)


def test_nothing_of_the_probe_stays(uri: str, client: str, proxy: FaultProxy) -> None:
    assert list(Store.create(uri).backend.keys("tmp/")) == []
