"""From a model URI to the places of a store where the model's files are."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST
from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository
from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository
from mlflow.tracking.artifact_utils import get_artifact_uri

from cas.artifact_root import ArtifactRoot
from cas.paths import join
from cas.roots import is_store_uri, locate
from cas_mlflow.boundary import mlflow_errors
from cas_mlflow.stores import open_place

MLMODEL = "MLmodel"


class ModelPlace(NamedTuple):
    """The model at ``path`` of an artifact root."""

    root: ArtifactRoot
    path: str

    def at(self, name: str) -> str:
        """The path, in the artifact root, of a file or directory of the model."""
        return join(self.path, name)

    def read(self, name: str) -> bytes:
        with self.root.open(self.at(name)) as file:
            return file.read()

    def __str__(self) -> str:
        return join(self.root.store.uri, self.root.path, self.path)


def is_own(uri: str | Path) -> bool:
    """Whether this process reaches the store behind an artifact URI itself."""
    return is_store_uri(str(uri))


def experiment_location() -> str:
    """The artifact location of the experiment that a model would be logged to now."""
    run = mlflow.active_run()
    experiment_id = run.info.experiment_id if run else mlflow.tracking.fluent._get_experiment_id()
    location: str = MlflowClient().get_experiment(experiment_id).artifact_location
    return location


def model_places(model_uri: str) -> list[ModelPlace]:
    """Where the files of a model are, of which there may be two: `runs:/` names a run's artifacts and the model
    logged by it.

    Raises MlflowException if there is no model, or if it is not in a store that this process reaches.
    """
    found = [place for uri in _artifact_uris(model_uri) if (place := _model_at(uri, model_uri)) is not None]
    if not found:
        raise MlflowException(f"There is no MLmodel at {model_uri}.", RESOURCE_DOES_NOT_EXIST)
    return found


def _model_at(uri: str, model_uri: str) -> ModelPlace | None:
    if not is_own(uri):
        raise MlflowException(
            f"The artifacts of {model_uri} are at {uri}, which is no store this process can open. Where a tracking"
            " server stores artifacts for its clients, run `cas persist` on a machine that has the store, with"
            " the model's place in it, such as cas:///srv/store/7/models/m-…/artifacts.",
            INVALID_PARAMETER_VALUE,
        )
    with mlflow_errors():
        place = open_place(uri)
        root, path = locate(place.base)
        model = ModelPlace(place.store.artifact_root(root), path)
        return model if model.root.manifest().get(model.at(MLMODEL)) else None


def _artifact_uris(model_uri: str) -> list[str]:
    """Every place a model URI may mean, most telling first."""
    uri = str(model_uri).rstrip("/")
    if RunsArtifactRepository.is_runs_uri(uri):
        run_id, path = RunsArtifactRepository.parse_runs_uri(uri)
        return [*_logged_models(run_id, path or ""), get_artifact_uri(run_id, path)]
    if ModelsArtifactRepository.is_models_uri(uri):
        base, inside = ModelsArtifactRepository.split_models_uri(uri)
        underlying = ModelsArtifactRepository.get_underlying_uri(base).rstrip("/")
        if RunsArtifactRepository.is_runs_uri(underlying) or ModelsArtifactRepository.is_models_uri(underlying):
            return [join(each, inside) for each in _artifact_uris(underlying)]
        return [join(underlying, inside)]
    return [uri]


def _logged_models(run_id: str, name: str) -> list[str]:
    client = MlflowClient()
    found = client.search_logged_models(
        [client.get_run(run_id).info.experiment_id],
        filter_string=f"name = '{name}' AND source_run_id = '{run_id}'",
    )
    return [model.artifact_location for model in found]
