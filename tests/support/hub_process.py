"""The loopback Hub in a process of its own: ``python -m tests.support.hub_process acme/tiny=DIRECTORY …``."""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .hub import Answer, Fault, LoopbackHub, Reply, Request, cut


@contextmanager
def hub_process(repositories: Mapping[str, Path], *, cut_one_in: int = 0) -> Iterator[str]:
    """Serve directories as repositories; yields the endpoint. ``cut_one_in`` five means that every fifth
    connection for a large file is cut at a random byte, the same ones each time."""
    arguments = [f"{name}={directory}" for name, directory in repositories.items()]
    command = [sys.executable, "-m", "tests.support.hub_process", *arguments, "--cut-one-in", str(cut_one_in)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        endpoint = process.stdout.readline().strip()
        if not endpoint:
            raise RuntimeError(f"the hub did not start: exit status {process.wait()}")
        yield endpoint
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def environment(endpoint: str, cache: Path) -> dict[str, str]:
    """What :meth:`LoopbackHub.environment` says, for a hub in another process."""
    with LoopbackHub() as hub:
        return {**hub.environment(cache), "HF_ENDPOINT": endpoint}


def _cuts(one_in: int) -> Callable[[Request], Fault | None]:
    chance, lock = random.Random(1), threading.Lock()

    def fault(request: Request, answer: Answer) -> Reply:
        with lock:
            share = chance.random()
        return cut(int(share * answer(request).length))(request, answer)

    def rule(request: Request) -> Fault | None:
        if not request.on_cdn:
            return None
        with lock:
            return fault if chance.random() * one_in < 1 else None

    return rule


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repositories", nargs="+", metavar="NAME=DIRECTORY")
    parser.add_argument("--cut-one-in", type=int, default=0)
    arguments = parser.parse_args()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with LoopbackHub() as hub:
        for each in arguments.repositories:
            name, _, directory = each.partition("=")
            hub.add_repo(name, Path(directory))
        if arguments.cut_one_in:
            hub.fault = _cuts(arguments.cut_one_in)
        print(hub.endpoint, flush=True)
        while not ended.wait(0.2) and os.getppid() != 1:
            pass


if __name__ == "__main__":
    main()
