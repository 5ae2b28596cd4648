"""`cas cache`: what this machine has fetched, and making room."""

from __future__ import annotations

import time
from pathlib import Path

import click

from cas.cache import Cache
from cas.config import cache_limit, cache_path, parse_size
from cas.errors import InvalidInput
from cas.eviction import Evicted
from cas_cli.durations import date, duration
from cas_cli.output import as_json, print_json, print_table, size

_directory = click.option(
    "--cache",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Another cache than that of CAS_CACHE.",
)


@click.group()
def cache() -> None:
    """The blobs this machine has fetched. Everything in it can be fetched again."""


@cache.command()
@_directory
@as_json
def ls(directory: Path | None, as_json: bool) -> None:
    """List the blobs in the cache, the one used longest ago first."""
    opened = _open(directory)
    found = opened.contents()
    total = sum(each.size for each in found)
    if as_json:
        blobs = [
            {"digest": str(each.digest), "size": each.size, "used": each.used, "in_use": each.in_use}
            for each in found
        ]
        print_json({"cache": str(opened.root), "limit": cache_limit(), "bytes": total, "blobs": blobs})
        return
    rows = [
        [size(each.size), date(each.used), "yes" if each.in_use else "", str(each.digest)[:19]] for each in found
    ]
    print_table("", ["size", "last used", "in use", "digest"], rows)
    limit = cache_limit()
    bound = "a tenth of its disk stays free" if limit is None else f"at most {size(limit)}"
    click.echo(f"{len(found)} blobs, {size(total)} in {opened.root}; {bound}")


@cache.command()
@click.option("--size", "to_size", metavar="SIZE", help="Until at most so many bytes are left, such as 50GB.")
@click.option("--older-than", metavar="AGE", help="Only what was not used for so long, such as 30d or 12h.")
@_directory
@as_json
def prune(to_size: str | None, older_than: str | None, directory: Path | None, as_json: bool) -> None:
    """Delete what was used longest ago: down to --size (by default, that of CAS_CACHE_SIZE), or by age."""
    limit = cache_limit() if to_size is None else _size(to_size)
    if limit is None and older_than is None:
        raise click.UsageError("say --size or --older-than, or set CAS_CACHE_SIZE")
    before = None if older_than is None else time.time() - duration(older_than)
    _tell(_open(directory).prune(limit if older_than is None or to_size else None, before), as_json=as_json)


@cache.command()
@_directory
@as_json
def clear(directory: Path | None, as_json: bool) -> None:
    """Delete everything that is not in use."""
    _tell(_open(directory).prune(), as_json=as_json)


def _open(directory: Path | None) -> Cache:
    try:
        return Cache(directory.absolute() if directory else cache_path(), cache_limit())
    except ValueError as error:
        raise InvalidInput(f"CAS_CACHE_SIZE: {error}") from None


def _tell(done: Evicted, *, as_json: bool) -> None:
    if as_json:
        print_json({"blobs": done.blobs, "bytes": done.bytes, "in_use": done.in_use, "foreign": done.foreign})
        return
    stayed = f"; {size(done.in_use)} are in use, and stay" if done.in_use else ""
    foreign = f"; {size(done.foreign)} are other users', who alone may delete them" if done.foreign else ""
    click.echo(f"deleted {done.blobs} blobs, which freed {size(done.bytes)}{stayed}{foreign}")


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
