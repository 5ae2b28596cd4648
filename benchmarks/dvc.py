"""DVC as a peer, by its command line: from this interpreter's environment, the PATH, or ``BENCH_DVC``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

EXECUTABLE = os.environ.get("BENCH_DVC") or shutil.which(
    "dvc", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
)
_CONFIG = """\
[core]
    no_scm = True
    analytics = false
    check_update = false
[cache]
    type = "reflink,hardlink,copy"
"""


@cache
def version() -> str:
    return _dvc(Path.cwd(), "--version").strip() if EXECUTABLE else "not installed"


def initialise(repository: Path) -> None:
    """What `dvc init --no-scm` and three calls of `dvc config` make."""
    (repository / ".dvc").mkdir(parents=True)
    (repository / ".dvc" / "config").write_text(_CONFIG)


def add(repository: str, source: str) -> Callable[[], object]:
    def run() -> None:
        _dvc(Path(repository), "add", "--quiet", source)

    return run


def checkout(repository: str, target: str) -> Callable[[], object]:
    def run() -> None:
        _dvc(Path(repository), "checkout", "--quiet", f"{target}.dvc")

    return run


def _dvc(directory: Path, *arguments: str) -> str:
    assert EXECUTABLE is not None
    done = subprocess.run(
        [EXECUTABLE, *arguments],
        cwd=directory,
        env=os.environ | {"DVC_NO_ANALYTICS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"dvc {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
