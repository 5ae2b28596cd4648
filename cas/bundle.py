"""Carrying models to a machine that no network reaches, in one file."""

from __future__ import annotations

import uuid
from contextlib import closing
from pathlib import Path

from cas.backends.bundle import BundleBackend
from cas.errors import StoreNotFound
from cas.keys import STORE
from cas.mirror import MirrorReport, mirror
from cas.store import Store
from cas.verify import verify


def create(source: Store, target: Path, path: str = "") -> MirrorReport:
    """Write what is at or below ``path`` of ``source`` into the file ``target``, verified on the way.

    It appears under its name when it is whole and durable. What an earlier attempt had written, beside it, is read
    again, and gone on with. If an artifact root fails, the report says so, and there is no bundle yet. Raises
    :class:`cas.errors.DestinationExists`.
    """
    with closing(BundleBackend.create(target)) as backend:
        if not _is_sound(backend):
            backend.clear()
            settings = source.settings._replace(id=str(uuid.uuid4()))
            backend.put(STORE, [settings.encode()], create=True)
        report = mirror(source, Store.open(backend), path)
        if not report.failed:
            backend.finish()
    return report


def _is_sound(backend: BundleBackend) -> bool:
    """Whether what an earlier attempt left can be relied on: a power cut may keep a header, and not its bytes."""
    try:
        return not verify(Store.open(backend)).problems
    except StoreNotFound:
        return False


def take(bundle: Path, target: Store, path: str = "") -> MirrorReport:
    """Log what a bundle holds, at or below ``path``, into ``target``, as a mirror does: only what is missing moves.

    Raises :class:`cas.errors.InvalidInput` if the file is no whole bundle.
    """
    with closing(BundleBackend(bundle)) as backend:
        return mirror(Store.open(backend), target, path)
