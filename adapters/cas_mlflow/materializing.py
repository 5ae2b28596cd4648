"""Models as plain directories, or plain objects of a bucket, which need neither this package nor the Hub."""

from __future__ import annotations

from pathlib import Path

from cas.backends.bucket import Bucket
from cas.checkout import Checkout
from cas.links import OWN
from cas.roots import parse_uri
from cas.supply import Origins
from cas_mlflow.boundary import checked_destination, mlflow_errors
from cas_mlflow.exporting import export
from cas_mlflow.locations import MLMODEL, ModelPlace, model_places
from cas_mlflow.persisting import entry_of, hub_files, read_small
from cas_mlflow.stock import is_reference, persisted


def materialize(model_uri: str, destination: str | Path) -> str:
    """Write a model out whole, as a plain MLflow model directory, into ``destination``: an existing, empty
    directory, or an empty prefix of a bucket (``s3://bucket/prefix``). Returns where.

    Weights that are still on the Hub are fetched, verified, and written there; the store is left as it is. The
    files are the destination's own; between buckets at one endpoint the server copies them. Raises
    MlflowException.
    """
    place = model_places(model_uri)[0]
    if "://" in str(destination):
        with mlflow_errors():
            bucket = parse_uri(str(destination))
            if isinstance(bucket, Bucket):
                export(place, bucket)
                return str(destination)
            destination = bucket
    return str(_write_directory(place, Path(checked_destination(str(destination)))))


def _write_directory(place: ModelPlace, destination: Path) -> Path:
    with mlflow_errors():
        place.root.checkout(place.path, destination, strip=place.path)
        mlmodel = place.read(MLMODEL)
        if is_reference(mlmodel):
            _complete(place, mlmodel, destination)
    return destination


def _complete(place: ModelPlace, mlmodel: bytes, destination: Path) -> None:
    """Add what a model that was logged by name only lacks. Its MLmodel comes last: before, it is as it was."""
    hub, files = hub_files(mlmodel)
    contents = read_small(hub, files)
    weights = [entry_of(path, file) for path, file in files.items() if path not in contents]
    cache = place.root.store.cache
    cache.fetch(weights, Origins())
    there = sum(file.stat().st_size for file in destination.rglob("*") if file.is_file())
    contents[MLMODEL] = persisted(mlmodel, there + sum(file.size for file in files.values())).encode()
    with Checkout(destination, OWN) as checkout:
        for entry in sorted(weights, key=lambda entry: entry.path):
            path = cache.find(entry)
            assert path is not None
            checkout.link(entry.path, path, entry.size)
        for name, data in sorted(contents.items(), key=lambda item: (item[0] == MLMODEL, item[0])):
            checkout.write_bytes(name, data)
