"""Files that clients put straight into the bucket: logged if they are what was said, and never otherwise."""

from __future__ import annotations

import hashlib
import os
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import fsspec
import pytest
from mlflow.entities.multipart_upload import MultipartUploadPart
from mlflow.exceptions import MlflowException

from cas import Store, collect
from cas.backends import SupportsPartUploads
from cas.backends.fsspec import FsspecBackend
from cas.backends.opening import open_bucket
from cas.backends.parts import Part
from cas.digest import Digest
from cas.errors import InvalidInput, PathConflict, PointerRefused, StoreError
from cas.keys import INTENTS, STORE
from cas.place import Place
from cas.pointer import Pointer
from cas.roots import parse_uri
from cas.settings import Settings
from cas.ulid import new_ulid
from cas.uploads import Begun, Uploads
from cas.verify import verify
from cas_mlflow.repository import CasBucketArtifactRepository
from tests.support.s3_faults import Exchange, FaultProxy, Times

from .conftest import PLACE

MB = 1 << 20
PATH = f"{PLACE}/model/large"
CONTENT = [bytes([number]) * (5 * MB) for number in range(3)] + [b"the end"]


@pytest.fixture
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever it is, nearly all of this is done by botocore."""
    monkeypatch.setenv("CAS_CLIENT", getattr(request, "param", "obstore"))


@pytest.fixture
def store(uri: str, client: None, proxy: FaultProxy) -> Store:
    """A new store. The probe would cost each of these tests a second."""
    open_bucket(parse_uri(uri)).put(STORE, [Settings("id", 16 << 10, ()).encode()], create=True)
    return Store.open(uri)


@pytest.fixture
def uploads(store: Store) -> Uploads:
    uploads = Uploads.of(store)
    assert uploads is not None
    return uploads


def put(begun: Begun, content: list[bytes]) -> list[Part]:
    """As a client does, that has no keys."""
    return [
        Part(number, put_part(address, data))
        for number, (address, data) in enumerate(zip(begun.addresses, content, strict=True), start=1)
    ]


def put_part(address: str, data: bytes) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(address, data, method="PUT")) as response:
        return str(response.headers["ETag"])


def is_refused(address: str) -> bool:
    try:
        put_part(address, b"data")
    except urllib.error.HTTPError as error:
        return error.code == 403
    return False


def shown(store: Store) -> dict[str, bytes]:
    """Everything readers see."""
    found = {}
    for root in store.artifact_roots():
        for entry in root.manifest():
            with root.open_entry(entry) as file:
                found[f"{root.path}/{entry.path}"] = file.read()
    return found


def left(store: Store) -> list[str]:
    """Whatever is neither shown nor the record of an upload that was logged."""
    assert isinstance(store.backend, SupportsPartUploads)
    keys = [key for key in store.backend.keys("") if key.startswith(("tmp/", "intents/"))]
    return [key for key in keys if not key.endswith(".done")] + [each.key for each in store.backend.unfinished()]


def is_completion(exchange: Exchange) -> bool:
    return exchange.method == "POST" and "uploadId=" in exchange.path


@pytest.mark.parametrize("client", ["obstore", "fsspec"], indirect=True)
def test_a_file_is_logged_when_it_is_complete(uploads: Uploads, store: Store) -> None:
    begun = uploads.begin(PATH, 4)
    parts = put(begun, CONTENT)
    assert shown(store) == {}
    uploads.complete(PATH, begun.upload_id, parts)
    assert shown(store) == {PATH: b"".join(CONTENT)}
    assert verify(store).problems == []
    assert left(store) == []


def test_bytes_that_are_here_already_are_not_copied(uploads: Uploads, store: Store, proxy: FaultProxy) -> None:
    other = f"{PLACE.replace('7/', '8/')}/again"
    for path in (PATH, other):
        begun = uploads.begin(path, 4)
        uploads.complete(path, begun.upload_id, put(begun, CONTENT))
    assert shown(store) == dict.fromkeys((PATH, other), b"".join(CONTENT))
    assert len(list(store.blobs.listing())) == 1
    assert left(store) == []


def test_no_byte_is_read_twice_or_touches_the_disk(uploads: Uploads, store: Store, proxy: FaultProxy) -> None:
    begun = uploads.begin(PATH, 4)
    parts = put(begun, CONTENT)
    proxy.log.clear()
    uploads.complete(PATH, begun.upload_id, parts)
    size = sum(map(len, CONTENT))
    assert size <= sum(len(each.answer) for each in proxy.log if each.method != "HEAD") < size + 50_000
    assert sum(len(each.body) for each in proxy.log) < 10_000
    assert [path for path in store.scratch.directory.rglob("*") if path.is_file()] == []


def test_every_blob_is_found_by_the_stores_aliases(uri: str, client: None, proxy: FaultProxy) -> None:
    store = Store.create(uri, aliases=("sha256",))
    uploads = Uploads.of(store)
    assert uploads is not None
    begun = uploads.begin(PATH, 4)
    uploads.complete(PATH, begun.upload_id, put(begun, CONTENT))
    assert store.blobs.candidates(Digest("sha256", hashlib.sha256(b"".join(CONTENT)).hexdigest()))


@pytest.mark.parametrize("size", [0, 1, 9_000, 16 << 10, (16 << 10) + 1])
def test_a_small_file_is_logged_as_any_other(uploads: Uploads, store: Store, size: int) -> None:
    begun = uploads.begin(PATH, 1)
    uploads.complete(PATH, begun.upload_id, put(begun, [b"x" * size]))
    root = store.artifact_root(PLACE)
    assert shown(store) == {PATH: b"x" * size}
    assert (root.entry("model/large").inline is not None) == (size <= 16 << 10)
    assert left(store) == []


def test_a_pointer_file_to_what_its_writer_never_had_is_refused(
    uploads: Uploads, store: Store, large: Path
) -> None:
    store.artifact_root(PLACE).ingest_file(large, "secret")
    digest = store.artifact_root(PLACE).entry("secret").digest
    begun = uploads.begin(PATH, 1)
    parts = put(begun, [Pointer(digest, large.stat().st_size).encode()])
    with pytest.raises(PointerRefused):
        uploads.complete(PATH, begun.upload_id, parts)
    assert PATH not in shown(store)


def wrong_tag(parts: list[Part]) -> list[Part]:
    return [*parts[:2], Part(3, parts[0].etag), parts[3]]


WRONG = {
    "a part with another tag": wrong_tag,
    "a part with no tag": lambda parts: [*parts[:3], Part(4, "")],
    "one too few": lambda parts: parts[:3],
    "a gap": lambda parts: [parts[0], *parts[2:]],
    "one too many": lambda parts: [*parts, Part(5, parts[0].etag)],
    "one twice": lambda parts: [*parts, parts[3]],
    "none": lambda parts: [],
    "a number below one": lambda parts: [Part(0, parts[0].etag), *parts[1:]],
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_other_parts_than_arrived_are_refused_and_can_be_mended(uploads: Uploads, store: Store, wrong) -> None:
    begun = uploads.begin(PATH, 4)
    parts = put(begun, CONTENT)
    with pytest.raises(InvalidInput, match="part"):
        uploads.complete(PATH, begun.upload_id, wrong(parts))
    assert shown(store) == {}
    uploads.complete(PATH, begun.upload_id, parts)
    assert shown(store) == {PATH: b"".join(CONTENT)}


def test_a_part_that_never_came_is_missed(uploads: Uploads, store: Store) -> None:
    begun = uploads.begin(PATH, 4)
    parts = put(Begun("", begun.addresses[:3]), CONTENT[:3])
    with pytest.raises(InvalidInput, match="4"):
        uploads.complete(PATH, begun.upload_id, [*parts, Part(4, hashlib.md5(CONTENT[3]).hexdigest())])
    assert shown(store) == {}
    uploads.abort(PATH, begun.upload_id)
    assert left(store) == []


def test_parts_that_are_too_small_are_refused(uploads: Uploads, store: Store) -> None:
    begun = uploads.begin(PATH, 2)
    with pytest.raises(InvalidInput, match="too small"):
        uploads.complete(PATH, begun.upload_id, put(begun, [b"small", b"small"]))
    assert shown(store) == {}


FORGED = {
    "nothing": lambda id_: "",
    "words": lambda id_: "../../blobs/x",
    "truncated": lambda id_: id_[:-1],
    "without S3's own": lambda id_: id_.rpartition(".")[0],
    "another name": lambda id_: new_ulid() + id_[26:],
    "lower case": lambda id_: id_[:26].lower() + id_[26:],
    "more parts": lambda id_: id_.replace(".4.", ".99999."),
    "a line more": lambda id_: id_ + "\n",
    "S3's own only": lambda id_: id_.split(".", 2)[2],
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED.keys())
def test_a_forged_id_publishes_nothing(uploads: Uploads, store: Store, forge) -> None:
    begun = uploads.begin(PATH, 4)
    parts = put(begun, CONTENT)
    with pytest.raises(InvalidInput):
        uploads.complete(PATH, forge(begun.upload_id), parts)
    assert shown(store) == {}
    assert list(store.blobs.listing()) == []


def test_an_upload_can_be_completed_for_its_own_path_only(uploads: Uploads, store: Store) -> None:
    mine, theirs = uploads.begin(PATH, 4), uploads.begin(f"{PATH}-other", 4)
    parts = put(mine, CONTENT)
    with pytest.raises(InvalidInput, match="no such upload"):
        uploads.complete(f"{PATH}-other", mine.upload_id, parts)
    crossed = theirs.upload_id[:29] + mine.upload_id[29:]
    with pytest.raises(InvalidInput, match="no such upload"):
        uploads.complete(f"{PATH}-other", crossed, parts)
    uploads.abort(f"{PATH}-other", mine.upload_id)  # nor can it be aborted from there
    assert shown(store) == {}
    uploads.complete(PATH, mine.upload_id, parts)
    assert set(shown(store)) == {PATH}


def test_completed_again_it_is_the_same(uploads: Uploads, store: Store) -> None:
    """The client did not hear of the first time. Meanwhile somebody logged something else there."""
    begun = uploads.begin(PATH, 4)
    parts = put(begun, CONTENT)
    uploads.complete(PATH, begun.upload_id, parts)
    store.artifact_root(PLACE).ingest_bytes(b"later", "model/large")
    uploads.complete(PATH, begun.upload_id, parts)
    uploads.abort(PATH, begun.upload_id)
    assert shown(store) == {PATH: b"later"}
    assert left(store) == []


def complete_elsewhere(uri: str, environment: dict[str, str], upload_id: str, parts: list[tuple[int, str]]) -> None:
    os.environ.update(environment)
    uploads = Uploads.of(Store.open(uri))
    assert uploads is not None
    uploads.complete(PATH, upload_id, [Part(*part) for part in parts])


def test_completions_that_race_have_one_result(uploads: Uploads, store: Store, proxy: FaultProxy) -> None:
    begun = uploads.begin(PATH, 4)
    parts = [tuple(part) for part in put(begun, CONTENT)]
    context = get_context("spawn")
    racers = [
        context.Process(target=complete_elsewhere, args=(store.uri, dict(os.environ), begun.upload_id, parts))
        for _ in range(4)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0, 0, 0, 0]
    assert shown(store) == {PATH: b"".join(CONTENT)}
    assert verify(store).problems == []
    assert left(store) == []


def test_threads_that_race_read_it_once(uploads: Uploads, store: Store, proxy: FaultProxy) -> None:
    begun = uploads.begin(PATH, 4)
    parts = put(begun, CONTENT)
    proxy.log.clear()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: uploads.complete(PATH, begun.upload_id, parts), range(4)))
    assert sum(len(each.answer) for each in proxy.log if each.method == "GET") < 1.5 * sum(map(len, CONTENT))
    assert shown(store) == {PATH: b"".join(CONTENT)}


@pytest.mark.parametrize("applies", [is_completion, lambda each: "x-amz-copy-source" in each.headers])
def test_answers_that_are_lost_change_nothing(uploads: Uploads, store: Store, proxy: FaultProxy, applies) -> None:
    def lose(exchange: Exchange) -> None:
        exchange.send = 0

    begun = uploads.begin(PATH, 4)
    parts = put(begun, CONTENT)
    proxy.after = Times(1, lose, applies)
    uploads.complete(PATH, begun.upload_id, parts)
    assert shown(store) == {PATH: b"".join(CONTENT)}
    assert left(store) == []


def test_what_failed_midway_is_gone_on_with(uploads: Uploads, store: Store, proxy: FaultProxy) -> None:
    """The parts were made one object, and then the server died."""
    begun = uploads.begin(PATH, 4)
    parts = put(begun, CONTENT)
    proxy.before = lambda each: (
        "/manifests/" in each.path and each.method == "PUT" and each.refuse(403, "AccessDenied")
    )
    with pytest.raises(StoreError):
        uploads.complete(PATH, begun.upload_id, parts)
    assert shown(store) == {}
    proxy.before = None
    uploads.complete(PATH, begun.upload_id, parts)
    assert shown(store) == {PATH: b"".join(CONTENT)}
    # Its commit was refused, and so was its tombstone: it cannot tell, and leaves its intent to its lease.
    [intent] = left(store)
    assert intent.startswith(INTENTS)
    collect.execute(store, collect.plan(store, now=time.time() + 25 * 3600))
    assert left(store) == []
    assert shown(store) == {PATH: b"".join(CONTENT)}


def test_an_aborted_upload_is_gone(uploads: Uploads, store: Store) -> None:
    begun = uploads.begin(PATH, 4)
    parts = put(begun, CONTENT)
    for _ in range(2):
        uploads.abort(PATH, begun.upload_id)
    assert left(store) == []
    with pytest.raises(InvalidInput, match="aborted"):
        uploads.complete(PATH, begun.upload_id, parts)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        put_part(begun.addresses[0], b"late")
    assert shown(store) == {}
    assert left(store) == []


def test_an_address_expires(uploads: Uploads, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cas.uploads.ADDRESSES_LAST", 1)
    [address] = uploads.begin(PATH, 1).addresses
    assert any(is_refused(address) for _ in iter(int, 1))  # once the second is over


def test_what_nobody_finished_is_collected_when_it_is_old(uploads: Uploads, store: Store) -> None:
    done = uploads.begin(f"{PATH}-done", 4)
    uploads.complete(f"{PATH}-done", done.upload_id, put(done, CONTENT))
    begun = uploads.begin(PATH, 4)
    parts = put(begun, CONTENT)
    for hours, expected in ((47, (0, 0)), (49, (1, 1))):
        made = collect.plan(store, now=time.time() + hours * 3600)
        assert (len(made.leftovers.staged), len(made.leftovers.uploads)) == expected
        collect.execute(store, made)
    assert list(store.backend.keys("tmp/")) == []
    assert left(store) == []
    with pytest.raises(InvalidInput, match="too long ago"):
        uploads.complete(PATH, begun.upload_id, parts)
    assert set(shown(store)) == {f"{PATH}-done"}


def test_a_path_that_cannot_be_is_refused_before_anything_is_sent(uploads: Uploads, store: Store) -> None:
    store.artifact_root(PLACE).ingest_bytes(b"file", "model")
    with pytest.raises(PathConflict):
        uploads.begin(PATH, 4)
    for count in (0, -1, 10_001):
        with pytest.raises(InvalidInput, match="10000"):
            uploads.begin(f"{PLACE}/other", count)
    assert left(store) == []


def test_a_path_that_was_taken_meanwhile_is_refused(uploads: Uploads, store: Store) -> None:
    begun = uploads.begin(PATH, 4)
    parts = put(begun, CONTENT)
    store.artifact_root(PLACE).ingest_bytes(b"file", "model")
    with pytest.raises(PathConflict):
        uploads.complete(PATH, begun.upload_id, parts)
    uploads.abort(PATH, begun.upload_id)
    assert shown(store) == {f"{PLACE}/model": b"file"}
    assert left(store) == []


def test_errors_are_mlflows_own_and_show_no_secret(store: Store, proxy: FaultProxy) -> None:
    repository = CasBucketArtifactRepository(f"{store.uri}/{PLACE}")
    begun = repository.create_multipart_upload("/home/somebody/large", 1, "model")
    etag = put_part(begun.credentials[0].url, b"data")
    for id_, path, part in (
        ("forged", "model", MultipartUploadPart(1, etag)),
        (begun.upload_id, "elsewhere", MultipartUploadPart(1, etag)),
        (begun.upload_id, "model", MultipartUploadPart(1, None)),
        (begun.upload_id, "../model", MultipartUploadPart(1, etag)),
    ):
        with pytest.raises(MlflowException) as caught:
            repository.complete_multipart_upload("/home/somebody/large", id_, [part], path)
        assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
        for secret in ("testkey", "testsecret", "Signature", begun.upload_id):
            assert secret not in str(caught.value)
    assert shown(store) == {}
    repository.complete_multipart_upload(
        "/home/somebody/large", begun.upload_id, [MultipartUploadPart(1, etag)], "model"
    )
    assert shown(store) == {PATH: b"data"}


def test_where_there_is_no_s3_the_client_is_told_to_use_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.create(FsspecBackend(fsspec.filesystem("memory"), f"/{new_ulid()}"))
    assert Uploads.of(store) is None
    repository = CasBucketArtifactRepository("cas-gs://bucket/place")
    repository._place = Place(store)
    with pytest.raises(MlflowException, match=r"^Multipart upload is not supported") as caught:
        repository.create_multipart_upload("file", 1)
    assert caught.value.error_code == "NOT_IMPLEMENTED"
