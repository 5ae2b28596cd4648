"""`cas repair`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cas.backups import Directory
from cas.errors import InvalidInput, StoreNotFound
from cas.fetch import How
from cas.repair import repair as repair_store
from cas.roots import find_store, parse_uri
from cas.store import Store
from cas_cli.output import as_json, print_json, size, store_argument

EXIT_LOST = 20


@click.command()
@store_argument
@click.option(
    "--from",
    "backups",
    metavar="STORE|DIR",
    multiple=True,
    help="Another store, such as a mirror, or a directory with files of whatever names. May be given many times.",
)
@as_json
def repair(store: str, *, backups: tuple[str, ...], as_json: bool) -> None:
    """Bring back every blob that STORE, or a place in it, needs and has lost.

    Looked for in what --from names, in this machine's caches (also that of huggingface_hub), and at the origins.
    Nothing is believed before it was hashed. Run `cas verify` first: it finds the damage that cannot be seen from
    outside. Exit code 20 if anything could not be brought back; it is named, with the models that need it.
    """
    root, inside = find_store(parse_uri(store))
    stores, directories = _backups(backups)
    report = repair_store(Store.open(root), inside, stores=stores, directories=directories)
    amounts = {how.value: report.repaired.bytes[how] for how in How if report.repaired.bytes[how]}
    if as_json:
        lost = [each._asdict() for each in report.lost]
        malformed = [{"key": each.key, "reason": each.reason} for each in report.malformed]
        count = sum(report.repaired.files.values())
        print_json({"repaired": count, "bytes": amounts, "lost": lost, "malformed": malformed})
    else:
        text = ", ".join(f"{size(count)} {how}" for how, count in amounts.items()) or "nothing"
        click.echo(f"brought back: {text}")
        for loss in report.lost:
            click.echo(f"lost: {loss.key}: {loss.reason}")
            for model in loss.models:
                click.echo(f"    needed by {model}")
        for record in report.malformed:
            click.echo(f"cannot be read: {record.key}: {record.reason}; `cas mirror` from a store that has it")
    if report.lost or report.malformed:
        sys.exit(EXIT_LOST)


def _backups(names: tuple[str, ...]) -> tuple[list[Store], list[Directory]]:
    stores, directories = [], []
    for name in names:
        where = parse_uri(name)
        try:
            stores.append(Store.open(find_store(where)[0]))
        except StoreNotFound:
            if not isinstance(where, Path) or not where.is_dir():
                raise InvalidInput(f"--from {name}: neither a store nor a directory") from None
            directories.append(Directory(where))
    return stores, directories
