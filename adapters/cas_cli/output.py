"""How commands speak: tables for people, JSON for programs."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
store_argument = click.argument("store", metavar="STORE")
"""A directory, or a URI such as cas:///srv/models; it may name a place inside the store."""


def print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table on stdout; all columns but the last are narrow, and numbers (all but the last) are right-aligned."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in columns[:-1]:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(columns[-1], overflow="fold")
    for row in rows:
        table.add_row(*row)
    console().print(table)


def console(*, stderr: bool = False) -> Console:
    """Rich's console, which shows text as it is: a path is no number, and "[/b]" in it no markup.

    A program that reads our output gets each row on one line, however long.
    """
    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = 10_000
    return made


def size(number: int) -> str:
    """Bytes for people, in powers of a thousand."""
    return decimal(number)
