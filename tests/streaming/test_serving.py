"""What a tracking server does with references, and what a person at a terminal can do to a fetch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from cas_mlflow.repository import CasArtifactRepository
from tests.support.hub_faults import Counted, on_bodies, throttled

from .test_fetching import reference

PERSIST = """
import sys
from cas import Store
from cas.references import persist

persist(Store.open(sys.argv[1]).artifact_root("m"))
"""


def test_an_event_loop_does_not_wait_for_a_fetch(hub, store, entry, weights, tmp_path):
    root = reference(store, entry, "1/models/m-1/artifacts")
    repository = CasArtifactRepository(f"cas://{store.name}/{root.path}")
    hub.log.clear()
    assert repository.get_local_path(entry.path) is None
    assert not hub.log
    fetched = Path(repository.download_artifacts(entry.path, str(tmp_path)))
    assert fetched.read_bytes() == (weights / entry.path).read_bytes()
    assert Path(repository.get_local_path(entry.path)).read_bytes() == fetched.read_bytes()


def test_control_c_ends_a_fetch_soon_and_the_next_one_goes_on(hub, store, entry, tmp_path):
    root = reference(store, entry)
    hub.fault = counted = Counted(on_bodies(throttled(300_000)))
    own = os.environ | hub.environment(tmp_path / "home") | {"CAS_CACHE": str(tmp_path / "cache")}
    command = ["env", "--default-signal=INT", sys.executable, "-c", PERSIST, store.name]
    process = subprocess.Popen(command, env=own, stderr=subprocess.PIPE, text=True)
    while counted.bytes < 3_000_000:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=15)[1]
    assert root.manifest().get(entry.path).blob is None
    assert not list(store.backend.keys("intents/"))
    assert list(Path(store.name).glob("tmp/downloads/*/journal"))
