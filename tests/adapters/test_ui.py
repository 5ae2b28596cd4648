"""MLflow's user interface, in a browser, over a store it knows nothing of."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.adapters.browser import Browser
from tests.adapters.deployment import Deployment
from tests.adapters.files import log_tree, pattern
from tests.support.tools import require

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

MLMODEL = "flavors:\n  python_function:\n    loader_module: shown.in.the.browser\n"
FILES = {
    "model/MLmodel": MLMODEL.encode(),
    "model/config.json": b'{"hidden_size": 4096}',
    "model/model.safetensors": pattern(1_500_000),
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    chromedriver = require("chromedriver", "chromium-driver")
    chromium = require("chromium", "chromium")
    with Browser(chromedriver, chromium, tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(params=["proxying", "directing"])
def page(request: pytest.FixtureRequest) -> str:
    """The page of the artifacts of a run with a model."""
    deployment: Deployment = request.getfixturevalue(request.param)
    run_id, uri = deployment.create_run()
    if uri.startswith("mlflow-artifacts:/"):
        run = uri.removeprefix("mlflow-artifacts:/")
        log_tree(deployment.proxied(run), FILES)
    else:
        run = uri.removeprefix(f"cas:{deployment.store}/")
        log_tree(deployment.direct(run), FILES)
    return f"{deployment.server.uri}/#/experiments/{run.split('/')[0]}/runs/{run_id}/artifacts"


def test_the_directory_lists_its_files(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.click("model")
    browser.wait_for("MLmodel", "config.json", "model.safetensors")


@pytest.mark.parametrize(("name", "size"), [("MLmodel", f"{len(MLMODEL)}B"), ("model.safetensors", "1.43MB")])
def test_a_file_is_shown_with_its_true_size(browser: Browser, page: str, name: str, size: str) -> None:
    browser.open(f"{page}/model/{name}")
    text = browser.wait_for("MLmodel", "config.json", "model.safetensors", f"model/{name}", size)
    assert size in text.splitlines()


def test_mlmodel_is_shown_as_text(browser: Browser, page: str) -> None:
    browser.open(f"{page}/model/MLmodel")
    browser.wait_for(*MLMODEL.splitlines())
