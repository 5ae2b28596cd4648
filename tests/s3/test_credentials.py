"""Credentials that end while something is under way: renewed ones are used, and without them it fails clearly."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cas import Store
from cas.backends import Backend, SupportsCopy, copying
from cas.backends.bucket import Bucket
from cas.backends.opening import open_bucket
from cas.backends.s3 import S3
from cas.errors import StoreRefused
from cas.verify import verify
from tests.support.s3_faults import Exchange, FaultProxy
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, S3Server

from .conftest import MB, PLACE

SIZE = 128 * MB
SHORT = 60
"""Seconds for which credentials are said to be good: so few that each request asks whether there are newer ones."""

GIVE = """
import datetime, json, sys
said = json.load(open(sys.argv[1]))
if not said:
    sys.exit("the password hunter2 is wrong")
until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=said.pop("seconds"))
print(json.dumps({"Version": 1, "Expiration": until.isoformat(), **said}))
"""


class Desk:
    """What hands out credentials, at first ``first``: a program that a profile of AWS's configuration names."""

    def __init__(self, directory: Path, server: S3Server, proxy: FaultProxy) -> None:
        self.server, self.proxy = server, proxy
        self.first = server.make_key()
        self._said = directory / "said.json"
        program, config = directory / "give.py", directory / "config"
        program.write_text(GIVE)
        command = f"{sys.executable} -I -S {program} {self._said}"
        config.write_text(f"[profile renewed]\ncredential_process = {command}\n")
        self.environment = {
            "AWS_CONFIG_FILE": str(config),
            "AWS_SHARED_CREDENTIALS_FILE": str(directory / "none"),
            "AWS_PROFILE": "renewed",
        }
        self.hand_out(*self.first)

    def hand_out(self, access: str, secret: str, *, seconds: int = SHORT) -> None:
        self._say({"AccessKeyId": access, "SecretAccessKey": secret, "seconds": seconds})

    def refuse(self) -> None:
        self._say({})

    def change_at(self, method: str, then: Callable[[], object], *, overlap: bool = True) -> Change:
        return Change(self, method, then, overlap=overlap)

    def _say(self, what: dict[str, object]) -> None:
        beside = self._said.with_suffix(".new")
        beside.write_text(json.dumps(what))
        beside.replace(self._said)
        time.sleep(0.2)  # obstore asks ten times a second, and no more often


class Change:
    """Removes the first key from the server as soon as something large was answered; ``then`` comes before.

    With ``overlap``, requests that the first key has signed by then are let through, as they are where keys
    overlap; those of another key wait until the first is gone. Without, all wait.
    """

    def __init__(self, desk: Desk, method: str, then: Callable[[], object], *, overlap: bool) -> None:
        self._desk, self._method, self._then, self._overlap = desk, method, then, overlap
        self._lock = threading.Lock()
        self._begun = False
        self.done = threading.Event()
        desk.proxy.before, desk.proxy.after = self.before, self.after

    def before(self, exchange: Exchange) -> None:
        if self._begun and not (self._overlap and self._is_old(exchange)):
            assert self.done.wait(30)

    def after(self, exchange: Exchange) -> None:
        with self._lock:
            if self._begun or exchange.method != self._method or not self._is_large(exchange):
                return
            self._begun = True
        self._then()
        while self._overlap and any(
            self._is_old(each) and not each.status for each in self._desk.proxy.log if each is not exchange
        ):
            time.sleep(0.01)
        self._desk.server.remove_key(self._desk.first[0])
        self.done.set()

    def signed_by(self, access: str) -> int:
        return sum(access in _signature(each) for each in self._desk.proxy.log)

    def _is_old(self, exchange: Exchange) -> bool:
        return self._desk.first[0] in _signature(exchange)

    @staticmethod
    def _is_large(exchange: Exchange) -> bool:
        """A part of what is put or got, or of a copy."""
        return len(exchange.body) + len(exchange.answer) > MB or "partNumber" in exchange.path


def _signature(exchange: Exchange) -> str:
    headers = {name.lower(): value for name, value in exchange.headers.items()}
    return exchange.path + headers.get("authorization", "")


