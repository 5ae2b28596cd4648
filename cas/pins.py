"""Pins: what is kept though MLflow, or its user, has forgotten it.

A pin is an artifact root of its own, ``pins/models/<ulid>/artifacts``, that names what it keeps under the paths it
had in the store. So collectors, mirrors, verification and readers need to know nothing of pins: what is pinned is
listed, loaded and checked out from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cas.artifact_root import ArtifactRoot
from cas.errors import BlobNotFound, InvalidInput, PathNotFound
from cas.manifest import Entry
from cas.paths import join
from cas.roots import locate
from cas.store import Store
from cas.ulid import is_ulid, new_ulid

_ROOTS = "pins/models"


@dataclass(frozen=True, slots=True)
class Pin:
    """``paths`` are those, in the store, of the files it keeps; ``place`` is where they are kept."""

    id: str
    place: str
    paths: tuple[str, ...]
    bytes: int


def pin(store: Store, path: str = "") -> Pin:
    """Keep the file, or everything below the directory, ``path`` of a store, as it is now, until it is unpinned.

    References stay references. Raises :class:`PathNotFound`, and :class:`BlobNotFound` if it was removed, and
    collected, just before.
    """
    entries = {join(root.path, entry.path): (root, entry) for root, entry in _entries(store, path)}
    if not entries:
        raise PathNotFound(path, store.name)
    root = store.artifact_root(_root(new_ulid()))
    with root.log_call(entries) as writer:
        held = set()
        for kept, (where, entry) in entries.items():
            if entry.inline is not None:
                with where.open_entry(entry) as file:
                    writer.put_bytes(kept, file.read())
                continue
            if entry.blob is not None and where.is_held(entry):
                held.add(kept)
            writer.put_known(kept, entry.digest, entry.size, entry.origin)
        lost = sorted(held - {entry.path for entry in writer.hold() if entry.blob is not None})
        if lost:
            raise BlobNotFound(f"{lost[0]!r} was removed and collected meanwhile; nothing of {path!r} is pinned")
        writer.commit()
    return _pin(root)


def unpin(store: Store, id_: str) -> Pin:
    """Forget a pin; returns what it kept. The bytes stay until they are collected. Raises :class:`PathNotFound`."""
    if not is_ulid(id_):
        raise InvalidInput(f"{id_!r} is no pin; `cas pins {store.name}` lists them")
    root = store.artifact_root(_root(id_))
    found = _pin(root)
    if not root.remove():
        raise PathNotFound(_root(id_), store.name)
    return found


def pins(store: Store) -> list[Pin]:
    """Every pin there is, the oldest first."""
    found = [_pin(root) for root in store.artifact_roots(_ROOTS)]
    return [each for each in found if each.paths]


def _root(id_: str) -> str:
    return f"{_ROOTS}/{id_}/artifacts"


def _pin(root: ArtifactRoot) -> Pin:
    entries = list(root.manifest())
    id_ = root.path.split("/")[-2]
    return Pin(id_, root.path, tuple(entry.path for entry in entries), sum(entry.size for entry in entries))


def _entries(store: Store, path: str) -> Iterator[tuple[ArtifactRoot, Entry]]:
    for root, inside in store.roots_at(path):
        if not root.path.startswith(f"{_ROOTS}/") or locate(path).root == root.path:
            yield from ((root, entry) for entry in root.manifest().below(inside))
