"""Models that MLflow logged without their weights (`save_pretrained=False`): what they lack, and what they become.

Facts of MLflow 3.17's `mlflow/transformers/{flavor_config,model_io}.py`: such a model has a repository and a commit
for itself and for each component; a complete one has its checkpoint in `model/` and its components in
`components/<component>/`, and its flavor says so by `model_binary`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import yaml

from cas.errors import InvalidInput
from cas.paths import join
from cas.sources import RemoteFile, Snapshot

_FLAVOR = "transformers"
_MODEL, _COMPONENTS = "model", "components"
_SMALL_FILES = re.compile(
    r"(?:additional_chat_templates/)?[^/]+\.(?:json|jsonl|txt|model|jinja|spm|bpe|vocab|codes|tiktoken|merges|dict|yaml)\Z"
    r"|(?:[^/]+/)*[^/]+\.py\Z"
)
"""What `from_pretrained` of a configuration, a tokenizer or a processor may read; code can lie in packages."""
_NOT_LOADED = re.compile(r"(?:.*\.index|training_args|trainer_state|(?:all|eval|train)_results)\.json\Z")
_WEIGHTS = (
    # In the order in which transformers looks: one file, or shards and their index; safetensors before pickles.
    ("model.safetensors", re.compile(r"model\.safetensors\Z")),
    ("model.safetensors.index.json", re.compile(r"model(?:-\d+-of-\d+\.safetensors|\.safetensors\.index\.json)\Z")),
    ("pytorch_model.bin", re.compile(r"pytorch_model\.bin\Z")),
    ("pytorch_model.bin.index.json", re.compile(r"pytorch_model(?:-\d+-of-\d+\.bin|\.bin\.index\.json)\Z")),
)


class HubNeed(NamedTuple):
    """A repository at a revision, of which some files belong below ``target``: those of a model, or (``weights``
    false) of a tokenizer or processor."""

    repo: str
    revision: str | None
    target: str
    weights: bool


def is_reference(mlmodel: str) -> bool:
    """Whether an MLmodel (its YAML) is of the transformers flavor, and names a commit instead of having weights."""
    flavor = _flavor(mlmodel)
    return "source_model_revision" in flavor and "model_binary" not in flavor


def needs(mlmodel: str) -> list[HubNeed]:
    """What has to be fetched for such a model. Raises InvalidInput if it does not say which commit."""
    flavor = _flavor(mlmodel)
    found = [_need(flavor, "source_model_name", "source_model_revision", _MODEL, weights=True)]
    for component in _components(flavor):
        target = join(_COMPONENTS, component)
        found.append(_need(flavor, f"{component}_name", f"{component}_revision", target, weights=False))
    return found


def select(need: HubNeed, snapshot: Snapshot) -> dict[str, RemoteFile]:
    """The files of a repository that transformers' `from_pretrained` would read, by their path in the model.

    Of several forms of the weights, the one that transformers prefers. Raises InvalidInput if there are none.
    """
    by_path = {file.path: file for file in snapshot.files}
    chosen = [path for path in by_path if _SMALL_FILES.match(path) and not _NOT_LOADED.match(path)]
    if need.weights:
        chosen += _weights(need, by_path)
    return {join(need.target, path): by_path[path] for path in sorted(chosen)}


def persisted(mlmodel: str, model_size_bytes: int) -> str:
    """The MLmodel of the same model when it is complete: as MLflow's own persist_pretrained_model leaves it, and
    with its size."""
    document = yaml.safe_load(mlmodel)
    flavor = document["flavors"][_FLAVOR]
    for component in _components(flavor):
        flavor.pop(f"{component}_name", None)
        flavor.pop(f"{component}_revision", None)
    flavor.pop("source_model_revision")
    flavor["model_binary"] = _MODEL
    document["model_size_bytes"] = model_size_bytes
    text: str = yaml.safe_dump(document, default_flow_style=False)
    return text


def _flavor(mlmodel: str) -> dict[str, Any]:
    """Empty if the model has no transformers flavor."""
    document = yaml.safe_load(mlmodel)
    flavors = document.get("flavors") if isinstance(document, dict) else None
    flavor = flavors.get(_FLAVOR) if isinstance(flavors, dict) else None
    return flavor if isinstance(flavor, dict) else {}


def _components(flavor: dict[str, Any]) -> list[str]:
    """`processor` is a component that MLflow lists apart."""
    listed = list(flavor.get("components") or ())
    return listed + (["processor"] if "processor_type" in flavor and "processor" not in listed else [])


def _need(flavor: dict[str, Any], name: str, revision: str, target: str, *, weights: bool) -> HubNeed:
    repo, commit = flavor.get(name), flavor.get(revision)
    if not repo or not commit:
        raise InvalidInput(
            f"the MLmodel does not say which repository and commit of the Hub its {target} is from ({name}:"
            f" {repo!r}, {revision}: {commit!r}), so it cannot be persisted"
        )
    return HubNeed(str(repo), str(commit), target, weights)


def _weights(need: HubNeed, paths: Iterable[str]) -> list[str]:
    known = list(paths)
    for first, pattern in _WEIGHTS:
        if first in known:
            return [
                path for path in known if pattern.match(path) and (path == first or first.endswith(".index.json"))
            ]
    raise InvalidInput(
        f"{need.repo}@{need.revision} has no weights that transformers loads: neither"
        f" {', '.join(first for first, _ in _WEIGHTS[:-1])} nor {_WEIGHTS[-1][0]}"
    )
