"""Eight processes load one reference at once."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

from cas import Store
from cas.digest import Digest
from tests.support.hub import LoopbackHub
from tests.support.hub_faults import Counted, on_bodies, throttled

REPO, FILES, SIZE, PROCESSES = "acme/shared", 3, 6_000_000, 8
LOAD = """
import sys
from cas import Store

print("ready", flush=True)
sys.stdin.readline()
Store.open(sys.argv[1]).artifact_root("m").checkout("", sys.argv[2], disposable=True)
"""


def test_each_byte_is_fetched_once(tmp_path: Path) -> None:
    repository, store = tmp_path / "repository", tmp_path / "store"
    repository.mkdir()
    root = Store.create(store).artifact_root("m")
    for number in range(FILES):
        (repository / f"{number}.safetensors").write_bytes(random.Random(number).randbytes(SIZE))
    with LoopbackHub() as hub:
        commit = hub.add_repo(REPO, repository)
        with root.log_call() as writer:
            for path in sorted(repository.iterdir()):
                digest = Digest("sha256", hashlib.sha256(path.read_bytes()).hexdigest())
                writer.put_known(path.name, digest, SIZE, f"hf://models/{REPO}@{commit}/{path.name}")
            writer.commit()
        hub.fault = counted = Counted(on_bodies(throttled(8_000_000)))
        own = os.environ | hub.environment(tmp_path / "hub-cache") | {"CAS_CACHE": str(tmp_path / "cache")}
        processes = []
        for number in range(PROCESSES):
            command = [sys.executable, "-c", LOAD, str(store), str(tmp_path / f"loaded-{number}")]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            processes.append(subprocess.Popen(command, env=own, text=True, **pipes))
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            process.communicate(timeout=120)
    assert [process.returncode for process in processes] == [0] * PROCESSES
    assert counted.bytes == FILES * SIZE
    for number in range(PROCESSES):
        for path in repository.iterdir():
            assert (tmp_path / f"loaded-{number}" / path.name).read_bytes() == path.read_bytes()
