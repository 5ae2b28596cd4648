"""`cas stats`."""

from __future__ import annotations

from dataclasses import asdict

import click

from cas import stats as statistics
from cas.roots import find_store, parse_uri
from cas.store import Store
from cas_cli.output import as_json, print_json, print_table, size, store_argument


@click.command()
@store_argument
@click.option("--largest", type=int, default=10, show_default=True, help="How many of the largest blobs to name.")
@as_json
def stats(store: str, largest: int, as_json: bool) -> None:
    """Logical and stored bytes of STORE, per experiment, and its largest blobs."""
    found = statistics.stats(_open(store), largest=largest)
    if as_json:
        print_json(_stats_document(found))
        return
    total = found.total
    click.echo(f"logged    {size(total.logical)} in {total.files} files")
    click.echo(
        f"stored    {size(total.stored)}: {found.blobs} blobs of {size(found.blob_bytes)},"
        f" records of {size(found.record_bytes)}"
        + (f", in quarantine {size(found.quarantined_bytes)}" if found.quarantined_bytes else "")
    )
    click.echo(f"ratio     {total.ratio:.2f}")
    click.echo(f"not in any manifest now: {size(found.unreferenced)}\n")
    rows = [
        [str(usage.files), size(usage.logical), size(usage.stored), f"{usage.ratio:.2f}", name]
        for name, usage in found.experiments.items()
    ]
    print_table("Experiments", ["files", "logged", "stored", "ratio", "experiment"], rows)
    click.echo()
    rows = [[size(bytes_), str(uses), key] for key, bytes_, uses in found.largest]
    print_table("Largest blobs", ["size", "uses", "blob"], rows)


def _open(store: str) -> Store:
    return Store.open(find_store(parse_uri(store))[0])


def _stats_document(found: statistics.Stats) -> dict[str, object]:
    document = asdict(found)
    document["total"]["ratio"] = found.total.ratio
    for name, usage in found.experiments.items():
        document["experiments"][name]["ratio"] = usage.ratio
    document["largest"] = [{"key": key, "size": bytes_, "uses": uses} for key, bytes_, uses in found.largest]
    return document
