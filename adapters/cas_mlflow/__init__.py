"""MLflow's artifact repositories on a content-addressed store, and what its users can ask of them beyond MLflow.

log_checkpoint(directory, name=…, task=…)     a transformers checkpoint, ingested from where it lies
log_reference(repo_id, name=…, task=…)        a model whose weights stay on the Hub
stage(directory)                              the same for any flavor's own log_model
persist(model_uri)                            makes references real
register_model(model_uri, name)               persists, then registers
materialize(model_uri, directory)             a plain MLflow model directory that needs no plugin
open_tensors(model_uri)                       chosen tensors, read by their ranges
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

# First of all: MLflow, while it is imported, loads our repository, and must not find it half imported.
import mlflow  # noqa: F401

if TYPE_CHECKING:
    from cas_mlflow.checkpoints import log_checkpoint as log_checkpoint
    from cas_mlflow.hub_models import log_reference as log_reference
    from cas_mlflow.materializing import materialize as materialize
    from cas_mlflow.persisting import persist as persist
    from cas_mlflow.persisting import register_model as register_model
    from cas_mlflow.staging import stage as stage
    from cas_mlflow.tensors import open_tensors as open_tensors

_HOME = {
    "log_checkpoint": "checkpoints",
    "log_reference": "hub_models",
    "materialize": "materializing",
    "open_tensors": "tensors",
    "persist": "persisting",
    "register_model": "persisting",
    "stage": "staging",
}
__all__ = ["log_checkpoint", "log_reference", "materialize", "open_tensors", "persist", "register_model", "stage"]


def __getattr__(name: str) -> object:
    """Imported when asked for: MLflow imports this package at its own start."""
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
