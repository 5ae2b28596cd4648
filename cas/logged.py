"""What is logged to an object store from files of this machine, kept in its cache, too: loading it fetches nothing.

A file is cloned, or copied, before it is hashed, and what the cache gets is that private file: so the digest is
that of the very bytes it holds. It gets them when the store has them. Nothing here makes a log call fail.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from cas.cache import Cache
from cas.config import cache_logged
from cas.errors import CasError, InvalidInput
from cas.ingest import Ingested

_logger = logging.getLogger(__name__)


class Logged:
    """The files of one log call. With ``copies``, those that cannot be cloned are copied, else left out."""

    def __init__(self, cache: Cache, *, copies: bool) -> None:
        self._cache = cache
        self._copies = copies
        self._staged: dict[Path, Ingested] = {}
        self._size = 0
        self._room = 0

    @classmethod
    def of(cls, cache: Cache) -> Logged | None:
        """As ``CAS_CACHE_LOGGED`` says; None if nothing shall be kept. Raises :class:`InvalidInput`."""
        chosen = cache_logged()
        if chosen not in ("off", "reflink", "copy"):
            raise InvalidInput(f"CAS_CACHE_LOGGED may be reflink, copy or off, not {chosen!r}")
        return None if chosen == "off" else cls(cache, copies=chosen == "copy")

    def stage(self, source: Path, algorithms: tuple[str, ...]) -> Ingested | None:
        """A private file with the bytes of ``source``, hashed; the caller removes what is left of it in the end.
        None if there is no room, or no way, for one."""
        try:
            size = source.stat().st_size
            if not self._has_room(size):
                _logger.info("%s is not cached: the cache is full", source)
                return None
            staged = self._cache.stage(source, algorithms, copies=self._copies)
        except (OSError, CasError) as error:
            _logger.warning("%s is logged, and not cached: %s", source, error)
            return None
        if staged is not None:
            assert staged.temporary is not None
            self._staged[staged.temporary] = staged
            self._size += size
        return staged

    def keep(self, stored: Iterable[Ingested]) -> None:
        """Give the cache what was staged of these bytes, which are in the store now."""
        mine = [each for each in stored if each.temporary is not None and each.temporary in self._staged]
        try:
            self._cache.keep(mine)
        except (OSError, CasError) as error:
            _logger.warning("%d files were logged, and not cached: %s", len(mine), error)

    def _has_room(self, size: int) -> bool:
        """What was used longest ago makes room, but nobody's load is waiting: without room, nothing is kept."""
        if self._size + size > self._room:
            self._room = self._cache.room(self._size + size)
        return self._size + size <= self._room
