"""`cas bundle`."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import click

from cas import bundle as bundles
from cas.backends.bundle import BundleBackend
from cas.roots import find_store, parse_uri
from cas.store import Store
from cas.verify import verify as verify_store
from cas_cli.mirroring import print_report, target_store
from cas_cli.output import as_json, size

EXIT_DAMAGED = 20


@click.group()
def bundle() -> None:
    """Models, experiments or a whole store in one file, for a machine that no network reaches."""


@bundle.command()
@click.argument("source", metavar="SRC")
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@as_json
def create(source: str, file: Path, as_json: bool) -> None:
    """Write SRC, a store or a place in one, into FILE: a tar archive, verified as it is written.

    One that was broken off is gone on with when the same command is given again. Exit code 1 if anything could
    not be read; then there is no FILE yet.
    """
    root, inside = find_store(parse_uri(source))
    report = bundles.create(Store.open(root), file, inside)
    print_report(report, as_json=as_json)


@bundle.command("import")
@click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", metavar="DST")
@as_json
def import_(file: Path, target: str, as_json: bool) -> None:
    """Take over what FILE holds into the store DST, as `cas mirror` does: only what is missing moves."""
    print_report(bundles.take(file, target_store(target)), as_json=as_json)


@bundle.command()
@click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def verify(file: Path) -> None:
    """Read every byte of FILE and compare it with its digest. Exit code 20 for damage."""
    with closing(BundleBackend(file)) as backend:
        report = verify_store(Store.open(backend))
    click.echo(f"read {size(report.bytes)}: {report.blobs} blobs, {report.files} files")
    for problem in report.problems:
        click.echo(f"{problem.kind}: {problem.key}: {problem.reason}")
    if report.problems:
        sys.exit(EXIT_DAMAGED)
