"""MLflow's own local repository, by the same tests: a check that they ask what MLflow does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from tests.adapters.repository_behaviour import RepositoryBehaviour
from tests.adapters.stream_behaviour import StreamBehaviour


class TestLocalRepository(RepositoryBehaviour, StreamBehaviour):
    @pytest.fixture
    def repository(self, tmp_path: Path) -> Any:
        return LocalArtifactRepository(str(tmp_path / "artifacts"))
