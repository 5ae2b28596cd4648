"""`cas` on a store in a bucket."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
from click.testing import CliRunner

from cas import Store
from cas.errors import StoreError
from cas_cli.main import main
from tests.support.s3_faults import FaultProxy

from .conftest import PLACE


def cas(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, list(words))
    return done.exit_code, done.output


def test_a_store_is_made_looked_at_and_verified(uri: str, client: str, proxy: FaultProxy, large: Path) -> None:
    code, output = cas("init", uri)
    assert code == 0
    assert f"--artifacts-destination {uri}" in output
    assert cas("init", uri)[0] == 1
    Store.open(uri).artifact_root(PLACE).ingest_file(large, "model/large")
    assert json.loads(cas("ls", "-r", "--json", f"{uri}/{PLACE}")[1])[0]["size"] == large.stat().st_size
    assert json.loads(cas("stats", "--json", uri)[1])["blob_bytes"] == large.stat().st_size
    assert cas("verify", uri)[0] == 0
    assert "create-only puts" in cas("doctor", uri)[1]


def test_where_no_store_is_it_says_how_to_make_one(uri: str, client: str, proxy: FaultProxy) -> None:
    code, output = cas("ls", uri)
    assert code == 1
    assert f"cas init {uri}" in output


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "ExpiredToken"])
def test_a_refusal_shows_no_secret(store: Store, proxy: FaultProxy, code: str) -> None:
    proxy.before = lambda exchange: exchange.refuse(403, code)
    for command in ("ls", "verify", "stats"):
        status, output = cas(command, store.uri)
        assert status == 1
        for secret in ("testkey", "testsecret", "Signature=", "Traceback"):
            assert secret not in output


@pytest.mark.parametrize("address", ["cas-s3://no-such-bucket-here/team", "cas-s3://key:secret@bucket/team"])
def test_a_bad_address_is_one_line(address: str, client: str, proxy: FaultProxy) -> None:
    code, output = cas("init", address)
    assert code == 1
    assert output.count("\n") == 1
    assert "secret" not in output


def test_a_damaged_blob_is_found_and_named(store: Store, large: Path) -> None:
    root = store.artifact_root(PLACE)
    root.ingest_file(large, "model/large")
    key = root.entry("model/large").blob
    assert key is not None
    store.backend.put(key, [b"\0" * large.stat().st_size], create=False)
    code, output = cas("verify", store.uri)
    assert code == 20
    assert PLACE in output


def read_in_child(store: Store, answers) -> None:
    try:
        store.backend.read("cas.json")
        answers.put("read")
    except StoreError as error:
        answers.put(str(error))


def test_a_fork_of_a_process_that_used_obstore_is_told_so(
    uri: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would hang: object_store's threads do not come along."""
    monkeypatch.setenv("CAS_CLIENT", "obstore")
    store = Store.create(uri)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=read_in_child, args=(store, answers))
    child.start()
    assert "spawn" in answers.get(timeout=20)
    child.join()
