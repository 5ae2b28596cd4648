"""A client of a real server with four workers whose artifacts destination is a store."""

from __future__ import annotations

from typing import Any

import pytest

from tests.adapters.deployment import Deployment, new_run
from tests.adapters.files import every_file, log_tree, names
from tests.adapters.repository_behaviour import RepositoryBehaviour


class TestProxiedRepository(RepositoryBehaviour):
    # MLflow's HTTP client makes an MlflowException of the server's 404, but does not look at its error code.
    missing = "INTERNAL_ERROR"

    @pytest.fixture
    def repository(self, proxying: Deployment) -> Any:
        return proxying.proxied(new_run())

    def test_a_directory_may_hold_one_file_of_its_own_name(self, repository: Any) -> None:
        """Some servers list a file as itself. MLflow's HTTP client guards against them, and so takes this
        directory for a file."""
        log_tree(repository, {"model/model": b"."})
        assert names(repository, "model") == []


def test_the_server_lists_the_runs_of_an_experiment_and_of_a_store(proxying: Deployment) -> None:
    runs = ["experiment/" + new_run().split("/")[1] for _ in range(2)]
    for run in runs:
        log_tree(proxying.direct(f"{run}/artifacts"), {"file": b"."})
    assert names(proxying.proxied("experiment")) == sorted(run.split("/")[1] for run in runs)
    assert every_file(proxying.proxied(runs[0])) == ["artifacts/file"]


def test_deleting_a_run_leaves_the_others(proxying: Deployment) -> None:
    one, other = new_run(), new_run()
    for run in (one, other):
        log_tree(proxying.proxied(run), {"file": b"."})
    proxying.proxied(one).delete_artifacts()
    assert every_file(proxying.proxied(one)) == []
    assert every_file(proxying.proxied(other)) == ["file"]
