"""How often, and how long, to try again: counted from the last progress, by all threads of a download together."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

import tenacity

from cas.errors import SourceUnavailable

_logger = logging.getLogger(__name__)

SECONDS = 300.0
"""After so long without a byte, trying again ends."""
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
_LONGEST_ASKED = 900.0  # seconds a source may ask to be left alone before we rather fail at once


class Patience:
    """Gives up when nothing came for ``seconds`` (:data:`SECONDS` if None), however many failures there were in
    between."""

    def __init__(self, seconds: float | None = None, *, first_wait: float = _FIRST_WAIT) -> None:
        self._seconds = SECONDS if seconds is None else seconds
        self._first_wait = first_wait
        self._last_progress = time.monotonic()
        self._failures = 0

    def progress(self) -> None:
        """Something came: the count starts anew. No lock: a lost update costs a moment of patience."""
        self._last_progress = time.monotonic()
        self._failures = 0

    def persist(self, action: Callable[[], None], sleep: Callable[[float], None]) -> None:
        """Run ``action`` until it does not raise SourceUnavailable; raises the last one when patience ends."""
        tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(SourceUnavailable),
            stop=self._stop,
            wait=self._wait,
            sleep=sleep,
            before_sleep=_tell,
            reraise=True,
        )(action)

    def _stop(self, state: tenacity.RetryCallState) -> bool:
        wait = _asked(state) or 0.0
        if wait > _LONGEST_ASKED:
            return True
        if wait:
            # Waiting because one was asked to is no failure to get on.
            self._last_progress = max(self._last_progress, time.monotonic() + wait - self._seconds / 2)
        return time.monotonic() - self._last_progress > self._seconds

    def _wait(self, state: tenacity.RetryCallState) -> float:
        self._failures += 1
        if self._failures == 1:
            return _asked(state) or 0.0  # something came just now, so most likely more can be had at once
        backoff: float = min(_LONGEST_WAIT, self._first_wait * 2.0 ** min(self._failures - 2, 16))
        # Jitter: many clients that failed together must not come back together.
        return (_asked(state) or 0.0) + backoff * random.uniform(0.5, 1.0)  # noqa: S311


def _asked(state: tenacity.RetryCallState) -> float | None:
    error = state.outcome.exception() if state.outcome else None
    return error.retry_after if isinstance(error, SourceUnavailable) else None


def _tell(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    _logger.info("%s; trying again in %.1f s", error, state.next_action.sleep if state.next_action else 0)
