"""Chosen tensors of a logged model, read by their ranges: nothing else of its weights is fetched."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

from cas.artifact_root import ArtifactRoot
from cas.errors import MalformedRecord
from cas.manifest import Entry
from cas_mlflow.boundary import mlflow_errors
from cas_mlflow.locations import model_places

MAX_HEADER = 8 << 20
"""Bytes of a header. safetensors allows 100 MB, which take a gigabyte to read, and which no model needs."""
_MAX_TOKENS = 800_000
"""Brackets and commas of a header: those of 100,000 tensors. They bound what it takes to parse it."""
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16,
    "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip


class TensorInfo(NamedTuple):
    """One tensor of a file, whose bytes lie from ``start`` to ``stop``."""

    dtype: str
    shape: tuple[int, ...]
    file: str
    start: int
    stop: int


class Tensors(Mapping[str, Any]):
    """The tensors of a model by name, each read when it is asked for. Made by :func:`open_tensors`."""

    def __init__(self, root: ArtifactRoot, entries: list[Entry]) -> None:
        self._root = root
        self._entries = {entry.path: entry for entry in entries}
        self._infos: dict[str, TensorInfo] | None = None

    def __getitem__(self, name: str) -> Any:
        """The tensor, as torch has it. Raises KeyError, or MlflowException if its file is malformed."""
        from safetensors.torch import load

        return load(self.raw(name))[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def info(self, name: str) -> TensorInfo:
        """Type, shape and place of a tensor, for which only headers are read."""
        return self._all()[name]

    def raw(self, name: str) -> bytes:
        """A safetensors file of this one tensor, for whatever library shall read it."""
        info = self.info(name)
        with mlflow_errors(), self._root.open_entry(self._entries[info.file]) as file:
            data = _read(file, info.start, info.stop - info.start, info.file)
        described = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": [0, len(data)]}
        header = json.dumps({name: described}).encode()
        header += b" " * (-len(header) % 8)
        return len(header).to_bytes(8, "little") + header + data

    def _all(self) -> dict[str, TensorInfo]:
        if self._infos is None:
            infos: dict[str, TensorInfo] = {}
            with mlflow_errors():
                for entry in self._entries.values():
                    with self._root.open_entry(entry) as file:
                        infos |= read_header(file, entry.path, entry.size)
            self._infos = infos
        return self._infos


@contextmanager
def open_tensors(model_uri: str) -> Iterator[Tensors]:
    """The tensors in all safetensors files of a model, by any URI that :func:`cas_mlflow.persist` takes.

    What lies in a bucket is read by ranges, and is not verified: only whole files can be.
    """
    place = model_places(model_uri)[0]
    with mlflow_errors():
        below = place.root.manifest().below(place.path)
        entries = [entry for entry in below if entry.path.endswith(".safetensors")]
    yield Tensors(place.root, entries)


def read_header(file: BinaryIO, path: str, size: int) -> dict[str, TensorInfo]:
    """What a safetensors file of ``size`` bytes says it holds, after every claim was checked against its size.

    Raises :class:`cas.errors.MalformedRecord`.
    """
    length = int.from_bytes(_read(file, 0, 8, path), "little")
    if length > min(MAX_HEADER, size - 8):
        raise MalformedRecord(path, f"a header of {length} bytes in a file of {size}")
    try:
        text = _read(file, 8, length, path)
        if sum(map(text.count, (b"[", b"{", b","))) > _MAX_TOKENS:
            raise MalformedRecord(path, "its header describes more tensors than any model has")
        header = json.loads(text, object_pairs_hook=_without_twins)
        described = {name: each for name, each in header.items() if name != "__metadata__"}
        infos = {name: _info(each, path, 8 + length) for name, each in described.items()}
    except MalformedRecord:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MalformedRecord(path, f"its header is none of safetensors ({type(error).__name__})") from error
    position = 8 + length
    for info in sorted(infos.values(), key=lambda each: (each.start, each.stop)):
        if info.start != position or info.stop > size:
            raise MalformedRecord(path, "its tensors overlap, leave holes, or reach beyond its end")
        position = info.stop
    return infos


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two tensors of one name, readers do not agree which one there is."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _info(described: dict[str, Any], path: str, base: int) -> TensorInfo:
    dtype, shape, (start, stop) = described["dtype"], described["shape"], described["data_offsets"]
    whole = all(type(each) is int and each >= 0 for each in (*shape, start, stop))
    if not whole or dtype not in _BITS or (stop - start) * 8 != math.prod(shape) * _BITS[dtype]:
        raise MalformedRecord(path, f"a tensor of type {dtype!r} and shape {shape!r} from {start!r} to {stop!r}")
    return TensorInfo(dtype, tuple(shape), path, base + start, base + stop)


def _read(file: BinaryIO, start: int, length: int, path: str) -> bytes:
    """Exactly these bytes, past the file's buffer: it would fetch more than was asked for."""
    raw: Any = getattr(file, "raw", file)
    raw.seek(start)
    data = bytearray(length)
    view = memoryview(data)
    while view:
        count = raw.readinto(view)
        if not count:
            raise MalformedRecord(path, f"it ends before byte {start + length}")
        view = view[count:]
    return bytes(data)
