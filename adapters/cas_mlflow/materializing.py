"""Models as plain directories, which need neither this package nor the Hub."""

from __future__ import annotations

from pathlib import Path

from cas.checkout import Checkout
from cas.links import OWN
from cas.supply import Origins
from cas_mlflow.boundary import checked_destination, mlflow_errors
from cas_mlflow.locations import MLMODEL, ModelPlace, model_places
from cas_mlflow.persisting import entry_of, hub_files, read_small
from cas_mlflow.stock import is_reference, persisted


def materialize(model_uri: str, directory: str | Path) -> Path:
    """Write a model out whole, as a plain MLflow model directory, into the existing, empty ``directory``.

    Weights that are still on the Hub are fetched, verified, and written there; the store is left as it is. The
    files are the directory's own. Raises MlflowException.
    """
    place = model_places(model_uri)[0]
    destination = Path(checked_destination(str(directory)))
    with mlflow_errors():
        place.root.checkout(place.path, destination, strip=place.path)
        mlmodel = place.read(MLMODEL)
        if is_reference(mlmodel):
            _complete(place, mlmodel, destination)
    return destination


def _complete(place: ModelPlace, mlmodel: str, destination: Path) -> None:
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
