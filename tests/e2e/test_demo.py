"""The demo, as a stranger runs it; its numbers against what lies on the disk."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest

from tests.support.processes import run_fresh

from . import clients
from .measure import stored_bytes

ROOT = Path(__file__).parents[2]


def command(directory: Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks.demo", "--directory", str(directory)]


def test_its_numbers_are_those_of_the_disk(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    ended = subprocess.run(command(directory), cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count(" equal") == 8
    assert "DIFFERS" not in ended.stdout
    assert "Traceback" not in ended.stderr
    found = re.search(r"(\d+) bytes logged, (\d+) bytes stored, ratio ([\d.]+)", ended.stdout)
    assert found is not None, ended.stdout
    logged, stored, ratio = int(found[1]), int(found[2]), float(found[3])
    assert stored == stored_bytes(directory / "store")
    assert logged == run_fresh({}, clients.listed_bytes, f"cas://{directory}/store")
    assert ratio == pytest.approx(logged / stored, abs=0.006)
    assert ratio > 7.8  # of the shards and the single file, each stored once
    for program in ("ls", "stats", "verify"):
        (line,) = re.findall(rf"\S*/cas {program} \S+", ended.stdout)
        subprocess.run(line.split(), check=True, stdout=subprocess.DEVNULL)


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("chapter 1")
    ended = subprocess.run(command(tmp_path), cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        f"demo: {tmp_path} is not empty, and not from an earlier demo; choose another --directory"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_control_c_stops_the_server(tmp_path: Path) -> None:
    log = tmp_path / "stderr"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            # Whoever runs the tests in the background of a shell has it ignored, and that is inherited.
            ["env", "--default-signal=INT", *command(tmp_path / "demo")],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            process_group=0,
        )
    deadline = time.monotonic() + 120
    while "making a Llama" not in log.read_text() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    (address,) = re.findall(r"http://\S+", (tmp_path / "demo" / "server" / "server.log").read_text())[:1]
    assert answers(address)
    # A terminal sends it to the whole foreground group, which the server is not in.
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert "interrupted" in log.read_text()
    assert not answers(address)


def answers(address: str) -> bool:
    try:
        with build_opener(ProxyHandler({})).open(f"{address}/health", timeout=5):
            return True
    except URLError:
        return False
