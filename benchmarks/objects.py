"""How long does it take to put a model into a bucket, and to get it back, verified?

The server is Ceph's RADOS gateway on loopback, in memory, on the same cores: a server that is faster than any
network, and takes its share of the machine's time from every contender alike.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks import s3_peers, s3_tools
from benchmarks.data import make_shards
from benchmarks.harness import Aim, Operation, Options, Result, Sample, rotated, run_apart, sampler
from benchmarks.places import Place
from benchmarks.stats import durable, paired_ratio
from tests.support.s3_server import s3_server

_SHARDS = 4
GET, PUT, AGAIN = "get", "put", "again"
CAS, MLFLOW, S3FS, BOTO3, OBSTORE, BARE = (
    "cas (verified)",
    "MLflow s3://",
    "s3fs",
    "boto3",
    "obstore",
    "bare sockets",
)

_GETS: dict[str, Operation] = {
    CAS: s3_peers.get_cas,
    MLFLOW: s3_peers.get_mlflow,
    S3FS: s3_peers.get_s3fs,
    BOTO3: s3_peers.get_boto3,
    OBSTORE: s3_peers.get_obstore,
    BARE: s3_peers.get_bare,
}
_PUTS: dict[str, Operation] = {
    CAS: s3_peers.put_cas,
    MLFLOW: s3_peers.put_mlflow,
    S3FS: s3_peers.put_s3fs,
    BOTO3: s3_peers.put_boto3,
    OBSTORE: s3_peers.put_obstore,
}
_TOOLS: dict[str, tuple[Operation, Operation]] = {
    "s5cmd": (s3_tools.put_s5cmd, s3_tools.get_s5cmd),
    "rclone": (s3_tools.put_rclone, s3_tools.get_rclone),
}


def run(options: Options, place: Place) -> Result:
    result = Result(f"objects: {options.size / 1e9:g} GB in {_SHARDS} files, S3", place.name, CAS)
    puts, gets = dict(_PUTS), dict(_GETS)
    for name in s3_tools.INSTALL:
        if name in s3_tools.installed():
            puts[name], gets[name] = _TOOLS[name]
        else:
            result.notes.append(f"{name} is not installed, so it is left out ({s3_tools.INSTALL[name]}).")
    model = place.directory / "objects"
    run_apart(make_shards, model, options.size, _SHARDS)
    with tempfile.TemporaryDirectory() as directory, s3_server(Path(directory) / "s3") as server:
        os.environ.update(server.environment())
        bucket = server.make_bucket("bench")
        keys = run_apart(s3_peers.make_store, bucket, str(model))
        for number, name in rotated(options.rounds, list(puts)):
            result.samples += _puts(place, name, puts[name], number, bucket=bucket, model=model, size=options.size)
        run_apart(put_plain, bucket, str(model))
        for number, name in rotated(options.rounds, list(gets)):
            with sampler(place, name, number, ("mlflow",) if name == MLFLOW else ()) as taking:
                unsynced = None if name == CAS else taking.work
                arguments = (bucket, str(taking.work), keys)
                result.samples.append(taking.take(GET, gets[name], *arguments, sync=unsynced, logical=options.size))
        for number in range(options.rounds):
            with sampler(place, CAS, number) as taking:
                arguments = (bucket, str(taking.work), keys)
                taken = taking.take("load again", s3_peers.get_again, *arguments, logical=options.size)
                result.samples.append(taken)
    result.aims = list(_aims(result.samples))
    return result


def _puts(
    place: Place, name: str, put: Operation, number: int, *, bucket: str, model: Path, size: int
) -> Iterator[Sample]:
    target = f"put-{name.split(maxsplit=1)[0].lower()}-{number}"
    with sampler(place, name, number, ("mlflow",) if name == MLFLOW else ()) as taking:
        yield taking.take(PUT, put, bucket, str(model), target, logical=size)
    if name == CAS:
        with sampler(place, name, number) as taking:
            yield taking.take(AGAIN, s3_peers.put_again, bucket, str(model), f"{target}-again", logical=size)
    run_apart(remove, bucket, target)


def put_plain(bucket: str, model: str) -> None:
    """Under ``plain``, for those who get whole directories."""
    s3_peers.put_mlflow(bucket, model, "plain")()


def remove(bucket: str, target: str) -> None:
    """The server keeps everything in memory."""
    import obstore

    store = s3_peers._obstore(bucket)
    for chunk in obstore.list(store):
        paths = [each["path"] for each in chunk if each["path"].startswith(target)]
        if paths:
            obstore.delete(store, paths)


def _aims(samples: list[Sample]) -> Iterator[Aim]:
    def cpu(step: str, name: str) -> float:
        return median(each.cpu for each in samples if each.step == step and each.contender == name)

    def seconds(step: str, name: str) -> float:
        return median(each.wall for each in samples if each.step == step and each.contender == name)

    yield Aim("get: bare sockets, synced / cas", 0.8, paired_ratio(samples, GET, BARE, CAS, durable), at_least=True)
    yield Aim("get: bare sockets / cas, durable", 0.8, paired_ratio(samples, GET, BARE, CAS), at_least=True)
    yield Aim("get: MLflow, synced / cas", 1.25, paired_ratio(samples, GET, MLFLOW, CAS, durable), at_least=True)
    yield Aim("put: obstore / cas", 0.95, paired_ratio(samples, PUT, OBSTORE, CAS), at_least=True)
    yield Aim("put: MLflow / cas", 1.3, paired_ratio(samples, PUT, MLFLOW, CAS), at_least=True)
    yield Aim("put again: cas / MLflow", 0.1, seconds(AGAIN, CAS) / seconds(PUT, MLFLOW))
    yield Aim(
        "get: CPU of cas / of the best Python peer",
        1,
        cpu(GET, CAS) / min(cpu(GET, n) for n in (S3FS, BOTO3, MLFLOW)),
    )
    yield Aim(
        "put: CPU of cas / of the best Python peer",
        1,
        cpu(PUT, CAS) / min(cpu(PUT, n) for n in (S3FS, BOTO3, MLFLOW)),
    )
    yield Aim("memory of cas, MB", 200, max(each.memory for each in samples if each.contender == CAS) / 1e6)
