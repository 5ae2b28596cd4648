"""Tiny models of several kinds, and plain MLflow logging, persisting and loading them, for processes of their own.

Nothing heavy is imported at the top, and nothing but plain values goes in and out.
"""

from __future__ import annotations

import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.support.models import generate, tiny_llama

COMPONENTS_ONLY = frozenset({"clip"})
"""Models with a processor, which MLflow loads as components, not as a pipeline."""
_WIDTH = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_PICTURE = {"image_size": 16, "patch_size": 8}


def enter(environment: dict[str, str]) -> None:
    os.environ.update(environment)


def make(directory: Path) -> None:
    """One directory for each repository of the Hub."""
    torch, transformers = import_module("torch"), import_module("transformers")
    torch.manual_seed(0)
    tiny_llama(directory / "sharded", megabytes=2, shards=3)
    _both(tiny_llama(directory / "both", megabytes=1, shards=1, seed=1))
    _pickled(tiny_llama(directory / "pickled", megabytes=1, shards=1, seed=2))
    _split(tiny_llama(directory / "bare", megabytes=1, shards=1, seed=3), directory / "words")
    transformers.ViTForImageClassification(transformers.ViTConfig(**_WIDTH, **_PICTURE)).save_pretrained(
        directory / "vit"
    )
    size = {"height": 16, "width": 16}
    transformers.ViTImageProcessor(size=size).save_pretrained(directory / "vit")
    _audio(directory / "audio")
    _clip(directory / "clip", directory / "sharded")


def log(repos: dict[str, str], directory: Path) -> dict[str, Any]:
    """Log each model by its name on the Hub only, by plain MLflow, and return what each computes."""
    mlflow, transformers = import_module("mlflow"), import_module("transformers")
    answers = {}
    for name in ("sharded", "both", "pickled", "bare", "vit", "audio", "peft", "clip"):
        model = _built(transformers, name, repos)
        options = {}
        if name == "clip":
            processor = transformers.AutoProcessor.from_pretrained(repos[name])
            options = {"processor": processor, "task": "zero-shot-image-classification"}
        mlflow.transformers.save_model(
            model,
            path=str(directory / name),
            save_pretrained=False,
            pip_requirements=["transformers"],
            metadata={"long": "text that wraps " * 20},
            **options,
        )
        answers[name] = answer(name, _loaded(directory / name))
    model = _built(transformers, "clip", repos)
    mlflow.transformers.save_model(
        model, path=str(directory / "clip-whole"), pip_requirements=["transformers"], **options
    )
    return answers


def persist_as_mlflow_does(directories: list[Path]) -> None:
    mlflow = import_module("mlflow")
    for directory in directories:
        mlflow.transformers.persist_pretrained_model(str(directory))


def load(directory: Path, names: list[str]) -> dict[str, Any]:
    return {name: answer(name, _loaded(directory / name)) for name in names}


def read_mlmodel(path: Path) -> dict[str, Any]:
    """As MLflow reads it."""
    read: dict[str, Any] = import_module("mlflow.models").Model.load(str(path)).to_dict()
    return read


def answer(name: str, loaded: Any) -> Any:
    """What a model computes, its tokenizer or processor included."""
    numpy, image = import_module("numpy"), import_module("PIL.Image")
    noise = numpy.random.default_rng(0)
    picture = image.fromarray(noise.integers(0, 255, (20, 20, 3), dtype="uint8"))
    match name:
        case "vit":
            return [(each["label"], round(each["score"], 4)) for each in loaded(picture)]
        case "audio":
            sound = noise.standard_normal(4000).astype("float32")
            return [(each["label"], round(each["score"], 4)) for each in loaded(sound)]
        case "clip":
            tokens = loaded["processor"](text=["the old captain"], images=[picture], return_tensors="pt")
            alone = loaded["tokenizer"](["the old captain"])["input_ids"]
            score = loaded["model"](**{key: tokens[key] for key in ("input_ids", "attention_mask", "pixel_values")})
            return [round(score.logits_per_image.item(), 3), alone]
    return generate(loaded)


