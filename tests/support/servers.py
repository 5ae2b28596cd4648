"""A real ``mlflow server`` for tests, started and stopped with a ``with`` statement."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

STARTUP_SECONDS = 120.0
SHUTDOWN_SECONDS = 15.0
LOG_TAIL = 4000


class MlflowServer:
    """``mlflow server`` over SQLite in ``directory``, listening on loopback.

    With ``artifacts_destination`` it proxies artifacts to that place; without, clients reach
    ``default_artifact_root`` themselves. ``environment`` is added to this process's own. Stopping and
    starting again keeps the address and the database.
    """

    def __init__(
        self,
        directory: Path,
        *,
        artifacts_destination: str | None = None,
        default_artifact_root: str | None = None,
        workers: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        if (artifacts_destination is None) == (default_artifact_root is None):
            raise ValueError("give either artifacts_destination or default_artifact_root")
        self.port = _free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.log = directory / "server.log"
        self._directory = directory
        self._command = _command(directory, self.port, workers, artifacts_destination, default_artifact_root)
        self._environment = {
            **os.environ,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            # The job runner is a process of its own with its own database; nothing here submits jobs.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            **(environment or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and return once it answers; it is stopped again if it does not."""
        self._directory.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            # A session of its own makes a process group that holds the server's workers and nothing else.
            self._process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_healthy(self._process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server and its workers, by force if they do not heed a polite request."""
        process, self._process = self._process, None
        if process is None:
            return
        os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + SHUTDOWN_SECONDS
        while not _has_ended(process) and time.monotonic() < deadline:
            time.sleep(0.02)
        # Workers may outlive their parent. The parent is not reaped yet, so its id still names this group.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def log_tail(self) -> str:
        """The end of what the server has printed."""
        return self.log.read_text(errors="replace")[-LOG_TAIL:]

    def _wait_until_healthy(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + STARTUP_SECONDS
        while not _answers(f"{self.uri}/health"):
            if _has_ended(process):
                raise RuntimeError(f"mlflow server ended during startup:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"mlflow server silent for {STARTUP_SECONDS} s:\n{self.log_tail()}")
            time.sleep(0.05)


def _command(
    directory: Path, port: int, workers: int, destination: str | None, default_root: str | None
) -> list[str]:
    if destination is not None:
        artifacts = ["--serve-artifacts", "--artifacts-destination", destination]
    else:
        artifacts = ["--no-serve-artifacts", "--default-artifact-root", str(default_root)]
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{directory.absolute() / 'mlflow.db'}"),
        *("--workers", str(workers)),
        *artifacts,
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(url: str) -> bool:
    """Whether the server is up; a proxy in the environment must not answer in its place."""
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=5) as response:
            return bool(response.status == 200)
    except (URLError, ConnectionError, TimeoutError):
        return False


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process is over, without reaping it as ``poll`` would: that frees its id for reuse."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
