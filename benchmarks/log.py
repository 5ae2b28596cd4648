"""How long does logging a sharded model take: first, again, as a fresh copy, with one shard changed? And loading?

Every log call goes to an artifact root of its own, as each logged model does in MLflow. A load makes a tree that
its user throws away; MLflow's local repository copies there, as it does for every ``runs:/`` URI.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import dvc
from benchmarks.data import copy_tree, make_file, make_shards
from benchmarks.harness import REPOSITORIES, Aim, Operation, Options, Result, Sample, Sampler, rotated, sampler
from benchmarks.places import Place
from benchmarks.stats import paired_ratio

STEPS = ("first", "again, in place", "again, fresh copy", "one shard changed")
LOADS = ("load", "load again")


class Peer:
    """Something to log with. ``durable``: what it acknowledges survives a power cut."""

    name: str
    durable = False
    modules: tuple[str, ...] = ()
    log: Operation
    load: Operation

    def __init__(self, work: Path) -> None:
        self.work = work
        self.store = work / "store"

    def prepare(self) -> None:
        self.store.mkdir()

    def source(self, step: str, shared: Path) -> Path:
        """What is logged in this step; made where it is not there yet."""
        if step in STEPS[:2]:
            return shared
        fresh = self.work / "source"
        shutil.rmtree(fresh, ignore_errors=True)
        copy_tree(shared, fresh)
        if step == "one shard changed":
            shard = min(fresh.iterdir())
            make_file(shard, shard.stat().st_size, seed=999)
        return fresh

    def root(self, number: int) -> str:
        """Where log call ``number`` goes."""
        return str(self.store / f"1/models/m-{number}/artifacts")

    def written(self, root: str) -> Path | None:
        """What has to be synced after a log call."""
        return None if self.durable else Path(root)

    def target(self, _step: str) -> Path:
        """Where a load goes."""
        return self.work / "loaded"


def log_cas(root: str, source: str) -> Callable[[], object]:
    from cas_mlflow.repository import CasArtifactRepository

    repository = CasArtifactRepository(f"cas://{root}")
    return lambda: repository.log_artifacts(source)


def load_cas(root: str, _target: str) -> Callable[[], object]:
    from cas_mlflow.repository import CasArtifactRepository

    repository = CasArtifactRepository(f"cas://{root}")
    return lambda: repository.download_artifacts("")


class Cas(Peer):
    name = "cas"
    durable = True
    modules = REPOSITORIES
    log, load = staticmethod(log_cas), staticmethod(load_cas)

    def prepare(self) -> None:
        import cas

        cas.Store.create(self.store)


def log_local(root: str, source: str) -> Callable[[], object]:
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    repository = LocalArtifactRepository(root)
    return lambda: repository.log_artifacts(source)


def load_local(root: str, target: str) -> Callable[[], object]:
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    repository = LocalArtifactRepository(root)
    Path(target).mkdir()
    return lambda: repository.download_artifacts("", target)


class Local(Peer):
    name = "MLflow local (not synced)"
    modules = REPOSITORIES
    log, load = staticmethod(log_local), staticmethod(load_local)


def copy(root: str, source: str) -> Callable[[], object]:
    Path(root).parent.mkdir(parents=True, exist_ok=True)

    def run() -> None:
        subprocess.run(["cp", "-r", source, root], check=True)

    return run


def copy_back(root: str, target: str) -> Callable[[], object]:
    return copy(target, root)


class Copy(Peer):
    name = "cp -r (not synced)"
    log, load = staticmethod(copy), staticmethod(copy_back)


class Dvc(Peer):
    """The model is a directory of the workspace, which DVC replaces by links to its cache."""

    name = "dvc add (not synced)"
    log, load = staticmethod(dvc.add), staticmethod(dvc.checkout)

    def prepare(self) -> None:
        dvc.initialise(self.work / "repository")
        self.store = self.work / "repository" / ".dvc" / "cache"

    def source(self, step: str, shared: Path) -> Path:
        name = "first" if step in STEPS[:2] else step.replace(", ", "-").replace(" ", "-")
        inside = self.work / "repository" / name
        if step == STEPS[0]:
            copy_tree(shared, inside)
        elif step != STEPS[1]:
            super().source(step, shared).rename(inside)
        return inside

    def root(self, _number: int) -> str:
        return str(self.work / "repository")

    def written(self, _root: str) -> Path | None:
        return self.store  # the workspace has links to it

    def target(self, _step: str) -> Path:
        target = self.work / "repository" / "first"
        shutil.rmtree(target, ignore_errors=True)
        return target


def run(options: Options, place: Place) -> Result:
    result = Result(f"log: {options.size / 1e9:g} GB in {options.shards} shards", place.name, Cas.name)
    peers: list[type[Peer]] = [Cas, Local, Copy]
    if dvc.EXECUTABLE:
        peers.append(Dvc)
        result.notes.append("dvc is started for each operation, as its users do; that is part of its time.")
    else:
        result.notes.append("dvc is not installed, so it is left out (pip install 'mlflow-cas[bench]').")
    shared = place.directory / "model"
    make_shards(shared, options.size, options.shards)
    for number, peer in rotated(options.rounds, peers):
        with sampler(place, peer.name, number, peer.modules) as sampling:
            result.samples += _sequence(peer(sampling.work), sampling, shared, options.size)
    shutil.rmtree(shared)
    mine = {each.step: each.stored for each in result.samples if each.contender == Cas.name}
    result.aims = [
        Aim("again, in place: cas / MLflow local", 1, paired_ratio(result.samples, STEPS[1], Cas.name, Local.name)),
        Aim("stored after logging a fresh copy / after the first log", 1.01, mine[STEPS[2]] / mine[STEPS[0]]),
    ]
    return result


def _sequence(peer: Peer, sampling: Sampler, shared: Path, size: int) -> Iterator[Sample]:
    peer.prepare()
    for count, step in enumerate(STEPS):
        root, source = peer.root(count), peer.source(step, shared)
        yield sampling.take(step, peer.log, root, source, store=peer.store, sync=peer.written(root), logical=size)
    for step in LOADS:
        target = peer.target(step)
        sync = None if peer.durable else target
        yield sampling.take(step, peer.load, peer.root(0), target, store=peer.store, sync=sync, logical=size)
        shutil.rmtree(target, ignore_errors=True)
