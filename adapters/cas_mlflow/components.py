"""Checkpoints of models that read no text, or not only text.

MLflow (3.17) demands a tokenizer of every checkpoint that is logged by its path, and keeps no other component. So
one without is given a makeshift tokenizer while MLflow looks, which is taken away again from what is logged.
And what turns pictures or sound into tensors becomes a component, as when MLflow logs a pipeline.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from mlflow.models import Model

_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
    "vocab.json", "vocab.txt",
)  # fmt: skip
_MAKESHIFT = {
    "tokenizer.json": {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": None, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": {"<unk>": 0}, "unk_token": "<unk>"},
    },
    "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>"},
}  # fmt: skip
_PREPROCESSOR = "preprocessor_config.json"
_KINDS = {"image_processor_type": "image_processor", "feature_extractor_type": "feature_extractor"}


def lend_tokenizer(checkpoint: Path) -> bool:
    """Put a makeshift tokenizer into a stage that has none; returns whether it did."""
    if any((checkpoint / name).exists() for name in _TOKENIZER_FILES):
        return False
    for name, content in _MAKESHIFT.items():
        (checkpoint / name).write_text(json.dumps(content))
    return True


def take_tokenizer(model: Path, flavor: dict[str, Any], mlflow_model: Model) -> int:
    """Take it away from what MLflow saved in ``model``; returns how many bytes that were."""
    gone = [model / "model" / name for name in _MAKESHIFT]
    gone += [path for path in (model / "components" / "tokenizer").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in gone)
    for path in gone:
        path.unlink()
    shutil.rmtree(model / "components" / "tokenizer")
    flavor["components"] = [name for name in flavor["components"] if name != "tokenizer"]
    flavor.pop("tokenizer_type", None)
    mlflow_model.flavors.pop("python_function", None)  # MLflow's works on texts
    mlflow_model.signature = None
    return size


def add_preprocessor(checkpoint: Path, model: Path, flavor: dict[str, Any]) -> int:
    """Make a component of what the checkpoint says turns its input into tensors; returns how many bytes it has."""
    config = checkpoint / _PREPROCESSOR
    said = json.loads(config.read_text()) if config.is_file() else {}
    size = 0
    for key, component in _KINDS.items():
        if key in said and component not in flavor["components"]:
            target = model / "components" / component
            target.mkdir(parents=True)
            shutil.copyfile(config, target / _PREPROCESSOR)
            flavor["components"].append(component)
            flavor[f"{component}_type"] = said[key]
            size += config.stat().st_size
    return size
