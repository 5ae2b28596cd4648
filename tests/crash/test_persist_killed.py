"""A process that persists is killed, again and again; each next one goes on, and little is fetched twice."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cas import Store
from cas.digest import Digest
from cas.references import references
from cas.verify import verify
from tests.support.hub import LoopbackHub
from tests.support.hub_faults import Counted, on_bodies, throttled

REPO, FILES, SIZE, KILLS = "acme/large", 4, 64_000_000, 20
PERSIST = """
import sys
from cas import Store
from cas.references import persist

persist(Store.open(sys.argv[1]).artifact_root("m"))
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    directory = tmp_path / "repository"
    directory.mkdir()
    for number in range(FILES):
        (directory / f"model-{number}.safetensors").write_bytes(random.Random(number).randbytes(SIZE))
    return directory


def reference(store: Path, commit: str, repository: Path) -> None:
    root = Store.create(store).artifact_root("m")
    with root.log_call() as writer:
        for path in sorted(repository.iterdir()):
            digest = Digest("sha256", hashlib.sha256(path.read_bytes()).hexdigest())
            writer.put_known(path.name, digest, SIZE, f"hf://models/{REPO}@{commit}/{path.name}")
        writer.commit()


def killed_somewhere(process: subprocess.Popen[bytes], counted: Counted, chance: random.Random) -> bool:
    """Kill it a random while after it began to receive; False if it was through before."""
    before, wait = counted.bytes, chance.uniform(0, 0.25)
    while counted.bytes == before and process.poll() is None:
        time.sleep(0.005)
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def test_twenty_kills_cost_a_tenth_of_the_bytes_at_most(tmp_path, repository):
    seed = int(os.environ.get("CAS_TEST_SEED", random.randrange(1 << 32)))
    print(f"CAS_TEST_SEED={seed}")
    chance = random.Random(seed)
    store = tmp_path / "store"
    with LoopbackHub() as hub:
        reference(store, hub.add_repo(REPO, repository), repository)
        hub.fault = counted = Counted(on_bodies(throttled(2_000_000)))
        environment = {
            **os.environ,
            **hub.environment(tmp_path / "hub-cache"),
            "CAS_CACHE": str(tmp_path / "cache"),
        }

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen([sys.executable, "-c", PERSIST, str(store)], env=environment)

        for _ in range(KILLS):
            assert killed_somewhere(start(), counted, chance), "nothing was left to kill: slow the server down"
            assert len(references(Store.open(store).artifact_root("m"))) > 0
        hub.fault = counted_last = Counted()
        assert start().wait() == 0
    sent = counted.bytes + counted_last.bytes
    assert sent <= 1.1 * FILES * SIZE
    opened = Store.open(store)
    assert references(opened.artifact_root("m")) == []
    assert not verify(opened).problems
    for path in repository.iterdir():
        with opened.artifact_root("m").open(path.name) as file:
            assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(path.read_bytes()).digest()
    assert not list((store / "tmp" / "downloads").glob("*"))
