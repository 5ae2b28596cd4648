"""What a verification that was broken off had read already: a file of this user's, not of the store."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from cas.digest import digest_of

_EVERY_SECONDS = 1.0


class Verified:
    """The shards that are done. Kept below ``directory``, for one ``store`` (its id) and one place in it.

    ``go_on``: with what an earlier one left; else from nothing. Safe to share among threads. A process that is
    killed loses what was done in the last second.
    """

    def __init__(self, directory: Path, store: str, place: str, *, go_on: bool) -> None:
        self._path = directory / f"{store}-{digest_of(place.encode()).hex[:16]}.json"
        self._lock = threading.Lock()
        self._done: set[str] = set()
        self._saved = time.monotonic()
        self.began = time.time()
        """Seconds since 1970."""
        if go_on:
            with suppress(
                FileNotFoundError, ValueError, KeyError, TypeError
            ):  # worth no more than it costs to redo
                document = json.loads(self._path.read_bytes())
                self._done, self.began = set(document["done"]), float(document["began"])

    def __contains__(self, shard: str) -> bool:
        return shard in self._done

    def __len__(self) -> int:
        return len(self._done)

    def add(self, shard: str) -> None:
        with self._lock:
            self._done.add(shard)
            if time.monotonic() - self._saved >= _EVERY_SECONDS:
                self._save()

    def save(self) -> None:
        """Now, whenever the last time was."""
        with self._lock:
            self._save()

    def _save(self) -> None:
        _write(self._path, json.dumps({"began": self.began, "done": sorted(self._done)}).encode())
        self._saved = time.monotonic()

    def forget(self) -> None:
        """It is through: the next one begins anew."""
        self._path.unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    os.replace(temporary, path)
