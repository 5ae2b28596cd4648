"""Running an operation under strace, which kills it, or makes a system call of it fail."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

import cas
from cas import Store
from cas.verify import verify
from tests.crash import operations
from tests.crash.operations import BEFORE, OPERATIONS, Files, Operation
from tests.support.reading import read

# Every call that changes a file system, or opens something, in any of the operations.
SYSTEM_CALLS = (
    "openat",
    "write",
    "copy_file_range",
    "sync_file_range",
    "fsync",
    "syncfs",
    "fchmod",
    "utimensat",
    "mkdir",
    "rename",
    "linkat",
    "unlink",
    "rmdir",
)

# multiprocessing asks after all its children whenever it starts one, which must not happen while one is joined.
_bookkeeping = threading.Lock()
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.crash.operations"])


@dataclass
class Outcome:
    """How an operation ended, and the calls strace saw."""

    acknowledged: bool = False
    killed: bool = False
    error: list[str] = field(default_factory=list)
    message: str = ""
    log: str = ""

    @property
    def injected(self) -> bool:
        return self.killed or "(INJECTED)" in self.log


def run_traced(directory: Path, name: str, arguments: Sequence[str]) -> Outcome:
    """Run an operation in a new process, under strace from its first call to its answer."""
    ours, theirs = _context.Pipe()
    process = _context.Process(target=operations.perform, args=(theirs, cas.__file__, name, str(directory)))
    with _bookkeeping:
        process.start()
    theirs.close()
    try:
        assert ours.recv() == "ready"
        with _traced(process.pid, directory / "trace", arguments):
            ours.send("go")
            wait([process.sentinel])
            said = os.read(ours.fileno(), 1 << 16)
    finally:
        with _bookkeeping:
            process.kill()
            process.join()
        ours.close()
    answer = json.loads(said) if said else {}
    return Outcome(
        acknowledged=answer.get("acknowledged", False),
        killed=process.exitcode == -9,
        error=answer.get("error", []),
        message=answer.get("message", ""),
        log=(directory / "trace").read_text(errors="replace"),
    )


@contextmanager
def _traced(pid: int | None, log: Path, arguments: Sequence[str]) -> Iterator[None]:
    command = ["strace", "-f", "-y", "-p", str(pid), "-o", str(log), "-e", "signal=none", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        first = tracer.stderr.readline()
        assert "attached" in first, f"strace cannot attach: {first}{tracer.stderr.read()}"
        yield
        tracer.communicate()


def copy_of(prepared: Path, directory: Path) -> Path:
    """A copy to be spoiled, with the seals of the blobs."""
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(prepared, directory)
    return directory


def contents(store: Store, path: str) -> Files:
    """Every file of an artifact root, read whole."""
    root = store.artifact_root(path)
    return {entry.path: read(root, entry.path) for entry in root.manifest()}


def unfinished(directory: Path) -> list[Path]:
    """Files in scratch."""
    return [path for path in (directory / "store/tmp").rglob("*") if path.is_file()]


def check_whole(directory: Path, operation: Operation, *, acknowledged: bool) -> None:
    """What is visible is whole, what was acknowledged is there, and nothing else was touched."""
    store = Store.open(directory / "store")
    assert verify(store).problems == []
    for path, before in BEFORE.items():
        if path != operation.root:
            assert contents(store, path) == before
    found = contents(store, operation.root)
    assert found == operation.after or (found == operation.before and not acknowledged)


def check_goes_on(directory: Path, name: str) -> None:
    """The next process can do the same, sees it whole, and clears away what the dead one left."""
    operation = OPERATIONS[name]
    store = Store.open(directory / "store")
    root = store.artifact_root(operation.root)
    operation.run(root, directory / "sources")
    root.ingest_bytes(b"later", "later")
    operation.check(store)
    assert contents(store, operation.root) == operation.after | {"later": b"later"}
    assert verify(store).problems == []
    assert unfinished(directory) == []
    assert [path.name for path in (directory / "store/tmp").iterdir()] == [store.scratch.directory.name]


_LINE = re.compile(r"(?P<call>\w+)\((?P<arguments>.*)\)\s+= (?P<result>-?\d+|\?)")
_OPEN_FILE = re.compile(r"\d+<([^<>]*)>")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Call:
    """One successful system call: its name and the paths it was about, the target last."""

    name: str
    paths: tuple[str, ...]
    text: str

    @property
    def target(self) -> str:
        return self.paths[-1] if self.paths else ""


def calls(log: str) -> list[Call]:
    """The successful calls of a log of ``strace -f -y``, in the order in which they returned."""
    found = []
    unfinished_calls: dict[str, str] = {}
    for line in log.splitlines():
        pid, _, text = line.partition(" ")
        text = text.strip()
        if text.endswith("<unfinished ...>"):
            unfinished_calls[pid] = text.removesuffix("<unfinished ...>")
            continue
        if text.startswith("<... "):
            text = unfinished_calls.pop(pid) + text.partition("resumed>")[2]
        match = _LINE.match(text)
        if match is None or match["result"].startswith(("-", "?")):
            continue
        name, arguments = match["call"], match["arguments"]
        about = _QUOTED if name in {"rename", "linkat", "unlink", "rmdir", "mkdir", "openat"} else _OPEN_FILE
        found.append(Call(name, tuple(about.findall(arguments)), text))
    return found