@pytest.fixture
def desk(tmp_path: Path, s3: S3Server, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Who this process is."""
    desk = Desk(tmp_path, s3, proxy)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in desk.environment.items():
        monkeypatch.setenv(name, value)
    return desk


@pytest.fixture
def store(desk: Desk, uri: str, client: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("CAS_PATIENCE", "10")
    return Store.create(uri)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    seed = str(tmp_path).encode()
    with path.open("wb") as file:
        for number in range(SIZE // MB):
            file.write((seed + b"%d" % number).ljust(MB, bytes([number % 256])))
    return path


def text_of(error: BaseException | None) -> str:
    """An error, and everything that a traceback would show with it."""
    found = ""
    while error is not None:
        found += f"{error!r} {error}\n"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found


def test_a_put_goes_on_with_renewed_credentials(store: Store, desk: Desk, large: Path) -> None:
    second = desk.server.make_key()
    change = desk.change_at("PUT", lambda: desk.hand_out(*second))
    store.artifact_root(PLACE).ingest_file(large, "large")
    assert change.done.is_set()
    assert change.signed_by(second[0]) > 2
    desk.proxy.before = desk.proxy.after = None
    assert verify(store).problems == []
    assert store.artifact_root(PLACE).entry("large").size == SIZE


def test_a_get_goes_on_with_renewed_credentials(store: Store, desk: Desk, large: Path, tmp_path: Path) -> None:
    root = store.artifact_root(PLACE)
    root.ingest_file(large, "large")
    second = desk.server.make_key()
    change = desk.change_at("GET", lambda: desk.hand_out(*second))
    root.checkout("", tmp_path / "out")
    assert change.done.is_set()
    assert change.signed_by(second[0]) > 2
    assert (tmp_path / "out/large").read_bytes() == large.read_bytes()


def test_a_copy_by_parts_goes_on_with_renewed_credentials(
    desk: Desk, bucket: str, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What neither client does goes through botocore's own."""
    monkeypatch.setattr(copying, "WHOLE", 5 * MB)
    monkeypatch.setattr(copying, "PART", 5 * MB)
    data = bytes(range(256)) * (100 * MB // 256)
    backend = open_bucket(Bucket("s3", bucket, "here"))
    backend.put("blobs/it", [data], create=False)
    assert isinstance(backend, SupportsCopy)
    second = desk.server.make_key()
    change = desk.change_at("PUT", lambda: desk.hand_out(*second))
    assert backend.copy_from(backend, "blobs/it", "blobs/copy", len(data))
    assert change.signed_by(second[0]) > 2
    assert backend.read("blobs/copy") == data


def test_stores_of_one_user_are_known_as_such_though_keys_change(desk: Desk, bucket: str, client: str) -> None:
    source = open_bucket(Bucket("s3", bucket, "from"))
    source.put("blobs/it", [b"bytes"], create=False)
    assert isinstance(source, SupportsCopy)
    assert source.copy_from(source, "blobs/it", "blobs/one", 5)
    desk.hand_out(*desk.server.make_key())
    target = open_bucket(Bucket("s3", bucket, "to"))
    assert isinstance(target, SupportsCopy)
    assert target.copy_from(source, "blobs/it", "blobs/two", 5)


@pytest.mark.parametrize("renewal", ["none", "refused"])
def test_a_put_that_loses_its_credentials_leaves_nothing(
    store: Store, desk: Desk, large: Path, renewal: str
) -> None:
    then = desk.refuse if renewal == "refused" else lambda: None
    change = desk.change_at("PUT", then, overlap=renewal == "refused")
    with pytest.raises(StoreRefused, match=r"credentials.*AWS_PROFILE") as caught:
        store.artifact_root(PLACE).ingest_file(large, "large")
    assert change.done.wait(30)
    assert not any(secret in text_of(caught.value) for secret in (*desk.first, "hunter2", "Signature"))
    desk.proxy.before = desk.proxy.after = None
    desk.hand_out(ACCESS_KEY, SECRET_KEY)
    assert list(store.blobs.listing()) == []
    assert len(store.artifact_root(PLACE).manifest()) == 0
    store.artifact_root(PLACE).ingest_file(large, "large")
    assert verify(store).problems == []


@pytest.mark.parametrize("renewal", ["none", "refused"])
def test_a_get_that_loses_its_credentials_can_be_gone_on_with(
    store: Store, desk: Desk, large: Path, tmp_path: Path, renewal: str
) -> None:
    root = store.artifact_root(PLACE)
    root.ingest_file(large, "large")
    then = desk.refuse if renewal == "refused" else lambda: None
    change = desk.change_at("GET", then, overlap=renewal == "refused")
    with pytest.raises(StoreRefused, match="credentials") as caught:
        root.checkout("", tmp_path / "out")
    assert change.done.wait(30)
    assert not any(secret in text_of(caught.value) for secret in (*desk.first, "hunter2", "Signature"))
    assert not (tmp_path / "out/large").exists()
    desk.proxy.before = desk.proxy.after = None
    desk.proxy.log.clear()
    desk.hand_out(ACCESS_KEY, SECRET_KEY)
    root.checkout("", tmp_path / "out")
    assert (tmp_path / "out/large").read_bytes() == large.read_bytes()
    assert desk.proxy.downloaded() < SIZE


def test_whoever_gives_no_credentials_is_named(
    desk: Desk, uri: str, client: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.refuse()
    with pytest.raises(StoreRefused, match=r"could not be renewed.*Sign in again") as caught:
        Store.open(uri)
    assert "hunter2" not in text_of(caught.value)


@pytest.mark.parametrize("how", ["refused", "expired"])
def test_no_request_or_address_is_made_without_credentials(store: Store, desk: Desk, how: str) -> None:
    backend: Backend = store.backend
    bucket = getattr(backend, "s3", None)
    assert isinstance(bucket, S3)
    bucket.sign_get("cas.json", 60, file_name="it", media_type="text/plain")
    if how == "refused":
        desk.refuse()
    else:
        desk.hand_out(*desk.first, seconds=-1)
    for ask in (
        lambda: backend.read("cas.json"),
        lambda: bucket.abort("blobs/it", "upload"),
        lambda: bucket.sign_get("cas.json", 60, file_name="it", media_type="text/plain"),
        lambda: bucket.sign_part("blobs/it", "upload", 1, 60),
    ):
        with pytest.raises(StoreRefused, match="could not be renewed") as caught:
            ask()
        assert "hunter2" not in text_of(caught.value)
