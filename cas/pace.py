"""A limit on how fast something is done, so that others keep their share of a disk or a network."""

from __future__ import annotations

import threading
import time


class Pace:
    """At most ``bytes_per_second`` for all threads that share it; None for no limit."""

    def __init__(self, bytes_per_second: float | None = None) -> None:
        self._rate = bytes_per_second
        self._lock = threading.Lock()
        self._free_at = 0.0

    @property
    def is_limited(self) -> bool:
        return self._rate is not None

    def take(self, count: int) -> None:
        """Wait as long as the bytes that were just read should have taken."""
        if self._rate is None:
            return
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + count / self._rate
            wait = self._free_at - time.monotonic()
        if wait > 0:
            time.sleep(wait)
