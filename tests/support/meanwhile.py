"""Others who log, remove and collect between the steps of a log call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cas import Store, collect
from cas.fetch import Fetcher, FetchReport
from cas.transit import Transit


def collected_after_fetching(
    monkeypatch: pytest.MonkeyPatch, store: Store, before: Callable[[], object] = lambda: None
) -> list[int]:
    """``before`` each fetch something happens in ``store``, and after it, before what was found there is pinned,
    somebody collects. The list will say how many blobs went each time."""
    gone: list[int] = []

    def patched(fetch: Callable[..., FetchReport]) -> Callable[..., FetchReport]:
        def fetch_beside_others(*arguments: Any, **options: Any) -> FetchReport:
            before()
            report = fetch(*arguments, **options)
            gone.append(collect.execute(store, collect.plan(store, grace=0)).blobs)
            return report

        return fetch_beside_others

    for each in (Fetcher, Transit):
        monkeypatch.setattr(each, "fetch", patched(each.fetch))
    return gone


def log_and_remove(store: Store, data: bytes) -> None:
    """The bytes are in the store, and nobody needs them."""
    another = store.artifact_root("7/another/artifacts")
    another.ingest_bytes(data, "weights")
    another.remove("weights")
