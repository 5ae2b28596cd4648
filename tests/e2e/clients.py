"""What MLflow's users do, for processes of their own: each function is called in one, by its name.

So nothing heavy is imported at the top, and nothing but plain values goes in and out.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.models import PROMPT, SPECIAL, change_one_tensor, generate, text_pipeline, tiny_llama

from .measure import Mapped, disk_usage, mapped_files

# Without them MLflow finds out the requirements by loading the model once more, in another process.
REQUIREMENTS = ["transformers", "torch"]
GREEDY = {
    "do_sample": False,
    "min_new_tokens": 12,
    "max_new_tokens": 12,
    "pad_token_id": SPECIAL.index("<pad>"),
}


class Logged(NamedTuple):
    """A model that was logged, and how it can be named."""

    run_id: str
    model_id: str
    location: str

    @property
    def by_id(self) -> str:
        return f"models:/{self.model_id}"

    @property
    def by_run(self) -> str:
        return f"runs:/{self.run_id}/model"

    @property
    def uris(self) -> list[str]:
        return [self.by_id, self.by_run, self.location]


class Loaded(NamedTuple):
    """What a process that loaded a model saw: what the model says, what is mapped, what the disk holds more."""

    output: str
    mapped: set[Mapped]
    growth: int


def warm_up() -> None:
    """Import what takes its time."""
    import mlflow.transformers
    import torch
    import transformers

    assert mlflow.transformers, (torch, transformers)


def make_checkpoint(directory: Path, megabytes: int, shards: int, seed: int) -> str:
    """Write a checkpoint, and return what it says."""
    return generate(text_pipeline(tiny_llama(directory, megabytes=megabytes, shards=shards, seed=seed)))


def change_checkpoint(directory: Path) -> str:
    return change_one_tensor(directory).name


def log_by_path(checkpoint: Path) -> Logged:
    return _log(transformers_model=str(checkpoint), task="text-generation")


def log_by_pipeline(checkpoint: Path) -> Logged:
    return _log(transformers_model=text_pipeline(checkpoint))


def log_by_reference(repo_id: str) -> Logged:
    return _log(transformers_model=text_pipeline(Path(repo_id)), save_pretrained=False, model_config=GREEDY)


def _log(**arguments: Any) -> Logged:
    import mlflow

    with mlflow.start_run() as run:
        info = mlflow.transformers.log_model(**arguments, name="model", pip_requirements=REQUIREMENTS)
        location = mlflow.get_logged_model(info.model_id).artifact_location
        return Logged(run.info.run_id, info.model_id, location)


def persist(uri: str) -> None:
    import mlflow

    mlflow.transformers.persist_pretrained_model(uri)


def register(uri: str, name: str) -> str:
    """Give a model a name, and return the URI by which it can be loaded then."""
    import mlflow

    return f"models:/{name}/{mlflow.register_model(uri, name).version}"


def load_and_generate(*uris: str) -> dict[str, str]:
    import mlflow

    return {uri: generate(mlflow.transformers.load_model(uri, device="cpu")) for uri in uris}


def predict(*uris: str) -> dict[str, str]:
    """As :func:`load_and_generate`, through the interface MLflow serves models by."""
    import mlflow

    return {uri: mlflow.pyfunc.load_model(uri).predict(PROMPT)[0] for uri in uris}


def load_and_look(uris: list[str], store: Path) -> list[Loaded]:
    """Load models, and look at this process and at the disk while they are loaded."""
    import mlflow

    temporary = Path(tempfile.gettempdir())
    assert temporary == Path(os.environ["TMPDIR"])
    before, found, kept = disk_usage(store, temporary), [], []
    for uri in uris:
        pipeline = mlflow.transformers.load_model(uri, device="cpu")
        kept.append(pipeline)
        growth = disk_usage(store, temporary) - before
        found.append(Loaded(generate(pipeline), mapped_files(), growth))
    return found


def download(uri: str, destination: Path | None = None) -> Path:
    import mlflow

    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=destination and str(destination)))


def save_changed(directory: Path) -> None:
    """Load a checkpoint, change every weight, and save it where it came from."""
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(directory)
    largest = max(path.stat().st_size for path in directory.glob("*.safetensors"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter + 1)
    model.save_pretrained(directory, max_shard_size=largest)


def log_everything() -> dict[str, Any]:
    """One artifact through each call of the fluent API that makes one, and what reading it back gives."""
    import matplotlib as mpl
    import mlflow
    import numpy as np
    import pandas as pd
    from PIL import Image

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots()
    axes.plot([1, 2, 3])
    pixels = np.arange(300, dtype=np.uint8).reshape(10, 10, 3)
    with mlflow.start_run() as run:
        mlflow.log_text("déjà vu\n", "notes/text.txt")
        mlflow.log_dict({"loss": [1.5, None]}, "notes/values.json")
        mlflow.log_image(Image.fromarray(pixels), "image.png")
        mlflow.log_figure(figure, "figure.png")
        mlflow.log_table({"question": ["a"], "score": [1]}, "table.json")
        mlflow.log_table({"question": ["b"], "score": [2]}, "table.json")  # reads, adds and logs again
        mlflow.log_input(mlflow.data.from_pandas(pd.DataFrame({"x": [1]})))
    root, run_id = run.info.artifact_uri, run.info.run_id
    table = mlflow.load_table("table.json", run_ids=[run_id])
    return {
        "text": mlflow.artifacts.load_text(f"{root}/notes/text.txt"),
        "values": mlflow.artifacts.load_dict(f"{root}/notes/values.json"),
        "image": np.array_equal(np.asarray(mlflow.artifacts.load_image(f"{root}/image.png")), pixels),
        "figure": mlflow.artifacts.load_image(f"{root}/figure.png").format,
        "table": table[["question", "score"]].to_numpy().tolist(),
        "listed": sorted(file.path for file in mlflow.artifacts.list_artifacts(run_id=run_id)),
        "notes": [file.path for file in mlflow.artifacts.list_artifacts(run_id=run_id, artifact_path="notes")],
    }


class Traced(NamedTuple):
    trace_id: str
    location: str
    outputs: dict[str, Any]
    spans: list[str]


def trace(picture: bytes) -> Traced:
    """Trace a function that returns a picture, and read the trace back."""
    import mlflow
    from mlflow.tracing.attachments import Attachment
    from mlflow.utils.mlflow_tags import MLFLOW_ARTIFACT_LOCATION

    @mlflow.trace
    def inner(question: str) -> str:
        return question.upper()

    @mlflow.trace
    def outer(question: str) -> dict[str, Any]:
        answer = inner(question)
        return {"answer": answer, "picture": Attachment(content_type="image/png", content_bytes=picture)}

    outer("why?")
    mlflow.flush_trace_async_logging()
    found = mlflow.get_trace(mlflow.get_last_active_trace_id())
    root = found.data.spans[0]
    location = found.info.tags[MLFLOW_ARTIFACT_LOCATION]
    return Traced(found.info.trace_id, location, root.outputs, [span.name for span in found.data.spans])


def listed_bytes(uri: str) -> int:
    """Bytes of all artifacts below a place, as MLflow lists them."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(uri)

    def below(path: str | None) -> int:
        return sum(
            below(found.path) if found.is_dir else found.file_size for found in repository.list_artifacts(path)
        )

    return below(None)


