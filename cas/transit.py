"""Fetching into an object store: its blobs from origins, or from another store, with no copy on this machine."""

from __future__ import annotations

from collections.abc import Iterable

from cas.blobs import Blobs
from cas.carrier import Carrier
from cas.fetch import Fetcher, FetchReport, How
from cas.keys import blob_key
from cas.manifest import Entry
from cas.supply import Supply


class Transit:
    """Fetches from ``supply`` into the blobs of an object store. ``patience`` is in seconds without progress."""

    def __init__(self, blobs: Blobs, supply: Supply, *, patience: float | None = None) -> None:
        self._blobs = blobs
        self._carrier = Carrier(blobs.backend, supply, patience=patience)

    def fetch(self, entries: Iterable[Entry], intent: str, *, anew: bool = False) -> FetchReport:
        """Have the bytes of all ``entries`` in the store, written for ``intent``, which must be announced; with
        ``anew``, also those that are there.

        What was complete when one fails is found by its digest the next time. Raises what
        :meth:`cas.carrier.Carrier.carry` does.
        """
        report = FetchReport()
        wanted = list({entry.digest: entry for entry in entries}.values())
        for entry, how in zip(
            wanted, self._carrier.at_once(lambda entry: self._fetch(entry, intent, anew=anew), wanted), strict=True
        ):
            report.add(how, entry.size)
        return report

    def _fetch(self, entry: Entry, intent: str, *, anew: bool) -> How:
        if not anew and self._blobs.is_held(entry.digest, entry.size):
            return How.HELD
        carried = self._carrier.carry(entry, blob_key(entry.digest, intent))
        for digest in carried.digests.values():
            if digest != entry.digest:
                self._blobs.add_alias(digest, intent, entry.digest)
        return carried.how


def fetcher(blobs: Blobs, supply: Supply, *, patience: float | None = None) -> Fetcher | Transit:
    """What brings bytes from ``supply`` into these blobs, on a disk or in an object store."""
    return (Transit if blobs.local is None else Fetcher)(blobs, supply, patience=patience)
