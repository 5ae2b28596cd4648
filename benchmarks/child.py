"""The processes samples are taken in. Started by :class:`benchmarks.harness.Sampler`.

One process does the imports, then forks for each job it reads: a sample has a process, and so a peak memory, of
its own, without waiting for `import mlflow` each time.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import resource
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.places import sync_tree, used


def main() -> None:
    """Import the modules named as arguments, then run jobs from standard input, one JSON object a line."""
    for name in sys.argv[1:]:
        import_module(name)
    gc.collect()
    gc.freeze()  # else the first collection in a fork copies every page that holds an object
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            _run(json.loads(line))
            atexit._run_exitfuncs()  # trees that go at exit go
            os._exit(0)  # taking down all that was imported would take longer than most samples
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()


def _run(job: dict[str, Any]) -> None:
    try:
        found = _sample(job)
    except Exception:
        found = {"error": traceback.format_exc()}
    Path(job["answer"]).write_text(json.dumps(found))


def _sample(job: dict[str, Any]) -> dict[str, Any]:
    module, name = job["operation"].split(":")
    run = getattr(import_module(module), name)(*job["arguments"])
    work = Path(job["work"])
    in_use, memory = used(work, private=job["private"]), _peak_memory()
    os.sync()
    io, cpu, start = _io(), _cpu(), time.perf_counter()
    answer = run()
    wall = time.perf_counter() - start
    cpu, now = _cpu() - cpu, _io()
    synced = None
    if job["sync"] is not None:
        start = time.perf_counter()
        sync_tree(Path(job["sync"]))
        synced = wall + time.perf_counter() - start
    return {
        "wall": wall,
        "synced": synced,
        "cpu": cpu,
        # Not less what was cancelled: a file that was truncated again may have been written out before.
        "disk_written": now["write_bytes"] - io["write_bytes"],
        "wchar": now["wchar"] - io["wchar"],
        "grown": used(work, private=job["private"]) - in_use,
        "memory": max(_peak_memory(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024),
        "memory_before": memory,
        "answer": answer,
    }


def _io() -> dict[str, int]:
    """What this process, and the children it waited for, read and wrote."""
    with open("/proc/self/io", encoding="ascii") as file:
        return {name: int(count) for name, count in (line.split(": ") for line in file)}


def _cpu() -> float:
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in both)


def _peak_memory() -> int:
    """VmHWM, not ru_maxrss: exec hands that one down from the process that started this one."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
