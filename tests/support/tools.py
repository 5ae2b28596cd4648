"""Programs of the system that some tests need."""

from __future__ import annotations

import os
import shutil

import pytest


def require(program: str, package: str) -> str:
    """The path of a program. Without it a developer's test is skipped, saying why; in CI that is a failure."""
    found = shutil.which(program)
    if found is None:
        reason = f"{program} is not installed; as root: apt-get install {package} (or make system)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def require_root() -> None:
    """Skip, saying why, unless this is root; in CI that is a failure."""
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("CI must run this as root")
        pytest.skip("needs root")
