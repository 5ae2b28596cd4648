"""What runs when the power goes: two threads that log, remove, persist and mirror, and say what they do.

Each line on the pipe is a log call that begins, or the acknowledgement of the one its worker began last.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import stat
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import cas
import cas.atomic
import cas.collect
import cas.mirror
import cas.references
from cas.digest import Hasher, digest_of
from cas.errors import InvalidInput
from tests.powercut.ledger import STORE
from tests.support import origin

SHARED = "shared/models/m-0/artifacts"
REFERENCE = "reference"
_WORKERS = 2
_CALLS = 120
_SOURCES = Path("/tmp/sources")
_OTHER = Path("/tmp/other")


def run(pipe: int, store: Path, seed: str, control: str) -> None:
    """In a process of its own, until it is killed or has done its calls; never returns."""
    sabotage(control)
    say = _Speaker(pipe)
    for each in (_SOURCES, _OTHER, origin.directory()):
        shutil.rmtree(each, ignore_errors=True)
    origin.directory().mkdir()
    if not (store / "cas.json").exists():
        with say.call("store", "create", STORE):
            cas.Store.create(store)
    other = cas.Store.create(_OTHER)
    workers = [
        _Worker(f"w{number}", cas.Store.open(store), other=other, speaker=say, seed=seed, control=control)
        for number in range(_WORKERS)
    ]
    threads = [threading.Thread(target=worker.run) for worker in workers]
    # Not always: it syncs everything now and then, and would hide what others forget.
    if not control and random.Random(f"{seed} collector").random() < 0.3:
        threading.Thread(target=_collect, args=(cas.Store.open(store), say), daemon=True).start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os._exit(0)


def _collect(store: cas.Store, speaker: _Speaker) -> None:
    """Delete, without grace, what nobody needs; which nobody may notice."""
    while True:
        with speaker.call("collector", "collect", {}), suppress(InvalidInput):  # before anything is logged
            cas.collect.execute(store, cas.collect.plan(store, grace=0))
        time.sleep(0.2)


def sabotage(control: str) -> None:
    """Leave out syncs, as a careless program would."""
    if not control:
        return
    fsync = os.fsync

    def careless(descriptor: int) -> None:
        kind = "directories" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "files"
        if control not in ("nothing", kind):
            fsync(descriptor)

    os.fsync = careless  # type: ignore[assignment]
    if control in ("nothing", "batches"):
        cas.atomic.sync_file_system = lambda path: None


class _Speaker:
    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def call(self, worker: str, kind: str, changes: Mapping[str, str | None]) -> _Announced:
        return _Announced(self, {"worker": worker, "kind": kind, "changes": changes})

    def say(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        with self._lock:  # long lines come in several writes
            cas.atomic.write_all(self._pipe, data)


class _Announced:
    """The log call in its block: said before, acknowledged after."""

    def __init__(self, speaker: _Speaker, message: dict[str, Any]) -> None:
        self._speaker = speaker
        self._message = message

    def __enter__(self) -> None:
        self._speaker.say(self._message)

    def __exit__(self, kind: object, error: object, _: object) -> None:
        worker = self._message["worker"]
        self._speaker.say({"acknowledged": worker} if error is None else {"failed": worker, "error": repr(error)})


class _Worker:
    def __init__(
        self, name: str, store: cas.Store, *, other: cas.Store, speaker: _Speaker, seed: str, control: str
    ) -> None:
        self._name = name
        self._store = store
        self._other = other
        self._speaker = speaker
        self._random = random.Random(f"{seed} {name}")
        self._seed = seed
        self._here: list[str] = []
        self._models: list[tuple[str, list[str]]] = []
        kinds: dict[Callable[[str], None], int] = {
            self._small: 8,
            self._replace: 3,
            self._remove: 1,
            self._discard: 2,
            self._large: 4,
            self._orphan: 2,
            self._tree: 3,
            self._batch: 1,
            self._persist: 2,
            self._mirror: 1,
        }
        # A syncfs, where it is not what is missing, would make good what is.
        if control in ("files", "directories"):
            del kinds[self._batch]
        self._kinds = kinds if control != "batches" else {self._batch: 1}

    def run(self) -> None:
        for number in range(_CALLS):
            (kind,) = self._random.choices(list(self._kinds), list(self._kinds.values()))
            kind(f"{self._seed}-{number}")

    def _small(self, call: str) -> None:
        """Into an artifact root of both workers, which folds again and again."""
        data, path = self._random.randbytes(self._random.randrange(9000)), f"{self._name}/{call}"
        with self._log("small", {f"{SHARED}:{path}": said(data)}):
            self._store.artifact_root(SHARED).ingest_bytes(data, path)
        self._here.append(path)

    def _replace(self, call: str) -> None:
        data, path = self._random.randbytes(self._random.choice((10, 5000, 60_000))), f"{self._name}/latest"
        with self._log("replace", {f"{SHARED}:{path}": said(data)}):
            self._store.artifact_root(SHARED).ingest_bytes(data, path)

    def _remove(self, call: str) -> None:
        if self._here:
            path = self._here.pop(self._random.randrange(len(self._here)))
            with self._log("remove", {f"{SHARED}:{path}": None}):
                self._store.artifact_root(SHARED).remove(path)

    def _discard(self, call: str) -> None:
        """A whole model, whose blobs can be collected then."""
        if self._models:
            root, paths = self._models.pop(self._random.randrange(len(self._models)))
            with self._log("discard", dict.fromkeys(f"{root}:{path}" for path in paths)):
                self._store.artifact_root(root).remove()

    def _large(self, call: str) -> None:
        """Of a few files that both workers log, often at the same time."""
        shared = random.Random(f"{self._seed} {self._random.randrange(6)}")
        data = shared.randbytes(shared.randrange(20_000, 1_500_000))
        source = self._source({"weights": data}, call) / "weights"
        root = self._root(call)
        with self._log("large", {f"{root}:weights": said(data)}):
            self._store.artifact_root(root).ingest_file(source, "weights")
        self._models.append((root, ["weights"]))

    def _orphan(self, call: str) -> None:
        """Of a blob that was named by a process that was killed before it synced the name."""
        data = self._random.randbytes(self._random.randrange(20_000, 200_000))
        source, root = self._source({"weights": data}, call) / "weights", self._root(call)
        child = os.fork()
        if child == 0:
            cas.atomic.Publisher._make_safe = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
            cas.Store.open(self._store.name).artifact_root(f"killed/{root}").ingest_file(source, "weights")
            os._exit(0)
        os.waitpid(child, 0)
        with self._log("orphan", {f"{root}:weights": said(data)}):
            self._store.artifact_root(root).ingest_file(source, "weights")

    def _tree(self, call: str) -> None:
        files = {
            "MLmodel": b"flavors: {}",
            "data/config.json": self._random.randbytes(700),
            "data/model-1.safetensors": self._random.randbytes(self._random.randrange(17_000, 400_000)),
            "data/model-2.safetensors": self._random.randbytes(30_000),
        }
        self._log_tree("tree", call, files)

    def _batch(self, call: str) -> None:
        """So many blobs that they are synced together."""
        self._log_tree("batch", call, {f"{number:02}": self._random.randbytes(17_000) for number in range(34)})

    def _log_tree(self, kind: str, call: str, files: dict[str, bytes]) -> None:
        source, root = self._source(files, call), self._root(call)
        with self._log(kind, {f"{root}:model/{path}": said(data) for path, data in files.items()}):
            self._store.artifact_root(root).ingest_tree(source, "model")
        self._models.append((root, [f"model/{path}" for path in files]))

    def _persist(self, call: str) -> None:
        """Log references, then make them real: streamed, and published under their sha256."""
        root = self._store.artifact_root(self._root(call))
        files = {f"{name}.safetensors": self._random.randbytes(self._random.randrange(300_000)) for name in "ab"}
        for name, data in files.items():
            (origin.directory() / f"{self._name}-{call}-{name}").write_bytes(data)
        with (
            self._log("reference", {f"{root.path}:{name}": REFERENCE for name in files}),
            root.log_call(files) as writer,
        ):
            for name, data in files.items():
                sha256 = Hasher(("sha256",))
                sha256.update(data)
                where = f"{origin.SCHEME}://{self._name}-{call}-{name}"
                writer.put_known(name, sha256.digests()["sha256"], len(data), where)
            writer.commit()
        with self._log("persist", {f"{root.path}:{name}": said(data) for name, data in files.items()}):
            cas.references.persist(root)

    def _mirror(self, call: str) -> None:
        files = {"small": self._random.randbytes(100), "large": self._random.randbytes(120_000)}
        root = self._root(call)
        self._other.artifact_root(root).ingest_tree(self._source(files, call))
        with self._log("mirror", {f"{root}:{path}": said(data) for path, data in files.items()}):
            report = cas.mirror.mirror(self._other, self._store, root)
            assert report.changed == 1, report

    def _log(self, kind: str, changes: Mapping[str, str | None]) -> _Announced:
        return self._speaker.call(self._name, kind, changes)

    def _root(self, call: str) -> str:
        return f"{self._name}/models/m-{call}/artifacts"

    def _source(self, files: dict[str, bytes], call: str) -> Path:
        directory = _SOURCES / f"{self._name}-{call}"
        for path, data in files.items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_bytes(data)
        return directory


def said(data: bytes) -> str:
    return f"{digest_of(data)}, {len(data)} bytes"
