"""Fetching into an object store: its blobs from origins, or from another store, with no copy on this machine."""

from __future__ import annotations

from collections.abc import Iterable

from cas.blobs import Blobs
from cas.carrier import Carrier
from cas.fetch import FetchReport, How
from cas.keys import blob_key
from cas.manifest import Entry
from cas.supply import Supply


class Transit:
    """Fetches from ``supply`` into the blobs of an object store. ``patience`` is in seconds without progress."""

    def __init__(self, blobs: Blobs, supply: Supply, *, patience: float | None = None) -> None:
        self._blobs = blobs
        self._carrier = Carrier(blobs.backend, supply, patience=patience)

    def fetch(self, entries: Iterable[Entry], intent: str) -> FetchReport:
        """Have the bytes of all ``entries`` in the store, written for ``intent``, which must be announced.

        What was complete when one fails is found by its digest the next time. Raises what
        :meth:`cas.carrier.Carrier.carry` does.
        """
        report = FetchReport()
        wanted = list({entry.digest: entry for entry in entries}.values())
        for entry, how in zip(
            wanted, self._carrier.at_once(lambda entry: self._fetch(entry, intent), wanted), strict=True
        ):
            report.add(how, entry.size)
        return report

    def _fetch(self, entry: Entry, intent: str) -> How:
        if self._blobs.is_held(entry.digest, entry.size):
            return How.HELD
        carried = self._carrier.carry(entry, blob_key(entry.digest, intent))
        for digest in carried.digests.values():
            if digest != entry.digest:
                self._blobs.add_alias(digest, intent, entry.digest)
        return carried.how
