"""Making models complete: references of ours, and models that plain MLflow logged without their weights."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import mlflow
from mlflow.entities.model_registry import ModelVersion

from cas.errors import InvalidInput
from cas.fetch import FetchReport, How
from cas.manifest import Entry
from cas.references import persist as persist_root
from cas.references import persist_files
from cas.sources import RemoteFile, Source, source
from cas_mlflow.boundary import mlflow_errors
from cas_mlflow.locations import MLMODEL, ModelPlace, model_places
from cas_mlflow.stock import is_reference, needs, persisted, select

_SCHEME = "hf"
_READ_AT_ONCE = 8
_SMALL = 1 << 20
"""Files up to this size in bytes are read whole, others streamed."""


@dataclass(slots=True)
class PersistReport:
    """What persisting a model did. ``converted`` says that MLflow had logged it as a name and a revision only."""

    places: list[str] = field(default_factory=list)
    converted: bool = False
    fetched: FetchReport = field(default_factory=FetchReport)

    def add(self, place: ModelPlace, fetched: FetchReport) -> None:
        self.places.append(str(place))
        self.fetched.files.update(fetched.files)
        self.fetched.bytes.update(fetched.bytes)

    def bytes(self, how: str) -> int:
        """Bytes that were ``linked``, ``copied``, ``streamed`` or ``already there``."""
        return self.fetched.bytes[How(how)]


def persist(model_uri: str) -> PersistReport:
    """Have every byte of a model in its store, as it is on the Hub, without loading the model.

    For models of :func:`cas_mlflow.log_reference`, and for those that `mlflow.transformers.log_model` logged with
    `save_pretrained=False`, by any URI of theirs: `models:/`, `runs:/`, of the registry, or `cas:`. Each place is
    changed at once or not at all. Doing it again does nothing. What a failed, or killed, attempt has fetched is
    not fetched again.

    Raises MlflowException: the message says which file of which repository could not be had, and why.
    """
    places = model_places(model_uri)
    report = PersistReport()
    with mlflow_errors():
        for place in places:
            mlmodel = place.read(MLMODEL)
            if is_reference(mlmodel):
                report.converted = True
                report.add(place, _convert(place, mlmodel))
            else:
                report.add(place, persist_root(place.root, place.path))
    return report


def register_model(model_uri: str, name: str, **options: Any) -> ModelVersion:
    """Persist a model, then register it as `mlflow.register_model` does: what a version stands for must not
    depend on somebody else's server."""
    persist(model_uri)
    return mlflow.register_model(model_uri, name, **options)


def hub_files(mlmodel: bytes) -> tuple[Source, dict[str, RemoteFile]]:
    """Which file of the Hub goes to which path of a model that was logged by name and revision only."""
    hub = source(_SCHEME)
    files: dict[str, RemoteFile] = {}
    for need in needs(mlmodel):
        snapshot = hub.snapshot(need.repo, need.revision)
        files |= select(need, snapshot)
    return hub, files


def read_small(hub: Source, files: Mapping[str, RemoteFile]) -> dict[str, bytes]:
    """The contents of those files that are small, or that only reading can verify."""
    small = {path: file for path, file in files.items() if file.digest is None or file.size <= _SMALL}
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        return dict(zip(small, pool.map(hub.read, small.values()), strict=True))


def entry_of(path: str, file: RemoteFile) -> Entry:
    if file.digest is None:
        raise InvalidInput(f"{file.origin} has no digest to verify it by")
    return Entry(path, file.size, file.digest, file.origin)


def _convert(place: ModelPlace, mlmodel: bytes) -> FetchReport:
    """The files of the Hub, verbatim, and the MLmodel that MLflow's own persist_pretrained_model would leave."""
    hub, files = hub_files(mlmodel)
    contents = read_small(hub, files)
    weights = [entry_of(place.at(path), file) for path, file in files.items() if path not in contents]
    there = sum(entry.size for entry in place.root.manifest().below(place.path))
    size = there + sum(file.size for file in files.values())
    contents = {place.at(path): data for path, data in contents.items()}
    contents[place.at(MLMODEL)] = persisted(mlmodel, size).encode()
    return persist_files(place.root, weights, contents)
