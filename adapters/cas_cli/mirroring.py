"""`cas mirror`, and what it says."""

from __future__ import annotations

import sys

import click

from cas import mirror as mirrors
from cas.fetch import How
from cas.roots import find_store, parse_uri
from cas.store import Store
from cas_cli.output import as_json, print_json, size


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@as_json
def mirror(source: str, target: str, as_json: bool) -> None:
    """Take over what was logged into SRC, a store or a place in one, into the store DST, under the same paths.

    Only what is missing moves: between buckets at one endpoint the server copies, everything else is verified on
    its way. Doing it again goes on where it stopped. What was removed in SRC is removed in DST; what was logged
    into DST itself stays, and wins where it is later. Exit code 1 if anything could not be taken over.
    """
    root, inside = find_store(parse_uri(source))
    print_report(mirrors.mirror(Store.open(root), target_store(target), inside), as_json=as_json)


def target_store(uri: str) -> Store:
    """The store that a URI names, which may not be a place inside one."""
    root, inside = find_store(parse_uri(uri))
    if inside:
        raise click.UsageError(f"{uri} is a place inside a store; name the store itself: paths stay as they are")
    return Store.open(root)


def print_report(report: mirrors.MirrorReport, *, as_json: bool) -> None:
    """What was taken over; exit code 1 if anything was not."""
    amounts = {how.value: report.fetched.bytes[how] for how in How}
    if as_json:
        document = {"roots": report.roots, "changed": report.changed, "bytes": amounts}
        print_json(document | {"failed": [each._asdict() for each in report.failed]})
    else:
        text = ", ".join(f"{size(count)} {how}" for how, count in amounts.items() if count) or "no bytes to move"
        click.echo(f"{report.changed} of {report.roots} artifact roots changed: {text}")
    for each in report.failed:
        click.echo(f"cas: {each.root or 'the store itself'} was not taken over: {each.reason}", err=True)
    if report.failed:
        sys.exit(1)