def log_checkpoint(checkpoint: Path, **options: Any) -> Logged:
    import mlflow

    import cas_mlflow

    with mlflow.start_run() as run:
        info = cas_mlflow.log_checkpoint(
            checkpoint, name="model", task="text-generation", pip_requirements=REQUIREMENTS, **options
        )
        assert isinstance(info, mlflow.models.model.ModelInfo)
        location = mlflow.get_logged_model(info.model_id).artifact_location
        return Logged(run.info.run_id, info.model_id, location)


def log_hub_model(repo_id: str, **options: Any) -> Logged:
    import mlflow

    import cas_mlflow

    with mlflow.start_run() as run:
        info = cas_mlflow.log_reference(
            repo_id, name="model", task="text-generation", pip_requirements=REQUIREMENTS, **options
        )
        location = mlflow.get_logged_model(info.model_id).artifact_location
        return Logged(run.info.run_id, info.model_id, location)


def complain(function: Any, *arguments: Any, **options: Any) -> tuple[str, str]:
    """The name of what a call raises, and what it says. Exceptions of MLflow do not travel between processes."""
    try:
        function(*arguments, **options)
    except Exception as error:
        return type(error).__name__, str(error)
    raise AssertionError(f"{function.__name__} raised nothing")


def persist_ours(uri: str) -> dict[str, int]:
    """Bytes by how they were had."""
    import cas_mlflow

    return {how.value: count for how, count in cas_mlflow.persist(uri).fetched.bytes.items()}


