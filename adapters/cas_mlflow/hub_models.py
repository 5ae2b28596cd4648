"""Logging a model that is on the Hub: its small files are stored, its weights stay there until they are needed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models.model import ModelInfo
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from cas.pointer import Pointer
from cas.sources import RemoteFile, Source, source
from cas_mlflow.boundary import mlflow_errors
from cas_mlflow.checkpoints import log_stage
from cas_mlflow.staging import is_weight, pointing
from cas_mlflow.stock import HubNeed, select

_SCHEME = "hf"
_READ_AT_ONCE = 8
_MODEL = "model"


def log_reference(repo_id: str, *, revision: str | None = None, name: str, task: str, **options: Any) -> ModelInfo:
    """Log the model ``repo_id`` of the Hugging Face Hub as a complete model whose weights are references.

    ``revision`` (a branch, tag or commit; by default the main branch) is resolved to a commit, for good. The small
    files are stored; of the weights only sizes and digests, as the Hub lists them: none is downloaded, and no model
    is loaded. MLflow's own loaders fetch them, once per machine, verified; :func:`cas_mlflow.persist` fetches them
    into the store. ``options`` are those of `mlflow.transformers.log_model` for a local checkpoint; with
    ``registered_model_name`` the model is persisted before it is registered.

    Raises MlflowException if the repository, or the revision, cannot be had (the message says why, and what to
    do), or if models are not logged to a store of ours.
    """
    register_as = options.pop("registered_model_name", None)
    with mlflow_errors():
        hub = source(_SCHEME)
        snapshot = hub.snapshot(repo_id, revision)
        inside = select(HubNeed(snapshot.name, snapshot.commit, "", weights=True), snapshot)
        weights = {path: file for path, file in inside.items() if is_weight(path, file.size)}
        small = _read(hub, {path: file for path, file in inside.items() if path not in weights})
    with pointing(small, {path: _pointer(file) for path, file in weights.items()}) as stage:
        options = _with_card(options, hub, snapshot.files)
        info = log_stage(stage, source=snapshot.name, name=name, task=task, **options)
        _check_stored(info.model_id, {path: file.size for path, file in weights.items()})
    if register_as:
        from cas_mlflow.persisting import register_model

        register_model(info.model_uri, register_as)
    return info


def _read(hub: Source, files: Mapping[str, RemoteFile]) -> dict[str, bytes]:
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        return dict(zip(files, pool.map(hub.read, files.values()), strict=True))


def _pointer(file: RemoteFile) -> Pointer:
    if file.digest is None:
        raise MlflowException(
            f"{file.origin}: the Hub gives no sha256 for this file of {file.size} bytes, so it cannot be verified"
            " later. Log the model from a local checkpoint.",
            INVALID_PARAMETER_VALUE,
        )
    return Pointer(file.digest, file.size, origin=file.origin)


def _with_card(options: dict[str, Any], hub: Source, files: Sequence[RemoteFile]) -> dict[str, Any]:
    """The model card of that commit: MLflow would take today's, and only of a model it knows by name."""
    readme = next((file for file in files if file.path == "README.md"), None)
    if readme is None or options.get("model_card") is not None:
        return options
    from huggingface_hub import ModelCard

    with mlflow_errors():
        return options | {"model_card": ModelCard(hub.read(readme).decode(errors="replace"))}


def _check_stored(model_id: str, sizes: Mapping[str, int]) -> None:
    """A server that knows no pointer files stores them as what they look like: then there is no model."""
    location = mlflow.MlflowClient().get_logged_model(model_id).artifact_location
    repository = get_artifact_repository(location)
    directories = {os.path.dirname(os.path.join(_MODEL, path)) for path in sizes}
    listed = {file.path: file.file_size for each in directories for file in repository.list_artifacts(each)}
    wrong = [path for path, size in sizes.items() if listed.get(os.path.join(_MODEL, path)) != size]
    if wrong:
        mlflow.MlflowClient().delete_logged_model(model_id)
        raise MlflowException(
            f"{location} is no store that knows references: {wrong[0]} was stored as a pointer. Log to a `cas:`"
            " location, or have the tracking server store artifacts in one. The model was deleted again.",
            INVALID_PARAMETER_VALUE,
        )
