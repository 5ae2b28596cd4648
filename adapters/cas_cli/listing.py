"""`cas init` and `cas ls`."""

from __future__ import annotations

import click

from cas.errors import PathNotFound
from cas.manifest import Entry, Listed
from cas.place import Place
from cas.roots import find_store, parse_uri
from cas.settings import DEFAULT_INLINE_LIMIT
from cas.store import Store
from cas_cli.output import as_json, print_json, print_table, size, store_argument


@click.command()
@store_argument
@click.option("--sha256", is_flag=True, help="Let every blob be found by its sha256, too; hashing costs more.")
@click.option(
    "--inline-limit",
    type=int,
    default=DEFAULT_INLINE_LIMIT,
    show_default=True,
    help="Files up to this many bytes live inside the manifest's records.",
)
@as_json
def init(store: str, sha256: bool, inline_limit: int, as_json: bool) -> None:
    """Make an empty store at STORE, a directory (made if missing), or a URI: cas:///dir, cas-s3://bucket/prefix.

    A bucket is probed first: one where concurrent writers can overwrite each other cannot hold a store.
    """
    made = Store.create(store, inline_limit=inline_limit, aliases=("sha256",) if sha256 else ())
    if as_json:
        print_json({"store": made.name, "id": made.settings.id})
    else:
        click.echo(f"made an empty store at {made.name}")
        click.echo(f"point MLflow at it: mlflow server --artifacts-destination {made.uri}")


@click.command()
@store_argument
@click.option("-r", "--recursive", is_flag=True, help="List every file below, not only what lies directly there.")
@as_json
def ls(store: str, recursive: bool, as_json: bool) -> None:
    """List what lies at STORE: a store, or any place inside one."""
    root, inside = find_store(parse_uri(store))
    place = Place(Store.open(root))
    listed = _recursive(place, inside) if recursive else _direct(place, inside)
    if as_json:
        print_json([_document(each) for each in listed])
    else:
        print_table("", ["size", "digest", "path"], [_row(each) for each in listed])


def _direct(place: Place, path: str) -> list[Listed]:
    entry = place.entry(path)
    if entry is not None:
        return [Listed(path, entry)]
    found = place.list(path)
    if not found and path:
        raise PathNotFound(path, place.store.name)
    return found


def _recursive(place: Place, path: str) -> list[Listed]:
    found = []
    for listed in _direct(place, path):
        found += [listed] if listed.entry is not None else _recursive(place, listed.path)
    return found


def _document(listed: Listed) -> dict[str, object]:
    entry = listed.entry
    if entry is None:
        return {"path": listed.path, "directory": True}
    return {"path": listed.path, "size": entry.size, "digest": str(entry.digest), "held": _where(entry)}


def _row(listed: Listed) -> list[str]:
    entry = listed.entry
    if entry is None:
        return ["", "", listed.path + "/"]
    return [size(entry.size), str(entry.digest)[:19], listed.path]


def _where(entry: Entry) -> str:
    return "blob" if entry.blob else "inline" if entry.inline else "reference"
