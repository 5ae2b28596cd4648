"""What a store holds after a cut: verified, read, and logged to again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cas
import cas.collect
import cas.verify
from cas.errors import CasError, StoreNotFound
from cas.intent import Intent
from cas.keys import INTENTS
from tests.powercut.ledger import STORE, State
from tests.powercut.workload import REFERENCE, said

_PROBE = "probe"


class Survey:
    """Of the store at ``path``: ``found`` is everything that can be read, ``problems`` what is wrong with it."""

    def __init__(self, path: Path) -> None:
        self.found: State = {}
        self.problems: list[str] = []
        self.empty_intents = 0
        self.read = 0
        try:
            store = cas.Store.open(path)
        except StoreNotFound:
            cas.Store.create(path)  # what is left of one that was not acknowledged is no obstacle
            self._log_again(cas.Store.open(path), path)
            return
        self.found.update(STORE)
        self._verify(store)
        for root in store.artifact_roots():
            if root.path != _PROBE:
                self._look_through(root)
        self._intents(store)
        cas.collect.plan(store)  # raises if there is anything that it cannot judge
        self._log_again(store, path)

    def _verify(self, store: cas.Store) -> None:
        report = cas.verify.verify(store)
        self.read = report.bytes
        self.problems += [f"verify: {each.kind}: {each.key}: {each.reason}" for each in report.problems]
        if report.quarantined:
            self.problems.append(f"verify: {report.quarantined} blobs are in quarantine")

    def _look_through(self, root: cas.ArtifactRoot) -> None:
        try:
            entries = list(root.manifest())
        except CasError as error:
            self.problems.append(f"{root!r} cannot be read: {error}")
            return
        for entry in entries:
            try:
                self.found[f"{root.path}:{entry.path}"] = _read(root, entry)
            except (CasError, OSError) as error:
                self.found[f"{root.path}:{entry.path}"] = repr(error)

    def _intents(self, store: cas.Store) -> None:
        """They are not synced: a power cut may leave some empty, which says that their writers are gone. What is
        neither empty nor whole would tell a collector nothing it can rely on."""
        for key in store.backend.keys(INTENTS):
            data = store.backend.read(key)
            if not data:
                self.empty_intents += 1
                continue
            try:
                Intent.decode(key, data)
            except CasError as error:
                self.problems.append(f"torn: {error}")

    def _log_again(self, store: cas.Store, path: Path) -> None:
        root, large = store.artifact_root(_PROBE), hashlib.shake_128(store.settings.id.encode()).digest(50_000)
        root.ingest_bytes(b"small", "small")
        root.ingest_bytes(large, "large")
        again = cas.Store.open(path).artifact_root(_PROBE)
        with again.open("small") as small, again.open("large") as file:
            if (small.read(), file.read()) != (b"small", large):
                self.problems.append("what is logged after the cut cannot be read")


def _read(root: cas.ArtifactRoot, entry: cas.Entry) -> str:
    """The bytes the store itself has, never those of an origin."""
    if entry.inline is not None:
        with root.open_entry(entry) as file:
            return said(file.read())
    if entry.blob is None:
        return REFERENCE
    with root.store.blobs.open(entry.digest, entry.size, entry.blob) as file:
        return said(file.read())
