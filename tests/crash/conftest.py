"""The store that every crash test spoils a copy of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash import operations
from tests.support.tools import require


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a store and the user's files."""
    require("strace", "strace")
    directory = tmp_path_factory.mktemp("prepared")
    operations.prepare(directory)
    return directory
