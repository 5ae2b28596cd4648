"""Running a function in a Python process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def run_fresh(environment: Mapping[str, str], function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call ``function`` in a new interpreter with ``environment`` added, and return or raise what it does.

    ``huggingface_hub`` reads its settings once, when imported, and caches clients and listings after that.
    ``function`` must be importable, and its module must leave the import of such packages to it.
    """
    with ProcessPoolExecutor(1, get_context("spawn"), _enter, (dict(environment),)) as pool:
        return pool.submit(function, *args, **kwargs).result()


def _enter(environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
