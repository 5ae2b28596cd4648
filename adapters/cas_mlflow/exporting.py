"""Models as plain objects of a bucket, which need neither this package nor the Hub."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from cas.backends import Backend
from cas.backends.bucket import Bucket
from cas.backends.opening import open_bucket
from cas.carrier import Carrier
from cas.config import fetch_patience
from cas.errors import CasError, InvalidInput, StoreNotFound
from cas.fetch import FetchReport, How
from cas.manifest import Entry
from cas.paths import relative_to
from cas.roots import find_store
from cas.supply import StoreSupply
from cas_mlflow.locations import MLMODEL, ModelPlace
from cas_mlflow.persisting import entry_of, hub_files, read_small
from cas_mlflow.stock import is_reference, persisted


@dataclass(frozen=True, slots=True)
class _Model:
    """What a model directory is made of: bytes at hand, and bytes to be brought."""

    contents: Mapping[str, bytes]
    entries: Mapping[str, Entry]

    @property
    def names(self) -> set[str]:
        return {*self.contents, *self.entries}


def export(place: ModelPlace, bucket: Bucket) -> FetchReport:
    """Write a model out whole, as MLflow's own repository would have stored it, below a prefix of a bucket.

    What the store keeps at the same endpoint is copied by its server. Everything else, also weights that are still
    on the Hub, passes through this process, verified, and never touches its disk. The MLmodel comes last; if
    anything fails, what was written is deleted. The store is left as it is. Raises :class:`InvalidInput` if the
    prefix lies in a store, or holds anything, be it what a killed export has left: nobody can tell that from files
    of the same names that are somebody's only copy.
    """
    _check_is_no_store(bucket)
    backend = open_bucket(bucket)
    _check_empty(backend)
    model = _model(place)
    store, report = place.root.store, FetchReport()
    supply = StoreSupply(store.blobs, more_copies=store.cache.copies)
    carrier = Carrier(backend, supply, patience=fetch_patience())

    def put(file: tuple[str, Entry]) -> tuple[How, int]:
        name, entry = file
        return carrier.carry(entry, name).how, entry.size

    try:
        for how, size in carrier.at_once(put, model.entries.items()):
            report.add(how, size)
        for name, data in sorted(model.contents.items(), key=lambda item: (item[0] == MLMODEL, item[0])):
            backend.put(name, [data], create=False, size=len(data))
    except BaseException:
        with suppress(CasError):  # the error that matters is on its way
            backend.delete(sorted(model.names))
        raise
    return report


def _model(place: ModelPlace) -> _Model:
    """The files of a model by their names in it; for one that MLflow logged by name only, also those of the Hub."""
    contents, entries = {}, {}
    for entry in place.root.manifest().below(place.path):
        name = relative_to(entry.path, place.path)
        assert name
        if entry.inline is None and name != MLMODEL:
            entries[name] = entry
            continue
        with place.root.open_entry(entry) as file:
            contents[name] = file.read()
    mlmodel = contents[MLMODEL]
    if is_reference(mlmodel):
        hub, files = hub_files(mlmodel)
        small = read_small(hub, files)
        there = sum(len(data) for data in contents.values()) + sum(entry.size for entry in entries.values())
        entries |= {path: entry_of(path, file) for path, file in files.items() if path not in small}
        contents |= small
        contents[MLMODEL] = persisted(mlmodel, there + sum(file.size for file in files.values())).encode()
    return _Model(contents, entries)


def _check_is_no_store(bucket: Bucket) -> None:
    with suppress(StoreNotFound):
        root, _ = find_store(bucket)
        raise InvalidInput(
            f"{bucket} lies in the store {root}, and only a store's own records belong there; export to another"
            " prefix, or copy between stores with `cas mirror`"
        )


def _check_empty(backend: Backend) -> None:
    """What fails is cleaned up by name; so nothing may be there that was not written by this export."""
    key = next(iter(backend.keys("")), None)
    if key is not None:
        raise InvalidInput(
            f"{backend.name} is not empty: it holds {key!r}. Nothing was written; empty it, or name another prefix"
        )
