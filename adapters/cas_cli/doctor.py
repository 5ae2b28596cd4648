"""`cas doctor`: what this machine can do for a store, and what to fix."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click

import cas
from cas.backends.bucket import Bucket
from cas.backends.probe import probe as probe_backend
from cas.checkout import link_modes
from cas.config import link_override, stat_cache_path
from cas.errors import CasError
from cas.links import DISPOSABLE, OWN, Mode, probe
from cas.roots import find_store, parse_uri
from cas.scratch import own_name
from cas.store import Store
from cas_cli.output import as_json, print_json, size, store_argument

EXIT_PROBLEMS = 10
_MLFLOW = ((3, 17), (3, 19))  # from, below: what this version was tested with


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. ``advice`` says what to do where it is not ``ok``."""

    what: str
    found: str
    ok: bool = True
    advice: str = ""


@click.command()
@store_argument
@as_json
def doctor(store: str, as_json: bool) -> None:
    """Look at STORE, its file system, and the versions of MLflow and of this plugin; say what to fix."""
    findings = [*_versions(), *_store(store), *_environment()]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            click.echo(f"{'ok ' if finding.ok else 'FIX'} {finding.what}: {finding.found}")
            if finding.advice:
                click.echo(f"    {finding.advice}")
    if not all(finding.ok for finding in findings):
        sys.exit(EXIT_PROBLEMS)


def _versions() -> Iterator[Finding]:
    yield Finding("mlflow-cas", f"{cas.__version__}, Python {platform.python_version()}, {platform.release()}")
    try:
        version = importlib.metadata.version("mlflow")
    except importlib.metadata.PackageNotFoundError:
        yield Finding("mlflow", "not installed here", ok=False, advice="pip install 'mlflow-cas[mlflow]'")
        return
    tested = _MLFLOW[0] <= tuple(int(part) for part in version.split(".")[:2]) < _MLFLOW[1]
    advice = "" if tested else "this version of the plugin was tested with MLflow 3.17 and 3.18"
    yield Finding("mlflow", version, ok=tested, advice=advice)
    found = importlib.metadata.entry_points(group="mlflow.artifact_repository", name="cas")
    values = sorted({point.value for point in found})
    yield Finding(
        "plugin",
        ", ".join(values) or "not registered with MLflow",
        ok=len(values) == 1,
        advice="" if len(values) == 1 else "install mlflow-cas into the environment MLflow runs in",
    )


def _store(name: str) -> Iterator[Finding]:
    try:
        root, _ = find_store(parse_uri(name))
        store = Store.open(root)
    except CasError as error:
        yield Finding("store", str(error), ok=False, advice="")
        return
    yield Finding(
        "store", f"{root}, id {store.settings.id}, files up to {size(store.settings.inline_limit)} inline"
    )
    if isinstance(root, Bucket):
        yield from _bucket(store)
        return
    usage = shutil.disk_usage(root)
    enough = usage.free > usage.total // 20
    yield Finding(
        "file system",
        f"{_file_system(root)}, {size(usage.free)} of {size(usage.total)} free",
        ok=enough,
        advice="" if enough else "less than 5 % is free; delete runs and collect, or move the store",
    )
    writable = os.access(root / "blobs", os.W_OK) if (root / "blobs").exists() else os.access(root, os.W_OK)
    if not writable or not os.access(root / "tmp", os.W_OK):
        yield Finding("permissions", "this user may read, not log", advice="loads copy instead of linking")
        return
    yield from _links(store)
    here = own_name().rsplit("-", 2)[0]
    others = [each for each in os.listdir(root / "tmp") if not each.startswith(here)]
    if others:
        yield Finding(
            "leftovers",
            f"{len(others)} scratch directories of other machines, containers or boots in {root / 'tmp'}",
            advice="remove those whose processes are gone",
        )


def _bucket(store: Store) -> Iterator[Finding]:
    yield Finding("client", type(store.backend).__name__)
    try:
        probe_backend(store.backend)
    except CasError as error:
        yield Finding("bucket", str(error), ok=False, advice="see docs/object-stores.md")
    else:
        yield Finding("bucket", "create-only puts, listings and ranges do what a store needs")


def _links(store: Store) -> Iterator[Finding]:
    tree = store.scratch.tree()
    for what, target, wanted in (
        ("links for loads through models:/", tree, DISPOSABLE),
        ("links for loads through runs:/", Path(tempfile.mkdtemp(prefix="cas-doctor-")), DISPOSABLE),
        ("copies the user named (beside the store)", tree, OWN),
    ):
        works = probe(tree, target)
        first = next(mode for mode in wanted if works[mode])
        advice = (
            "" if first is not Mode.COPY or wanted is OWN else "loads copy the weights; put the store on a disk"
        )
        yield Finding(what, f"{first} (works: {', '.join(mode for mode in Mode if works[mode])})", advice=advice)
        if target != tree:
            target.rmdir()


def _environment() -> Iterator[Finding]:
    try:
        modes = link_modes(disposable=True, override=link_override())
    except CasError as error:
        yield Finding("CAS_LINK", str(error), ok=False, advice="unset CAS_LINK, or correct it")
    else:
        if link_override():
            yield Finding("CAS_LINK", f"every checkout tries {', '.join(modes)}")
    path = stat_cache_path()
    if path is None:
        yield Finding("stat cache", "off", advice="logging an unchanged file again reads all of it")
        return
    above = next(parent for parent in (path, *path.parents) if parent.exists())
    writable = os.access(above, os.W_OK)
    yield Finding(
        "stat cache",
        str(path),
        ok=writable,
        advice="" if writable else "not writable; set CAS_STAT_CACHE to a file",
    )


def _file_system(path: Path) -> str:
    """The type of the file system that holds ``path``, as the kernel lists it."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        for line in mounts:
            fields, _, tail = line.partition(" - ")
            if fields.split()[2] == wanted:
                return tail.split()[0]
    return "unknown"