def _loaded(directory: Path) -> Any:
    mlflow = import_module("mlflow")
    kind = "components" if directory.name in COMPONENTS_ONLY else "pipeline"
    return mlflow.transformers.load_model(str(directory), return_type=kind)


def _built(transformers: Any, name: str, repos: dict[str, str]) -> Any:
    match name:
        case "vit" | "audio":
            return transformers.pipeline(f"{'image' if name == 'vit' else name}-classification", model=repos[name])
        case "bare":
            return transformers.pipeline("text-generation", model=repos["bare"], tokenizer=repos["words"])
        case "clip":
            return {
                "model": transformers.CLIPModel.from_pretrained(repos[name]),
                "tokenizer": transformers.AutoTokenizer.from_pretrained(repos[name]),
                "image_processor": transformers.AutoImageProcessor.from_pretrained(repos[name]),
            }
        case "peft":
            return _adapted(transformers, repos["sharded"])
    return transformers.pipeline("text-generation", model=repos[name])


def _adapted(transformers: Any, repo: str) -> Any:
    torch, peft = import_module("torch"), import_module("peft")
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], init_lora_weights=False)
    torch.manual_seed(1)
    model = peft.get_peft_model(transformers.LlamaForCausalLM.from_pretrained(repo), config)
    tokenizer = transformers.AutoTokenizer.from_pretrained(repo)
    return transformers.pipeline("text-generation", model=model, tokenizer=tokenizer)


def _both(directory: Path) -> None:
    """Beside its weights, those of other frameworks and others yet, none of which can be loaded."""
    names = ["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "rust_model.ot", "model.fp16.safetensors"]
    names += ["onnx/model.onnx", "onnx/config.json", "original/consolidated.00.pth", "tiny.Q4.gguf", "README.md"]
    names += ["consolidated.safetensors", "openvino_model.bin", "openvino_model.xml", "training_args.bin"]
    for name in names:
        directory.joinpath(name).parent.mkdir(exist_ok=True)
        directory.joinpath(name).write_bytes(b"\0not weights")


def _pickled(directory: Path) -> None:
    torch, safetensors = import_module("torch"), import_module("safetensors.torch")
    source = directory / "model.safetensors"
    torch.save(safetensors.load_file(source), directory / "pytorch_model.bin")
    source.unlink()


def _split(directory: Path, words: Path) -> None:
    """Its tokenizer goes to a repository of its own."""
    words.mkdir()
    for path in directory.glob("tokenizer*"):
        path.rename(words / path.name)
    # transformers finds out the class of a tokenizer by it.
    words.joinpath("config.json").write_bytes(directory.joinpath("config.json").read_bytes())


def _audio(directory: Path) -> None:
    transformers = import_module("transformers")
    config = transformers.Wav2Vec2Config(
        **_WIDTH,
        conv_dim=(16, 16),
        conv_kernel=(10, 3),
        conv_stride=(5, 2),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        classifier_proj_size=8,
    )
    transformers.Wav2Vec2ForSequenceClassification(config).save_pretrained(directory)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(directory)


def _clip(directory: Path, words: Path) -> None:
    transformers = import_module("transformers")
    text = {**_WIDTH, "vocab_size": 64, "max_position_embeddings": 32, "bos_token_id": 1, "eos_token_id": 2}
    config = transformers.CLIPConfig(
        text_config=text | {"pad_token_id": 3}, vision_config=_WIDTH | _PICTURE, projection_dim=8
    )
    transformers.CLIPModel(config).save_pretrained(directory)
    size = {"shortest_edge": 16}
    crop = {"height": 16, "width": 16}
    images = transformers.CLIPImageProcessor(size=size, crop_size=crop)
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(words)
    transformers.CLIPProcessor(images, tokenizer).save_pretrained(directory)
    images.save_pretrained(directory)
    assert json.loads(directory.joinpath("config.json").read_text())["architectures"] == ["CLIPModel"]
