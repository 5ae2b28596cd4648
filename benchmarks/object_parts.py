"""Which size of parts, and how many at once, suit a bucket? For putting, and for getting.

What is asked of every contender is the same; ours is set from outside, since it has no such settings: one
arrangement has to do for everybody.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from benchmarks import s3_peers
from benchmarks.data import make_shards
from benchmarks.harness import Operation, Options, Result, rotated, run_apart, sampler
from benchmarks.objects import put_plain, remove
from benchmarks.places import Place
from benchmarks.s3_peers import Run
from tests.support.s3_server import s3_server

_SHARDS = 4
_ARRANGEMENTS = ((8, 4), (8, 8), (16, 4), (16, 8), (32, 4), (64, 4))  # MiB, at once
CAS, BOTO3, OBSTORE = "cas (verified)", "boto3", "obstore"


def put_cas(part: int, at_once: int, bucket: str, model: str, name: str) -> Run:
    import cas.backends.obstore as ours

    ours._PART, ours._AT_ONCE = part << 20, at_once
    return s3_peers.put_cas(bucket, model, name)


def put_boto3(part: int, at_once: int, bucket: str, model: str, name: str) -> Run:
    return s3_peers.put_boto3(bucket, model, name, part=part << 20, at_once=at_once)


def put_obstore(part: int, at_once: int, bucket: str, model: str, name: str) -> Run:
    return s3_peers.put_obstore(bucket, model, name, part=part << 20, at_once=at_once)


def get_cas(part: int, at_once: int, bucket: str, work: str, keys: list[str]) -> Run:
    from cas.streaming import transfer
    from cas.streaming.journal import PIECE

    transfer.SPAN, transfer.CONNECTIONS = (part << 20) // PIECE, at_once
    transfer.stream.__kwdefaults__["connections"] = at_once
    return s3_peers.get_cas(bucket, work, keys)


def get_boto3(part: int, at_once: int, bucket: str, work: str, keys: list[str]) -> Run:
    return s3_peers.get_boto3(bucket, work, keys, part=part << 20, at_once=at_once)


def get_obstore(part: int, at_once: int, bucket: str, work: str, keys: list[str]) -> Run:
    return s3_peers.get_obstore(bucket, work, keys, part=part << 20, at_once=at_once)


_PUTS: dict[str, Operation] = {CAS: put_cas, BOTO3: put_boto3, OBSTORE: put_obstore}
_GETS: dict[str, Operation] = {CAS: get_cas, BOTO3: get_boto3, OBSTORE: get_obstore}


def run(options: Options, place: Place) -> Result:
    result = Result(f"object_parts: {options.size / 1e9:g} GB in {_SHARDS} files, S3", place.name, CAS)
    model = place.directory / "parts"
    run_apart(make_shards, model, options.size, _SHARDS)
    with tempfile.TemporaryDirectory() as directory, s3_server(Path(directory) / "s3") as server:
        os.environ.update(server.environment())
        bucket = server.make_bucket("bench")
        keys = run_apart(s3_peers.make_store, bucket, str(model))
        run_apart(put_plain, bucket, str(model))
        for part, at_once in _ARRANGEMENTS:
            said = f"{part} MiB, {at_once} at once"
            for number, name in rotated(options.rounds, list(_PUTS)):
                with sampler(place, name, number) as taking:
                    what = (part, at_once, bucket, str(model), "new")
                    result.samples.append(taking.take(f"put: {said}", _PUTS[name], *what, logical=options.size))
                run_apart(remove, bucket, "new")
            for number, name in rotated(options.rounds, list(_GETS)):
                with sampler(place, name, number) as taking:
                    where = (part, at_once, bucket, str(taking.work), keys)
                    unsynced = None if name == CAS else taking.work
                    result.samples.append(
                        taking.take(f"get: {said}", _GETS[name], *where, sync=unsynced, logical=options.size)
                    )
    return result
