"""`cas persist` and `cas references`; the command `cas` finds them by their entry points."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from cas.artifact_root import ArtifactRoot
from cas.errors import OriginGated, OriginGone, OriginMoved
from cas.fetch import How
from cas.paths import join
from cas.references import check as check_references
from cas.references import references as references_of
from cas.roots import find_store, parse_uri
from cas.sources import OriginStatus
from cas.store import Store

EXIT_SOURCE_GONE = 21
_MLMODEL = "MLmodel"
_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")


@click.command()
@click.argument("uris", metavar="URI…", nargs=-1, required=True)
@click.option(
    "--to",
    "destination",
    metavar="DIR|s3://BUCKET/PREFIX",
    help="Leave the store as it is, and write the whole model there, as a plain MLflow model directory.",
)
@_as_json
def persist(uris: tuple[str, ...], destination: str | None, as_json: bool) -> None:
    """Have every byte of the models at URI… in their store, verified, as it is on the Hub.

    A URI is what MLflow calls a model (models:/…, runs:/…) or a place in a store (cas:///…). Models are not loaded.
    What was fetched before a failure is not fetched again.
    """
    from mlflow.exceptions import MlflowException

    from cas_mlflow.materializing import materialize
    from cas_mlflow.persisting import persist as persist_model

    documents: list[dict[str, object]] = []
    for uri in uris:
        try:
            if destination is not None:
                if len(uris) > 1:
                    raise click.UsageError("--to takes one URI")
                if "://" not in destination:
                    Path(destination).mkdir(parents=True, exist_ok=True)
                documents.append({"uri": uri, "destination": materialize(uri, destination)})
                text = f"{uri}: written to {destination}"
            else:
                report = persist_model(uri)
                amounts = {how.value: report.fetched.bytes[how] for how in How}
                documents.append({"uri": uri, "places": report.places, "bytes": amounts})
                text = f"{uri}: " + ", ".join(f"{count} bytes {how}" for how, count in amounts.items() if count)
                text = text if any(amounts.values()) else f"{uri}: nothing to fetch"
        except MlflowException as error:
            click.echo(f"cas: {uri}: {error.message}", err=True)
            sys.exit(1)
        if not as_json:
            click.echo(text)
    if as_json:
        click.echo(json.dumps(documents, indent=2))


class Reference(NamedTuple):
    """A model that lacks ``files`` files of ``bytes`` bytes; None where only the Hub knows."""

    model: str
    source: str
    files: int | None
    bytes: int | None
    status: str | None = None


@click.command()
@click.argument("store", metavar="STORE")
@click.option(
    "--check", is_flag=True, help="Ask the Hub whether it still has what is missing. Exit code 21 if not."
)
@_as_json
def references(store: str, check: bool, as_json: bool) -> None:
    """List the models in STORE, a store or a place in one, whose weights are not in it."""
    root, inside = find_store(parse_uri(store))
    found = [_checked(*each) if check else each[0] for each in _found(Store.open(root), inside)]
    if as_json:
        click.echo(json.dumps([each._asdict() for each in found], indent=2))
    for each in () if as_json else found:
        lacks = "weights" if each.files is None else f"{each.files} files of {each.bytes} bytes"
        click.echo(f"{each.model}: lacks {lacks} of {each.source}" + (f": {each.status}" if each.status else ""))
    if any(each.status not in (None, OriginStatus.OK) for each in found):
        sys.exit(EXIT_SOURCE_GONE)


def _found(store: Store, below: str) -> Iterator[tuple[Reference, ArtifactRoot, str]]:
    """Every model with references, and every model that MLflow logged by name only."""
    from cas_mlflow.stock import is_reference, needs

    for root in store.artifact_roots(below):
        for entry in root.manifest():
            directory, _, name = entry.path.rpartition("/")
            if name != _MLMODEL:
                continue
            where = join(root.path, directory)
            if missing := references_of(root, directory):
                source = str(missing[0].origin).rpartition("@")[0]
                total = sum(each.size for each in missing)
                yield Reference(where, source, len(missing), total), root, directory
            with root.open(entry.path) as file:
                text = file.read()
            if is_reference(text):
                source = ", ".join(sorted({need.repo for need in needs(text)}))
                yield Reference(where, f"hf://models/{source}", None, None), root, directory


def _checked(reference: Reference, root: ArtifactRoot, directory: str) -> Reference:
    if reference.files is None:
        return reference._replace(status=_status_of_stock(root, directory))
    statuses = {each.status for each in check_references(references_of(root, directory))}
    return reference._replace(status=max(statuses, key=list(OriginStatus).index).value)


def _status_of_stock(root: ArtifactRoot, directory: str) -> str:
    from cas_mlflow.persisting import hub_files

    try:
        with root.open(join(directory, _MLMODEL)) as file:
            hub_files(file.read())
    except OriginGated:
        return OriginStatus.GATED.value
    except OriginGone:
        return OriginStatus.GONE.value
    except OriginMoved:
        return OriginStatus.CHANGED.value
    return OriginStatus.OK.value
