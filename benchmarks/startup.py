"""What does a process that does not use the store pay for the plugin being installed?

MLflow loads every artifact repository plugin when it is imported. Fresh interpreters import it from two copies (by
symlink) of this environment's packages, which differ in the plugin alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import REPOSITORIES, Aim, Options, Result, Sample, rotated, sampler
from benchmarks.places import Place
from benchmarks.stats import spread

IMPORT, CONSTRUCT, FIRST = "import mlflow", "1,000 repositories made", "first listing in a process"
PLUGIN = "import of the plugin's module, mlflow being there"
WITH, WITHOUT = "with the plugin", "without"
_IMPORTS = 3
_IMPORTS_A_ROUND = 4  # from the second round on
_MADE = 1000
# -X importtime would not show the plugin: MLflow loads it by importlib.import_module, which that option skips.
_PROGRAM = """\
import importlib, json, resource, sys, time

def clock():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime + used.ru_stime

sys.path.insert(0, sys.argv[1])
before = clock()
import mlflow
after = clock()
found = {"wall": after[0] - before[0], "cpu": after[1] - before[1]}
with open("/proc/self/status") as file:
    found["memory"] = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))
found["loaded"] = "cas_mlflow.repository" in sys.modules
found["core"] = [name for name in sys.modules if name.partition(".")[0] == "cas"]
sys.path.insert(0, sys.argv[2])
known = set(sys.modules)
before = clock()
importlib.import_module("cas_mlflow.repository")
after = clock()
found["plugin"] = {"wall": after[0] - before[0], "cpu": after[1] - before[1]}
found["modules"] = sorted(set(sys.modules) - known)
print(json.dumps(found))
"""


def construct(kind: str, store: str) -> Callable[[], object]:
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    from cas_mlflow.repository import CasArtifactRepository

    make = CasArtifactRepository if kind == "cas" else LocalArtifactRepository
    prefix = f"cas://{store}" if kind == "cas" else store

    def run() -> None:
        for number in range(_MADE):
            make(f"{prefix}/1/{number:032}/artifacts")

    return run


def first_listing(kind: str, store: str) -> Callable[[], object]:
    if kind == "cas":
        from cas_mlflow.repository import CasArtifactRepository

        repository = CasArtifactRepository(f"cas://{store}/1/{0:032}/artifacts")
    else:
        from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

        repository = LocalArtifactRepository(f"{store}/1/{0:032}/artifacts")
    return lambda: len(repository.list_artifacts())


def run(options: Options, place: Place) -> Result:
    result = Result("startup", place.name, "cas")
    with tempfile.TemporaryDirectory(dir=place.directory) as directory:
        sites = {WITH: _site(Path(directory) / "with", plugin=True)}
        sites[WITHOUT] = _site(Path(directory) / "without", plugin=False)
        _import(WITH, 0, sites)  # the first one may compile, and reads from the disk; both read the same files
        for number, kind in rotated(_IMPORTS + _IMPORTS_A_ROUND * (options.rounds - 1), (WITH, WITHOUT)):
            result.samples += _import(kind, number, sites)
    for number, kind in rotated(options.rounds, ("cas", "MLflow local")):
        # Not the modules a first use imports: they are part of the second question.
        with sampler(place, kind, number, (REPOSITORIES[0], "cas_mlflow.repository")) as sampling:
            store = sampling.work / "store"
            _prepare(kind, store)
            result.samples.append(sampling.take(CONSTRUCT, construct, kind, store, store=store))
            result.samples.append(sampling.take(FIRST, first_listing, kind, store, store=store))
    _judge(result)
    return result


def _judge(result: Result) -> None:
    with_plugin = [each for each in result.samples if each.contender == WITH]
    without = [each for each in result.samples if each.contender == WITHOUT]
    alone = [each for each in result.samples if each.step == PLUGIN]
    core = with_plugin[0].answer["core"]
    result.aims.append(Aim("modules of cas that import mlflow imports", 0, len(core)))
    cpu = spread(each.cpu for each in with_plugin).median - spread(each.cpu for each in without).median
    wall = spread(each.wall for each in with_plugin).median - spread(each.wall for each in without).median
    share = spread(each.wall for each in alone).median
    memory = spread(each.memory for each in without).median
    plugin = (
        f"The plugin's share of import mlflow: {wall * 1e3:+.0f} ms ({cpu * 1e3:+.0f} ms of CPU) by these medians;"
        f" {share * 1e3:.2f} ms where its module is imported later. It brings {', '.join(alone[0].answer)}."
    )
    result.notes += [
        plugin,
        f"Peak memory of import mlflow alone: {memory / 1e6:.0f} MB.",
        "The first listing imports cas and opens the store.",
    ]


def _site(site: Path, *, plugin: bool) -> Path:
    """The packages of this environment as a directory of links, as if the plugin was (not) installed as a wheel."""
    site.mkdir()
    for entry in os.scandir(sysconfig.get_path("purelib")):
        if not entry.name.startswith(("mlflow_cas-", "_mlflow_cas", "cas_", "cas")) and not entry.name.endswith(
            ".pth"
        ):
            (site / entry.name).symlink_to(entry.path)
    if plugin:
        from importlib.metadata import distribution

        import cas
        import cas_mlflow

        for module in (cas, cas_mlflow):
            assert module.__file__ is not None
            package = Path(module.__file__).parent
            (site / package.name).symlink_to(package)
        record = Path(str(distribution("mlflow-cas").locate_file("")))
        (information,) = record.glob("mlflow_cas-*.dist-info")
        (site / information.name).symlink_to(information)
    return site


def _import(kind: str, number: int, sites: dict[str, Path]) -> list[Sample]:
    """Import mlflow in an interpreter that sees the standard library and one of the sites."""
    command = [sys.executable, "-I", "-S", "-c", _PROGRAM, str(sites[kind]), str(sites[WITH])]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    if found["loaded"] != (kind == WITH):
        raise AssertionError(f"{kind}: the plugin was loaded: {found['loaded']}")

    def sample(step: str, contender: str, times: dict[str, float], answer: object) -> Sample:
        return Sample(
            step,
            contender,
            number,
            times["wall"],
            None,
            times["cpu"],
            0,
            0,
            0,
            0,
            found["memory"],
            0,
            answer=answer,
        )

    samples = [sample(IMPORT, kind, found, {"core": found["core"]})]
    if kind == WITHOUT:
        samples.append(sample(PLUGIN, "cas", found["plugin"], found["modules"]))
    return samples


def _prepare(kind: str, store: Path) -> None:
    root = f"1/{0:032}/artifacts"
    if kind == "cas":
        import cas

        cas.Store.create(store).artifact_root(root).ingest_bytes(b"x", "file")
    else:
        (store / root).mkdir(parents=True)
        (store / root / "file").write_bytes(b"x")
