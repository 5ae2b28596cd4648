"""How long does it take to get a model from a Hub, verified? And to complete one that MLflow logged by name only?

The Hub is a process of its own on loopback, and sends files from the page cache without touching them. A second
time, it cuts one answer in five at a random byte: whoever asks for ranges has many more answers, and more cuts,
than who asks for whole files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median

from benchmarks import hub_peers
from benchmarks.data import make_checkpoint, weights_size
from benchmarks.harness import Aim, Operation, Options, Result, Sample, rotated, run_apart, sampler
from benchmarks.places import Place
from benchmarks.stats import durable, paired_ratio
from tests.support.hub_process import hub_process

_SHARDS = 4
CAS, SNAPSHOT, BARE = "cas persist (durable)", "snapshot_download (unverified)", "bare ranges (unverified)"
LINK, HASH = "cas persist, HF cache there", "hashing the HF cache"
OURS, MLFLOW = "cas_mlflow.persist (durable)", "MLflow's own persist"
FAIR, CUTS, STOCK = "fair network", "one answer in five cut", "stock reference model"

_DOWNLOADS: dict[str, tuple[Operation, bool]] = {
    CAS: (hub_peers.stream, True),
    SNAPSHOT: (hub_peers.snapshot, True),
    BARE: (hub_peers.bare, False),
    LINK: (hub_peers.link, False),
    HASH: (hub_peers.hash_cached, False),
}
"""By name: what is measured, and whether also with connections cut."""


def run(options: Options, place: Place) -> Result:
    result = Result(f"persist: {options.size / 1e9:g} GB in {_SHARDS} shards from a Hub", place.name, CAS)
    model = place.directory / "model"
    run_apart(make_checkpoint, model, options.size, _SHARDS)
    size = weights_size(model)
    with ExitStack() as stack:
        fair = stack.enter_context(hub_process({hub_peers.REPO: model}))
        cutting = stack.enter_context(hub_process({hub_peers.REPO: model}, cut_one_in=5))
        for number, name in rotated(options.rounds, list(_DOWNLOADS)):
            operation, with_cuts = _DOWNLOADS[name]
            for step, endpoint in ((FAIR, fair), (CUTS, cutting))[: 1 + with_cuts]:
                with sampler(place, name, number, ("cas",)) as sampling:
                    unsynced = sampling.work if name in (SNAPSHOT, BARE) else None
                    arguments = (endpoint, str(sampling.work))
                    result.samples.append(sampling.take(step, operation, *arguments, sync=unsynced, logical=size))
        for number, name in rotated(options.rounds, [OURS, MLFLOW]):
            result.samples += _stock(place, name, number, fair, size)
    result.aims = list(_aims(result.samples, size))
    result.notes = list(_notes(result.samples, size))
    return result


def _stock(place: Place, name: str, number: int, endpoint: str, size: int) -> Iterator[Sample]:
    with sampler(place, name, number, ("mlflow", "cas_mlflow")) as sampling:
        uri = run_apart(hub_peers.log_stock, endpoint, str(sampling.work))
        operation = hub_peers.persist_ours if name == OURS else hub_peers.persist_mlflow
        store = sampling.work / "store"
        arguments = (endpoint, str(sampling.work), uri)
        yield sampling.take(STOCK, operation, *arguments, store=store, logical=size, watch=True)


def _aims(samples: list[Sample], size: int) -> Iterator[Aim]:
    def of(name: str) -> list[Sample]:
        return [each for each in samples if each.contender == name and each.step != CUTS]

    written = median(each.disk_written for each in of(OURS)) / size
    memory = _above_imports(of(OURS))
    linked = median(each.wall for each in of(LINK)) - median(each.wall for each in of(HASH))
    synced = paired_ratio(samples, FAIR, SNAPSHOT, CAS, durable)
    yield Aim("speed: cas / snapshot_download, synced", 2, synced, at_least=True)
    yield Aim(
        "speed: cas, durable / snapshot_download, not synced",
        2,
        paired_ratio(samples, FAIR, SNAPSHOT, CAS),
        at_least=True,
    )
    yield Aim("speed: cas / bare ranges", 0.6, paired_ratio(samples, FAIR, BARE, CAS), at_least=True)
    yield Aim("stock model: bytes written / bytes of its weights", 1.02, written)
    yield Aim("stock model: MB of memory above imports", 150, memory)
    yield Aim("memory of cas persist, MB", 200, max(each.memory for each in of(CAS)) / 1e6)
    yield Aim("linked: bytes written / bytes of the weights", 0.01, median(e.disk_written for e in of(LINK)) / size)
    yield Aim("linked: seconds beyond hashing", 1, linked)


def _notes(samples: list[Sample], size: int) -> Iterator[str]:
    """What the table has no ratio of: the stock model is a contest of its own."""
    of = {name: [each for each in samples if each.contender == name] for name in (OURS, MLFLOW)}
    ratio = paired_ratio(samples, STOCK, MLFLOW, OURS)
    yield f"MLflow's own persist of the stock model takes {ratio:.2f} times as long as cas_mlflow.persist"
    for name, taken in of.items():
        written = median(each.disk_written for each in taken) / size
        yield f"{name}: writes {written:.2f} times the weights, {_above_imports(taken):.0f} MB above imports"


def _above_imports(samples: list[Sample]) -> float:
    """Megabytes of peak memory, in the worst round."""
    return max(each.memory - each.memory_before for each in samples) / 1e6
