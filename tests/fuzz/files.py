"""Targets: files of models that are read by us, as an enemy logs them."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from random import Random
from typing import Any

from mlflow.exceptions import MlflowException

import cas
import cas_mlflow
from cas.errors import CasError, MalformedRecord
from cas_mlflow.locations import MLMODEL, ModelPlace
from cas_mlflow.stock import is_reference, needs, persisted
from cas_mlflow.tensors import read_header
from tests.fuzz.mutation import dumped, mutated, mutated_json
from tests.fuzz.running import Example

PLACE = "models/m-0123456789abcdef/artifacts"
HEADER = {
    "__metadata__": {"format": "pt"},
    "layer.0": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "layer.1": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
    "scalar": {"dtype": "U8", "shape": [], "data_offsets": [32, 33]},
}
DATA = bytes(range(33))
MLMODEL_OF_A_REFERENCE = f"""\
artifact_path: model
flavors:
  python_function:
    loader_module: mlflow.transformers
  transformers: &flavor
    code: null
    components: [tokenizer, image_processor]
    framework: pt
    processor_type: Processor
    source_model_name: org/name
    source_model_revision: {"c" * 40}
    tokenizer_name: org/name
    tokenizer_revision: {"c" * 40}
    image_processor_name: org/other
    image_processor_revision: {"c" * 40}
    processor_name: org/name
    processor_revision: {"c" * 40}
model_size_bytes: 100
utc_time_created: '2026-01-01 00:00:00'
"""
_LAUGHS = list(zip("abcdefghij", "bcdefghijk", strict=True))
BOMBS = [
    # A billion laughs: ten lines, and more nodes than any memory has room for, wherever one looks at them all.
    "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in _LAUGHS)
    + "flavors: {transformers: {source_model_revision: c, source_model_name: *k, components: *k}}\n",
    # The same with merge keys.
    "a: &a {x: 1}\n"
    + "".join(f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 9)}]}}\n" for old, new in _LAUGHS),
    # A number of base 60, which takes time by the square of its digits.
    "a: 1" + ":1" * 200_000,
    "flavors: &a {transformers: *a}",
    "flavors: {transformers: &a {source_model_revision: *a, source_model_name: *a, components: [*a]}}",
    "[" * 50_000,
    "- " * 50_000,
    "{a: " * 20_000,
    "a: 2001-99-99",
    "? [a]\n: b",
    "a: !!python/object/apply:os.system [id]",
    "a: !!int 'x'",
    "flavors: {transformers: {source_model_revision: c, source_model_name: o/n, components: 5}}",
    "flavors: {transformers: {source_model_revision: c, source_model_name: o/n, components: [../../x, a]}}",
    "flavors: {transformers: {source_model_revision: c, source_model_name: o/n, components: [{a: b}]}}",
    "a" * 3_000_000,
    "a: b\n" * 300_000,
]  # fmt: skip


def headers(directory: Path) -> Example:
    """Headers of safetensors files: refused, or true of the file. Some of them as part of a model."""
    store = cas.Store.create(directory / "store")
    root = store.artifact_root(PLACE)
    root.ingest_bytes(b"flavors: {}", MLMODEL)

    def example(random: Random) -> None:
        data = _weights(random)
        try:
            for name, info in read_header(io.BytesIO(data), "file", len(data)).items():
                assert isinstance(name, str)
                assert 8 <= info.start <= info.stop <= len(data)
        except MalformedRecord:
            pass
        if random.random() < 0.02:
            root.ingest_bytes(data, "model/model.safetensors")
            try:
                with cas_mlflow.open_tensors(f"cas://{store.name}/{PLACE}") as tensors:
                    for name in tensors:
                        assert len(tensors.raw(name)) <= 3 * len(data) + 1000
            except MlflowException:
                pass

    return example


def _weights(random: Random) -> bytes:
    header = json.dumps(HEADER).encode()
    whole = len(header).to_bytes(8, "little") + header + DATA
    kind = random.random()
    if kind < 0.4:
        return mutated(random, whole)
    if kind < 0.9:
        header = dumped(mutated_json(random, HEADER))
    elif kind < 0.99:
        header = mutated(random, header)
    else:
        header = random.choice(_LARGE)
    return len(header).to_bytes(8, "little") + header + DATA


def _many(each: bytes, around: bytes = b"[%s]", size: int = 12 << 20) -> bytes:
    return around % (each * (size // len(each)))[:-1]


_LARGE = [
    _many(b"{},"), _many(b"[],"), _many(b'"ab",'), _many(b"1e1,"), _many(b"[[[[[[]]]]]],"),
    _many(b'"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},', b"{%s}"),
    _many(b'"\xf0\x9f\x98\x80",', size=7 << 20), _many(b'"ab",', size=7 << 20), _many(b"{},", size=7 << 20),
    b"{%s}" % b",".join(b'"t%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % n for n in range(140_000)),
]  # fmt: skip


def mlmodels(directory: Path) -> Example:
    """MLmodel files where `persist` looks whether there is something to be fetched."""
    store = cas.Store.create(directory / "store")
    root = store.artifact_root(PLACE)

    def example(random: Random) -> None:
        data = random.choice(BOMBS).encode() if random.random() < 0.1 else _mlmodel(random)
        root.ingest_bytes(data, MLMODEL)
        try:
            text = ModelPlace(root, "").read(MLMODEL)
            if is_reference(text):
                for use in (lambda: needs(text), lambda: persisted(text, 5)):
                    try:
                        use()
                    except CasError:
                        continue
        except CasError:
            pass
        if random.random() < 0.05:
            with contextlib.suppress(MlflowException):
                cas_mlflow.persist(f"cas://{store.name}/{PLACE}")

    return example


def _mlmodel(random: Random) -> bytes:
    if random.random() < 0.5:
        return mutated(random, MLMODEL_OF_A_REFERENCE.encode())
    document: Any = {
        "flavors": {
            "transformers": {
                "source_model_name": "org/name",
                "source_model_revision": "c" * 40,
                "components": ["tokenizer"],
                "tokenizer_name": "org/name",
                "tokenizer_revision": "c" * 40,
            }
        }
    }
    return dumped(mutated_json(random, document))  # JSON is YAML, nearly
