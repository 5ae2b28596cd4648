"""Stages: directories that look like a checkpoint, and hold pointer files where its weights would be."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cas.artifact_root import walk_files
from cas.errors import InvalidInput
from cas.keys import OWN_ROOT
from cas.paths import check_path
from cas.pointer import Pointer
from cas_mlflow.boundary import mlflow_errors
from cas_mlflow.locations import experiment_location, is_own
from cas_mlflow.stores import open_place

WEIGHTS = frozenset(
    {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".pb", ".tflite"}
    | {".npz", ".joblib", ".pkl", ".ot"}
)
"""Suffixes of files that are ingested where they lie, if they are large."""
LARGE = 1 << 20
"""Smaller files are copied like any other: loaders read them while a model is logged."""
HUGE = 64 << 20
"""Files from this size on are not copied, whatever they are."""


@dataclass(slots=True)
class Stage:
    """A directory to log in the place of another. ``weights`` are the files it only points to, by their path in
    it, with their true sizes in bytes; ``absent`` those of them that it has not even pointers for."""

    path: Path
    weights: dict[str, int] = field(default_factory=dict)
    absent: dict[str, Path] = field(default_factory=dict)

    @property
    def missing_bytes(self) -> int:
        """By how much it is smaller than what it stands for."""
        there = sum(self.path.joinpath(name).stat().st_size for name in self.weights if name not in self.absent)
        return sum(self.weights.values()) - there


@contextmanager
def stage(directory: str | Path, *, artifact_location: str | None = None) -> Iterator[str]:
    """A stand-in for ``directory``, for any flavor that logs a directory by copying it.

    Its weights are ingested from where they lie, into the store that ``artifact_location`` (by default, that of
    the current experiment) is in; the stand-in has pointer files in their place, and links to everything else.
    Log it, with MLflow's own functions, inside the `with` block: pointers are good while it lasts.

        with cas_mlflow.stage("checkpoint") as stand_in:
            mlflow.pyfunc.log_model(name="m", artifacts={"weights": stand_in}, python_model=…)
    """
    location = artifact_location or experiment_location()
    if not is_own(location):
        raise InvalidInput(
            f"models are logged to {location} now, which is no store this process can open; a stage needs one"
        )
    with staged(Path(directory), location) as made:
        yield str(made.path)


@contextmanager
def staged(directory: Path, location: str) -> Iterator[Stage]:
    """As :func:`stage`; where the store is out of reach, the weights are left out of the stand-in."""
    with mlflow_errors():
        files = dict(walk_files(directory))
    weights = {name: path for name, path in files.items() if is_weight(name, path.stat().st_size)}
    with ExitStack() as stack:
        made = Stage(_empty(stack))
        for name, path in files.items():
            if name not in weights:
                # A copy: where MLflow copies a directory by downloading it, links that lead out are refused.
                shutil.copyfile(path, _parent(made.path / name))
        made.weights = {name: path.stat().st_size for name, path in weights.items()}
        if is_own(location):
            with mlflow_errors():
                _point(stack, made, weights, location)
        else:
            made.absent = weights
        yield made


@contextmanager
def pointing(files: Mapping[str, bytes], pointers: Mapping[str, Pointer]) -> Iterator[Stage]:
    """A stand-in for files that lie elsewhere, given its small files and its pointers."""
    with ExitStack() as stack:
        made = Stage(_empty(stack), {name: pointer.size for name, pointer in pointers.items()})
        for name, data in (*files.items(), *((name, pointer.encode()) for name, pointer in pointers.items())):
            _parent(made.path / check_path(name)).write_bytes(data)
        yield made


def is_weight(name: str, size: int) -> bool:
    """Whether a file of this name and size in bytes is one that nothing reads before the model is loaded."""
    return size >= HUGE or (size >= LARGE and os.path.splitext(name)[1].lower() in WEIGHTS)


def _point(stack: ExitStack, made: Stage, weights: Mapping[str, Path], location: str) -> None:
    """Ingest the weights, and hold them until the stage ends."""
    root = open_place(location).store.artifact_root(OWN_ROOT)
    # A log call that is never committed: it writes blobs, pins them, and is left behind without a trace.
    writer = stack.enter_context(root.log_call())
    writer.announce()
    for name, path in weights.items():
        writer.put_file(name, path)
    for entry in writer.hold():
        pointer = Pointer(entry.digest, entry.size, intent=writer.intent)
        _parent(made.path / entry.path).write_bytes(pointer.encode())
        made.weights[entry.path] = entry.size


def _empty(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlflow-cas-stage-")))


def _parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
