"""A writer's intent, from before its first question to after its commit: announced, renewed, committed or given up.

While the intent is there, no collector takes what it pins or what it wrote. One that was not renewed for its lease
is taken for dead: a collector then puts a tombstone where its fragment would be. Commit and abort are create-only
puts of one key, so whichever comes second fails, and no clock decides over anything but who is bothered.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable

from cas.backends import Backend, SupportsLocalFiles
from cas.errors import CasError, IntentAborted, KeyExists
from cas.fragment import tombstone
from cas.intent import LEASE_SECONDS, Intent
from cas.keys import fragment_key, intent_key

_logger = logging.getLogger(__name__)

_RENEWALS = 6
"""In the time of one lease: a store may be out of reach for hours, and its writers live on."""


class Lease:
    """The intent ``intent`` of a log call into the artifact root ``root``. Safe to share among threads."""

    def __init__(self, backend: Backend, root: str, intent: str, *, seconds: int = LEASE_SECONDS) -> None:
        self._backend = backend
        self._root = root
        self._intent = intent
        self._seconds = seconds
        self._pins: set[str] = set()
        self._announced = False
        self._undecided = False
        self._lock = threading.Lock()

    def announce(self, pins: Iterable[str] = ()) -> None:
        """Put the intent, with these pins besides those it has: before anything is written to the store, or
        relied on in it."""
        with self._lock:
            new = set(pins) - self._pins
            if self._announced and not new:
                return
            self._pins |= new
            self._put()
            self._announced = True
        _keeper.keep(self)

    def commit(self, fragment: list[bytes]) -> str:
        """Put the fragment; returns its key. Raises :class:`IntentAborted` if a collector was first."""
        key = fragment_key(self._root, self._intent)
        try:
            self._backend.put(key, fragment, create=True)
        except KeyExists:
            # A put whose answer was lost succeeded; a tombstone of a collector is what it is not.
            if self._backend.read(key) != b"".join(fragment):
                raise aborted(f"writing to {self._root or 'the store'}") from None
        except BaseException:
            # A local file has its name or not. Of a request without an answer nobody knows whether it was, or
            # will be, carried out.
            if isinstance(self._backend, SupportsLocalFiles) or not self._is_committed_after_all(key, fragment):
                raise
        return key

    def release(self) -> None:
        """Take the intent away: what it pinned, and what it wrote without a commit, may be collected."""
        _keeper.forget(self)
        with self._lock:
            if self._announced and not self._undecided:
                self._backend.delete([intent_key(self._intent)])
            self._announced = False

    def _is_committed_after_all(self, key: str, fragment: list[bytes]) -> bool:
        """Make sure whether a commit that failed has happened: if not, it never will.

        As long as that is not sure, the intent stays, and protects what the fragment would name, until a collector
        takes it for dead, and does the same.
        """
        self._undecided = True
        try:
            self._backend.put(key, tombstone(self._intent), create=True)
            committed = False
        except KeyExists:
            try:
                committed = self._backend.read(key) == b"".join(fragment)
            except (CasError, OSError):
                return False
        except (CasError, OSError):
            return False
        self._undecided = False
        return committed

    def _put(self) -> None:
        intent = Intent(
            self._intent, fragment_key(self._root, self._intent), tuple(sorted(self._pins)), self._seconds
        )
        self._backend.put(intent_key(self._intent), [intent.encode()], create=False)

    def renew(self) -> None:
        """Put the intent again, if it is there."""
        with self._lock:
            if self._announced:
                self._put()

    @property
    def pause(self) -> float:
        """Seconds after which it is to be renewed."""
        return self._seconds / _RENEWALS


class _Keeper:
    """Renews the open leases of this process: one thread for all, since most log calls end within milliseconds."""

    def __init__(self) -> None:
        self._due: dict[Lease, float] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._next = 0.0

    def keep(self, lease: Lease) -> None:
        with self._changed:
            self._due[lease] = time.monotonic() + lease.pause
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="cas-lease", daemon=True)
                self._thread.start()
            elif self._due[lease] < self._next:
                self._changed.notify()

    def forget(self, lease: Lease) -> None:
        with self._changed:
            self._due.pop(lease, None)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._next = min(self._due.values(), default=time.monotonic() + LEASE_SECONDS)
                self._changed.wait(max(0.0, self._next - time.monotonic()))
                due = [lease for lease, when in self._due.items() if when <= time.monotonic()]
                self._due.update({lease: time.monotonic() + lease.pause for lease in due})
            for lease in due:
                try:
                    lease.renew()
                except (CasError, OSError) as error:
                    _logger.warning("an intent could not be renewed; it is tried again: %s", error)


def _start_anew() -> None:
    """A forked child writes nothing of what its parent has open, and has none of its threads."""
    global _keeper
    _keeper = _Keeper()


_keeper = _Keeper()
os.register_at_fork(after_in_child=_start_anew)


def aborted(what: str) -> IntentAborted:
    """What a writer raises that a collector gave up."""
    return IntentAborted(
        f"{what} took longer than its lease, and a collector gave it up; nothing was committed, log it again"
    )
