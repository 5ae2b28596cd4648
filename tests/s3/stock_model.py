"""A tiny model that plain MLflow logs by its name on the Hub only, for processes of their own."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.support.models import generate, tiny_llama


def make(directory: Path) -> None:
    tiny_llama(directory, megabytes=24, shards=2)


def log(repo: str, directory: Path) -> str:
    """Returns what it says."""
    mlflow, transformers = import_module("mlflow"), import_module("transformers")
    pipeline = transformers.pipeline("text-generation", model=repo)
    mlflow.transformers.save_model(
        pipeline, path=str(directory), save_pretrained=False, pip_requirements=["transformers"]
    )
    return say(directory)


def say(directory: Path) -> str:
    return generate(import_module("mlflow").transformers.load_model(str(directory), return_type="pipeline"))