def register_ours(uri: str, name: str) -> str:
    import cas_mlflow

    return f"models:/{name}/{cas_mlflow.register_model(uri, name).version}"


def materialize(uri: str, directory: Path) -> Path:
    import cas_mlflow

    directory.mkdir()
    return cas_mlflow.materialize(uri, directory)


def size_in_mlmodel(uri: str) -> int | None:
    import mlflow

    return mlflow.models.Model.load(uri).model_size_bytes


def list_sizes(uri: str, directory: str) -> dict[str, int]:
    """What MLflow lists, as its UI does."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return {file.path: file.file_size for file in get_artifact_repository(uri).list_artifacts(directory)}


def log_stage_as_pyfunc(directory: Path) -> str:
    """A model of MLflow's most general flavor, around a directory that is staged."""
    import mlflow

    import cas_mlflow

    class Reader(mlflow.pyfunc.PythonModel):
        def load_context(self, context):  # annotations would be taken for a signature
            self.size = sum(
                path.stat().st_size for path in Path(context.artifacts["weights"]).glob("*.safetensors")
            )

        def predict(self, context, model_input):
            return [str(self.size)]

    with cas_mlflow.stage(directory) as stand_in:
        info = mlflow.pyfunc.log_model(
            name="reader", python_model=Reader(), artifacts={"weights": stand_in}, pip_requirements=["mlflow"]
        )
    return str(info.model_uri)


def log_bytes(location: str, name: str, data: bytes) -> None:
    """Log a file as any client can."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, name)
        path.write_bytes(data)
        get_artifact_repository(location).log_artifact(str(path))


def log_stage_too_late(directory: Path, location: str) -> None:
    """Keep a pointer until its stage has ended."""
    import cas_mlflow

    with cas_mlflow.stage(directory) as stand_in:
        data = min(Path(stand_in).glob("*.safetensors")).read_bytes()
    log_bytes(location, "weights.safetensors", data)


def log_under_file_size_limit(checkpoint: Path, limit: int) -> Logged:
    """A second time, while this process cannot write a file of more than ``limit`` bytes anywhere."""
    import resource
    import signal

    log_checkpoint(checkpoint)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    return log_checkpoint(checkpoint)


def make_vision_checkpoint(directory: Path) -> list[str]:
    """A checkpoint of a model that reads no text, and the labels it gives a picture, best first."""
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = transformers.ViTConfig(**sizes, image_size=32, patch_size=8, num_labels=3)
    transformers.ViTForImageClassification(config).save_pretrained(directory)
    transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(directory)
    return _labels(transformers.pipeline("image-classification", model=str(directory)))


def classify(uri: str) -> list[str]:
    import mlflow

    return _labels(mlflow.transformers.load_model(uri))


def _labels(pipeline: Any) -> list[str]:
    import numpy as np
    from PIL import Image

    pixels = (np.arange(32 * 32 * 3) % 255).astype("uint8").reshape(32, 32, 3)
    return [f"{each['label']} {each['score']:.5f}" for each in pipeline(Image.fromarray(pixels))]


def log_vision_checkpoint(directory: Path) -> str:
    import cas_mlflow

    return str(
        cas_mlflow.log_checkpoint(
            directory, name="vision", task="image-classification", pip_requirements=REQUIREMENTS
        ).model_uri
    )


def log_vision_reference(repo_id: str) -> str:
    import cas_mlflow

    return str(
        cas_mlflow.log_reference(
            repo_id, name="vision", task="image-classification", pip_requirements=REQUIREMENTS
        ).model_uri
    )
