"""Models that MLflow logged without their weights (`save_pretrained=False`): what they lack, and what they become.

Facts of MLflow 3.17's `mlflow/transformers/{flavor_config,model_io}.py`: such a model has a repository and a commit
for itself and for each component; a complete one has its checkpoint in `model/` and its components in
`components/<component>/`, and its flavor says so by `model_binary`. The adapter of a PEFT model is always stored,
in `peft/`; what is referenced, and belongs in `model/`, is its base model.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, NamedTuple

from cas.errors import InvalidInput
from cas.paths import check_path, join
from cas.sources import RemoteFile, Snapshot
from cas_mlflow.yamls import dump, load

_FLAVOR = "transformers"
_MODEL, _COMPONENTS = "model", "components"
_CONFIG, _ADAPTER_CONFIG = "config.json", "adapter_config.json"
_SMALL_FILES = re.compile(
    r"(?:additional_chat_templates/)?[^/]+\."
    r"(?:json|jsonl|txt|model|jinja|spm|bpe|vocab|codes|tiktoken|tokenizer|merges|dict|yaml)\Z"
    r"|(?:[^/]+/)*[^/]+\.py\Z"
)
"""What `from_pretrained` of a configuration, a tokenizer or a processor may read; code can lie in packages."""
_NOT_LOADED = re.compile(
    r"(?:.*\.index(?:\.[^/]*)?|training_args|trainer_state|(?:all|train|eval|test|predict)_results)\.json\Z"
)
_WEIGHTS = (
    # In the order in which transformers looks: one file, or an index and shards; safetensors before pickles.
    ("model.safetensors", None),
    # An index may name its shards anything (`layers-7.safetensors`, `model.safetensors-1-of-14.safetensors`).
    # One too many costs its bytes, one too few the model; so all are taken that are not known to be something else.
    ("model.safetensors.index.json", re.compile(r"(?!consolidated|adapter_model|optimizer)[^/]+\.safetensors\Z")),
    ("pytorch_model.bin", None),
    ("pytorch_model.bin.index.json", re.compile(r"pytorch_model-\d+-of-\d+\.bin\Z")),
)
_VARIANT_INDEX = re.compile(r"model\.safetensors\.index\.([^/.]+)\.json\Z")
_ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


class HubNeed(NamedTuple):
    """A repository at a revision, of which some files belong below ``target``: those of a model, or (``weights``
    false) of a tokenizer or processor."""

    repo: str
    revision: str | None
    target: str
    weights: bool


def is_reference(mlmodel: str | bytes) -> bool:
    """Whether an MLmodel (its YAML) is of the transformers flavor, and names a commit instead of having weights.

    False of anything else, even of what is no YAML: a store may hold any file of that name.
    """
    flavor = _flavor(mlmodel)
    return "source_model_revision" in flavor and "model_binary" not in flavor


def needs(mlmodel: str | bytes) -> list[HubNeed]:
    """What has to be fetched for such a model: first itself, or its base model, then its components, which may be
    of other repositories. Raises InvalidInput if it does not say which commit."""
    flavor = _flavor(mlmodel)
    found = [_need(flavor, "source_model_name", "source_model_revision", _MODEL, weights=True)]
    for component in _components(flavor):
        target = check_path(join(_COMPONENTS, component))
        found.append(_need(flavor, f"{component}_name", f"{component}_revision", target, weights=False))
    return found


def select(need: HubNeed, snapshot: Snapshot) -> dict[str, RemoteFile]:
    """The files of a repository that transformers' `from_pretrained` would read, by their path in the model.

    Of several forms of the weights, the one that transformers prefers; no other framework's, no variant's, and no
    subdirectory's, except code. Documentation stays behind. Raises InvalidInput if there are no weights, or no
    config.json, where they are needed.
    """
    by_path = {file.path: file for file in snapshot.files}
    chosen = {path for path in by_path if _SMALL_FILES.match(path) and not _NOT_LOADED.match(path)}
    if need.weights:
        chosen.update(_weights(snapshot, by_path))
    return {join(need.target, path): by_path[path] for path in sorted(chosen)}


def persisted(mlmodel: str | bytes, model_size_bytes: int) -> str:
    """The MLmodel of the same model when it is complete: as MLflow's own persist_pretrained_model leaves it, and
    with its size. Raises InvalidInput if it is no such model."""
    if not is_reference(mlmodel):
        raise InvalidInput("the MLmodel is not one that was logged with save_pretrained=False")
    document = load(mlmodel)
    flavor = document["flavors"][_FLAVOR]
    for component in _components(flavor):
        flavor.pop(f"{component}_name", None)
        flavor.pop(f"{component}_revision", None)
    flavor.pop("source_model_revision")
    flavor.pop("local_base_model_path", None)
    flavor["model_binary"] = _MODEL
    document["model_size_bytes"] = model_size_bytes
    return dump(document)


def _flavor(mlmodel: str | bytes) -> dict[str, Any]:
    """Empty if the model has no transformers flavor."""
    document = load(mlmodel)
    flavors = document.get("flavors") if isinstance(document, dict) else None
    flavor = flavors.get(_FLAVOR) if isinstance(flavors, dict) else None
    return flavor if isinstance(flavor, dict) else {}


def _components(flavor: dict[str, Any]) -> list[str]:
    """`processor` is a component that MLflow lists apart."""
    listed = flavor.get("components") or []
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise InvalidInput("the MLmodel's components are no list of names, so it cannot be persisted")
    return listed + (["processor"] if "processor_type" in flavor and "processor" not in listed else [])


def _need(flavor: dict[str, Any], name: str, revision: str, target: str, *, weights: bool) -> HubNeed:
    repo, commit = flavor.get(name), flavor.get(revision)
    if not repo or not commit or not isinstance(repo, str) or not isinstance(commit, str | int):
        raise InvalidInput(
            f"the MLmodel does not say which repository and commit of the Hub its {target} is from ({name}:"
            f" {repo!r}, {revision}: {commit!r}), so it cannot be persisted"
        )
    return HubNeed(repo, str(commit), target, weights)


def _weights(snapshot: Snapshot, paths: Collection[str]) -> list[str]:
    """The weights that transformers would load, and an adapter that is embedded: it is applied by itself."""
    where = f"{snapshot.name}@{snapshot.commit}"
    adapter = [path for path in _ADAPTER_WEIGHTS if path in paths and _ADAPTER_CONFIG in paths]
    for first, shards in _WEIGHTS:
        if first not in paths:
            continue
        if _CONFIG not in paths:
            raise InvalidInput(f"{where} has weights but no {_CONFIG}, without which transformers loads no model")
        found = [path for path in paths if shards and shards.match(path) and not _is_variant(path, paths)]
        if shards and not found:
            raise InvalidInput(f"{where} has {first} but none of the files that it is the index of")
        return [first, *found, *adapter[:1]]
    wanted = ", ".join(first for first, _ in _WEIGHTS)
    hint = "; it is a PEFT adapter: log it on top of its base model" if adapter else ""
    raise InvalidInput(f"{where} has no weights that transformers loads: none of {wanted}{hint}")


def _is_variant(path: str, paths: Collection[str]) -> bool:
    """Whether a shard belongs to another index, such as `model.safetensors.index.fp16.json`."""
    variants = {match[1] for each in paths if (match := _VARIANT_INDEX.match(each))}
    return any(f".{variant}-" in path or path.endswith(f".{variant}.safetensors") for variant in variants)
