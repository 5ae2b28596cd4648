"""`cas gc`, `cas pin`, `cas unpin` and `cas pins`."""

from __future__ import annotations

import sys

import click

from cas import collect
from cas import pins as kept
from cas.plan import Plan
from cas.roots import find_store, parse_uri
from cas.store import Store
from cas_cli.durations import date, duration
from cas_cli.output import as_json, print_json, print_table, size, store_argument


@click.command()
@store_argument
@click.option("--dry-run", is_flag=True, help="Only print what would be done.")
@click.option(
    "--grace",
    metavar="TIME",
    default="24h",
    show_default=True,
    help="For how long what nobody needs stays for those who are reading it, such as 30m, 24h, 7d or 0s.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
def gc(store: str, dry_run: bool, grace: str, yes: bool, as_json: bool) -> None:
    """Give back what no manifest of STORE names and no writer needs.

    Prints a plan, asks, and does what the plan says. What nobody needs is condemned first, and deleted by the first
    `cas gc` after the grace period: so run it regularly. With --grace 0s it goes at once, and only readers notice:
    whoever logs loses nothing. It may run while models are logged and loaded, and several times at once. What dead
    writers left behind goes, too.
    """
    seconds = duration(grace)
    if as_json and not (yes or dry_run):
        raise click.UsageError("--json cannot ask; say --yes, or --dry-run")
    opened = _open(store)
    plan = collect.plan(opened, grace=seconds)
    if not as_json:
        _print(plan)
    if not dry_run and not yes and list(plan.steps()):
        _ask()
    done = None if dry_run else collect.execute(opened, plan)
    if as_json:
        print_json(_document(plan, done))
    elif done is not None:
        click.echo(_told(plan, done))


@click.command()
@store_argument
@as_json
def pin(store: str, as_json: bool) -> None:
    """Keep what lies at STORE now, a place inside a store, until it is unpinned, whatever MLflow forgets.

    It stays readable at the place this prints.
    """
    root, inside = find_store(parse_uri(store))
    opened = Store.open(root)
    made = kept.pin(opened, inside)
    if as_json:
        print_json(_pin(opened, made))
    else:
        click.echo(f"pinned {len(made.paths)} files, {size(made.bytes)}, as {made.id}")
        click.echo(f"they stay readable below {opened.uri}/{made.place}")


@click.command()
@store_argument
@click.argument("pin_id", metavar="PIN")
@as_json
def unpin(store: str, pin_id: str, as_json: bool) -> None:
    """Forget the pin PIN of STORE. Bytes that only it kept go with a later `cas gc`."""
    opened = _open(store)
    gone = kept.unpin(opened, pin_id)
    if as_json:
        print_json(_pin(opened, gone))
    else:
        click.echo(f"forgot {gone.id}, which kept {len(gone.paths)} files, {size(gone.bytes)}")


@click.command()
@store_argument
@as_json
def pins(store: str, as_json: bool) -> None:
    """List the pins of STORE."""
    opened = _open(store)
    found = kept.pins(opened)
    if as_json:
        print_json([_pin(opened, each) for each in found])
    else:
        print_table("", ["pin", "files", "size", "first file"], [_row(each) for each in found])


def _ask() -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("there is nobody to ask; say --yes to do it, or --dry-run to see it")
    click.confirm("Do this?", abort=True, err=True)


def _print(plan: Plan) -> None:
    rows = [
        [
            step.what,
            str(step.number),
            size(step.bytes) if step.bytes else "",
            "" if step.oldest is None else date(step.oldest),
            step.why,
        ]
        for step in plan.steps()
    ]
    if rows:
        print_table("", ["do", "number", "size", "oldest", "why"], rows)
    click.echo(f"{plan.blobs} blobs go, which frees {size(plan.bytes)}" if rows else "there is nothing to do")


def _told(plan: Plan, done: collect.Collected) -> str:
    parts = [f"deleted {done.blobs} blobs, which freed {size(done.bytes)}"]
    if done.condemned and not done.blobs:
        parts.append(f"condemned {done.condemned}: run this again in {plan.grace / 3600:g} hours")
    if done.kept:
        parts.append(f"{done.kept} are needed again, and stay")
    return "; ".join(parts)


def _document(plan: Plan, done: collect.Collected | None) -> dict[str, object]:
    document: dict[str, object] = {
        "plan": [
            {"do": step.what, "number": step.number, "bytes": step.bytes, "oldest": step.oldest, "why": step.why}
            for step in plan.steps()
        ],
        "blobs": plan.blobs,
        "bytes": plan.bytes,
    }
    if done is not None:
        document["done"] = {
            "blobs": done.blobs,
            "bytes": done.bytes,
            "condemned": done.condemned,
            "kept": done.kept,
        }
    return document


def _pin(store: Store, each: kept.Pin) -> dict[str, object]:
    return {"pin": each.id, "place": f"{store.uri}/{each.place}", "bytes": each.bytes, "paths": list(each.paths)}


def _row(each: kept.Pin) -> list[str]:
    return [each.id, str(len(each.paths)), size(each.bytes), each.paths[0]]


def _open(store: str) -> Store:
    """A store is collected as a whole, whichever place in it was named."""
    return Store.open(find_store(parse_uri(store))[0])
