"""Logging a checkpoint from where it lies, by MLflow's own code around a stage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import mlflow
from mlflow.models import Model
from mlflow.models.model import MLMODEL_FILE_NAME, ModelInfo

from cas_mlflow.components import add_preprocessor, lend_tokenizer, take_tokenizer
from cas_mlflow.locations import experiment_location
from cas_mlflow.staging import Stage, staged

_MODEL = "model"  # where MLflow's transformers flavor puts a checkpoint
_NAME = "source_model_name"
_LICENSE = "LICENSE.txt"


def log_checkpoint(directory: str | Path, *, name: str, task: str, **options: Any) -> ModelInfo:
    """Log the transformers checkpoint in ``directory`` as a model of MLflow's transformers flavor.

    What `mlflow.transformers.log_model(str(directory), name=…, task=…, **options)` does, and stores, without a copy
    of the weights in a temporary directory: they are ingested from where they lie. Where models are not logged to
    a store that this process can open, they are sent from where they lie.
    """
    location = experiment_location()
    with staged(Path(directory), location) as stage:
        info = log_stage(stage, source=os.fspath(directory), name=name, task=task, **options)
        if stage.absent:
            _send(stage, info.model_id)
        return info


def log_stage(stage: Stage, *, source: str, name: str, task: str, **options: Any) -> ModelInfo:
    """Log a stage as what it stands for: ``source`` is what the model says it was made from."""
    options = {"validate_serving_input": False, "save_pretrained": True} | options
    return Model.log(
        artifact_path=None,
        name=name,
        flavor=_Transformers(stage, source),
        transformers_model=str(stage.path),
        task=task,
        **options,
    )


class _Transformers:
    """MLflow's transformers flavor, for a stage."""

    __name__ = "mlflow.transformers"

    def __init__(self, stage: Stage, source: str) -> None:
        self._stage = stage
        self._source = source

    def save_model(self, *, path: str, mlflow_model: Model, **options: Any) -> None:
        """What MLflow would write of the real thing: its size, and where it came from."""
        lent = lend_tokenizer(self._stage.path)
        mlflow.transformers.save_model(path=path, mlflow_model=mlflow_model, **options)
        flavor = mlflow_model.flavors[mlflow.transformers.FLAVOR_NAME]
        difference = self._stage.missing_bytes + self._name_source(Path(path, _LICENSE))
        if lent:
            difference -= take_tokenizer(Path(path), flavor, mlflow_model)
        difference += add_preprocessor(self._stage.path, Path(path), flavor)
        if mlflow_model.model_size_bytes is not None:
            mlflow_model.model_size_bytes += difference
        flavor[_NAME] = self._source
        mlflow_model.save(os.path.join(path, MLMODEL_FILE_NAME))

    def _name_source(self, file: Path) -> int:
        """Where MLflow found no licence, it says for what: the stage, which is gone by the time that is read.
        Returns by how many bytes the file grew."""
        if not file.is_file():
            return 0
        before = file.read_bytes()
        after = before.replace(os.fsencode(self._stage.path), os.fsencode(self._source))
        file.write_bytes(after)
        return len(after) - len(before)


def _send(stage: Stage, model_id: str) -> None:
    """Through MLflow, file by file, as it sends any model; here without its copy in a temporary directory."""
    location = mlflow.MlflowClient().get_logged_model(model_id).artifact_location
    repository = mlflow.store.artifact.artifact_repository_registry.get_artifact_repository(location)
    for name, path in stage.absent.items():
        repository.log_artifact(str(path), os.path.dirname(os.path.join(_MODEL, name)))
