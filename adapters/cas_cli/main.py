"""The command `cas`.

Data goes to stdout, progress and errors to stderr. Exit codes:

\b
    0   done, and nothing wrong found
    1   could not be done: the message says what, where, and what to do next
    2   the command line itself is wrong
    10  `cas doctor` found something to fix
    20  `cas verify` found damage, or `cas repair` could not undo all of it
    21  a source lacks what is missing here (`cas references --check`, `cas verify --sources`)
    22  `cas verify` found that blobs are missing, and no damage
    130 interrupted
"""  # noqa: D301  (click takes a backspace for "leave these lines as they are")

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from typing import Any

import click

from cas.errors import CasError
from cas_cli.bundling import bundle
from cas_cli.caching import cache
from cas_cli.collecting import gc, pin, pins, unpin
from cas_cli.doctor import doctor
from cas_cli.listing import init, ls
from cas_cli.mirroring import mirror
from cas_cli.repairing import repair
from cas_cli.reports import stats
from cas_cli.verifying import verify

_GROUP = "cas.commands"


class _Group(click.Group):
    """Turns the errors of the store, and of the operating system, into one line and exit code 1.

    Other packages add commands under the entry-point group `cas.commands`; one is imported when it is used, or
    when help lists it.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *entry_points(group=_GROUP).names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        for each in () if found else entry_points(group=_GROUP, name=cmd_name):
            found = each.load()
        return found

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (CasError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise  # the reader of our output has gone; click knows what to do
            click.echo(f"cas: {error}", err=True)
            sys.exit(1)


@click.group(cls=_Group, help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mlflow-cas", prog_name="cas")
def main() -> None:
    pass


for _command in (init, ls, stats, verify, repair, doctor, cache, mirror, bundle, gc, pin, unpin, pins):
    main.add_command(_command)
