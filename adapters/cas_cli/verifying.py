"""`cas verify`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import click

from cas.config import parse_size
from cas.pace import Pace
from cas.roots import find_store, parse_uri
from cas.store import Store
from cas.verify import Kind, Progress, Report
from cas.verify import verify as verify_store
from cas_cli.output import as_json, console, print_json, size, store_argument

# The worst first: what is found of several kinds has the exit code of the first.
_EXIT_CODES = {Kind.DAMAGED: 20, Kind.MALFORMED: 20, Kind.MISSING: 22, Kind.GONE: 21}


def _rate(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Pace:
    try:
        return Pace(parse_size(value.removesuffix("/s")) if value else None)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@store_argument
@click.option("--quick", is_flag=True, help="Read no blob: only see that each is there, of its size, and sealed.")
@click.option("--sources", is_flag=True, help="Also ask the sources of references whether they still have them.")
@click.option("--resume", is_flag=True, help="Go on where the last one, of the same place, was broken off.")
@click.option("--rate", "pace", metavar="SIZE", callback=_rate, help="Read so many bytes a second at most: 200MB.")
@as_json
def verify(store: str, *, quick: bool, sources: bool, resume: bool, pace: Pace, as_json: bool) -> None:
    """Read every byte of STORE and compare it with its digest.

    STORE may name a place inside: then what its files need is read. Damaged blobs are put into quarantine; every
    model that needs one is named. Exit code 20 for damage, 22 for blobs that are missing, 21 for references whose
    source does not have them any more.
    """
    if quick and (resume or pace.is_limited):
        raise click.UsageError("--quick reads nothing that --resume or --rate would spare")
    root, inside = find_store(parse_uri(store))
    opened = Store.open(root)
    with _progress(opened, inside, quick=quick) as progress:
        report = verify_store(
            opened, inside, quick=quick, sources=sources, resume=resume, pace=pace, progress=progress
        )
    if as_json:
        print_json(asdict(report))
    else:
        _print(report)
    for kind, code in _EXIT_CODES.items():
        if any(problem.kind is kind for problem in report.problems):
            sys.exit(code)


def _print(report: Report) -> None:
    click.echo(f"read {size(report.bytes)}: {report.blobs} blobs, {report.files} files")
    if report.references:
        click.echo(f"references, whose bytes are not here: {report.references}")
    if report.quarantined:
        click.echo(f"in quarantine: {report.quarantined} blobs")
    for problem in report.problems:
        click.echo(f"{problem.kind}: {problem.key}: {problem.reason}")
        for model in problem.models:
            click.echo(f"    needed by {model}")
        if not problem.models:
            click.echo("    needed by no manifest")
    click.echo("nothing is damaged" if not report.problems else f"{len(report.problems)} problems")


@contextmanager
def _progress(store: Store, inside: str, *, quick: bool) -> Iterator[Progress]:
    """A progress bar on stderr, with an estimate of the time left, if that is a terminal."""
    if quick or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    # What a place needs is known only after its manifests were read: then the bar has no end.
    total = None if inside else sum(bytes_ for _, bytes_ in store.blobs.listing())
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True)) as bar:
        task = bar.add_task("verify", total=total)
        yield lambda count: bar.advance(task, count)
