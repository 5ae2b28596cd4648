"""Contenders that put files into a bucket, or get them. Each function sets up, and returns what is measured."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Run = Callable[[], object]
ROOT = "1/" + "a" * 32 + "/artifacts"
_PART, _READ, _CONNECTIONS = 16 << 20, 1 << 20, 8


def make_store(bucket: str, model: str) -> list[str]:
    """A store that holds the files of a directory; returns the keys of their blobs."""
    from cas import Store

    root = Store.create(f"cas-s3://{bucket}/store").artifact_root(ROOT)
    root.ingest_tree(model)
    return [f"store/{entry.blob}" for entry in root.manifest()]


# Getting: everything below ends on the disk of this machine


def get_cas(bucket: str, work: str, _keys: list[str]) -> Run:
    """Into a cold cache: verified, and durable."""
    from cas import Store

    os.environ["CAS_CACHE"] = f"{work}/cache"
    root = Store.open(f"cas-s3://{bucket}/store").artifact_root(ROOT)
    entries = list(root.manifest())
    return lambda: str(root.store.cache.fetch(entries, root.store.supply).bytes)


def get_again(bucket: str, work: str, keys: list[str]) -> Run:
    """A checkout when the cache has everything: links."""
    from cas import Store

    get_cas(bucket, work, keys)()
    root = Store.open(f"cas-s3://{bucket}/store").artifact_root(ROOT)
    return lambda: str(root.checkout("", f"{work}/out", disposable=True))


def get_mlflow(bucket: str, work: str, _keys: list[str]) -> Run:
    """MLflow's own repository, of the same files under their own names."""
    from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

    repository = S3ArtifactRepository(f"s3://{bucket}/plain")
    Path(work, "out").mkdir()
    return lambda: repository.download_artifacts("", f"{work}/out")


def get_s3fs(bucket: str, work: str, keys: list[str]) -> Run:
    import s3fs

    filesystem = s3fs.S3FileSystem(config_kwargs={"request_checksum_calculation": "when_required"})
    pairs = [(f"{bucket}/{key}", f"{work}/{number}") for number, key in enumerate(keys)]
    return lambda: [filesystem.get_file(*pair) for pair in pairs]


def get_boto3(bucket: str, work: str, keys: list[str], *, part: int = 8 << 20, at_once: int = 10) -> Run:
    """Its own transfer manager, with its defaults: ten threads, parts of 8 MiB."""
    client, how = _boto3(part, at_once)
    return lambda: [
        client.download_file(bucket, key, f"{work}/{number}", Config=how) for number, key in enumerate(keys)
    ]


def get_obstore(bucket: str, work: str, keys: list[str], *, part: int = _PART, at_once: int = _CONNECTIONS) -> Run:
    """Parallel ranged streams, written where they belong."""
    import obstore

    store = _obstore(bucket)

    def fetch(range_: tuple[int, str, int, int]) -> None:
        descriptor, key, start, stop = range_
        response = obstore.get(store, key, options={"range": (start, stop)})
        for chunk in response.stream(min_chunk_size=_READ):
            os.pwrite(descriptor, chunk, start)
            start += len(chunk)

    def run() -> None:
        _in_parts(work, [(key, obstore.head(store, key)["size"]) for key in keys], fetch, part, at_once)

    return run


def get_bare(bucket: str, work: str, keys: list[str]) -> Run:
    """A bare socket reader: signed addresses, one buffer for each connection, and nothing else."""
    import obstore

    store = _obstore(bucket)
    address = urlsplit(os.environ["AWS_ENDPOINT_URL"])

    def fetch(range_: tuple[int, str, int, int]) -> None:
        descriptor, key, start, stop = range_
        url = urlsplit(obstore.sign(store, "GET", key, timedelta(hours=1)))
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall(
                f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: {address.netloc}\r\n"
                f"Range: bytes={start}-{stop - 1}\r\nConnection: close\r\n\r\n".encode()
            )
            buffer = memoryview(bytearray(_READ))
            count = connection.recv_into(buffer)
            while (end := bytes(buffer[:count]).find(b"\r\n\r\n")) < 0:
                count += connection.recv_into(buffer[count:])
            begin = end + 4
            while start < stop:
                start += os.pwrite(descriptor, buffer[begin:count], start)
                if start < stop:
                    begin, count = 0, connection.recv_into(buffer)

    def run() -> None:
        _in_parts(work, [(key, obstore.head(store, key)["size"]) for key in keys], fetch, _PART, _CONNECTIONS)

    return run


# Putting


def put_cas(bucket: str, model: str, name: str) -> Run:
    """Hashed, asked for, sent, and hashed again while sent."""
    from cas import Store

    root = Store.create(f"cas-s3://{bucket}/{name}").artifact_root(ROOT)
    return lambda: root.ingest_tree(model)


def put_again(bucket: str, model: str, name: str) -> Run:
    """The same files, by another run."""
    put_cas(bucket, model, name)()
    from cas import Store

    root = Store.open(f"cas-s3://{bucket}/{name}").artifact_root("2/" + "b" * 32 + "/artifacts")
    return lambda: root.ingest_tree(model)


def put_mlflow(bucket: str, model: str, name: str) -> Run:
    from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

    repository = S3ArtifactRepository(f"s3://{bucket}/{name}")
    return lambda: repository.log_artifacts(model)


def put_s3fs(bucket: str, model: str, name: str) -> Run:
    import s3fs

    filesystem = s3fs.S3FileSystem(config_kwargs={"request_checksum_calculation": "when_required"})
    return lambda: [filesystem.put_file(str(each), f"{bucket}/{name}/{each.name}") for each in _files(model)]


def put_boto3(bucket: str, model: str, name: str, *, part: int = 8 << 20, at_once: int = 10) -> Run:
    client, how = _boto3(part, at_once)
    return lambda: [
        client.upload_file(str(each), bucket, f"{name}/{each.name}", Config=how) for each in _files(model)
    ]


def put_obstore(bucket: str, model: str, name: str, *, part: int = _PART, at_once: int = 4) -> Run:
    """Its own multipart upload, with our part size and concurrency: what it costs to check nothing."""
    import obstore

    store = _obstore(bucket)

    def run() -> None:
        for each in _files(model):
            obstore.put(store, f"{name}/{each.name}", each, chunk_size=part, max_concurrency=at_once)

    return run


def _in_parts(
    work: str, sizes: list[tuple[str, int]], fetch: Callable[[Any], None], part: int, at_once: int
) -> None:
    ranges: list[Any] = []
    for number, (key, size) in enumerate(sizes):
        descriptor = os.open(f"{work}/{number}", os.O_WRONLY | os.O_CREAT)
        ranges += [(descriptor, key, start, min(size, start + part)) for start in range(0, size, part)]
    with ThreadPoolExecutor(at_once) as workers:
        list(workers.map(fetch, ranges))


def _files(model: str) -> list[Path]:
    return sorted(path for path in Path(model).iterdir() if path.is_file())


def _boto3(part: int, at_once: int) -> tuple[Any, Any]:
    import boto3
    from boto3.s3.transfer import TransferConfig
    from botocore.config import Config

    how = TransferConfig(multipart_chunksize=part, multipart_threshold=part, max_concurrency=at_once)
    return boto3.client("s3", config=Config(request_checksum_calculation="when_required")), how


def _obstore(bucket: str) -> Any:
    from obstore.store import S3Store

    return S3Store(bucket, client_options={"allow_http": True})
