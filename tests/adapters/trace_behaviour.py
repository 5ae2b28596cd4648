"""How MLflow's artifact repositories behave towards traces."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Span
from mlflow.entities.trace_data import TraceData
from mlflow.exceptions import MlflowException, MlflowTraceDataCorrupted, MlflowTraceDataNotFound

from tests.adapters.files import MEGABYTE, every_file, pattern


def a_span(name: str) -> Span:
    return Span.from_dict(
        {
            "name": name,
            "context": {"trace_id": "0x" + "1" * 32, "span_id": "0x" + "2" * 16},
            "parent_id": None,
            "start_time": 1,
            "end_time": 2,
            "attributes": {"mlflow.traceRequestId": '"tr-1"'},
            "status_code": "OK",
            "status_message": "",
            "events": [],
        }
    )


class TraceBehaviour:
    def test_trace_data_is_read_back(self, repository: Any) -> None:
        repository.upload_trace_data('{"spans": [{"name": "größer 🦜"}]}')
        assert repository.download_trace_data() == {"spans": [{"name": "größer 🦜"}]}

    def test_trace_data_is_replaced(self, repository: Any) -> None:
        repository.upload_trace_data('{"spans": [1]}')
        repository.upload_trace_data('{"spans": [2]}')
        assert repository.download_trace_data() == {"spans": [2]}

    def test_large_trace_data_is_read_back(self, repository: Any) -> None:
        repository.upload_trace_data(f'{{"spans": ["{"x" * 2 * MEGABYTE}"]}}')
        assert repository.download_trace_data() == {"spans": ["x" * 2 * MEGABYTE]}

    def test_trace_data_is_downloaded_to_a_file(self, repository: Any, destination: Path) -> None:
        repository.upload_trace_data('{"spans": []}')
        assert repository.download_trace_data_to_file(destination / "mine.json") == destination / "mine.json"
        assert (destination / "mine.json").read_text() == '{"spans": []}'

    def test_missing_trace_data_is_not_found(self, repository: Any) -> None:
        with pytest.raises(MlflowTraceDataNotFound):
            repository.download_trace_data()

    def test_trace_data_that_is_no_json_is_corrupted(self, repository: Any) -> None:
        repository.upload_trace_data("{")
        with pytest.raises(MlflowTraceDataCorrupted):
            repository.download_trace_data()

    @pytest.mark.parametrize("size", [0, 100, 2 * MEGABYTE])
    def test_an_attachment_is_read_back(self, repository: Any, size: int) -> None:
        name = str(uuid.uuid4())
        repository.upload_attachment(name, pattern(size))
        assert repository.download_trace_attachment(name) == pattern(size)
        assert every_file(repository) == [f"attachments/{name}"]

    @pytest.mark.parametrize("name", ["../traces.json", "name", "", str(uuid.UUID(int=7)).upper() + "A"])
    def test_an_attachment_needs_a_uuid_for_a_name(self, repository: Any, name: str) -> None:
        with pytest.raises(MlflowException, match="Invalid attachment path"):
            repository.upload_attachment(name, b"content")
        with pytest.raises(MlflowException, match="Invalid attachment path"):
            repository.download_trace_attachment(name)
        assert every_file(repository) == []

    def test_archived_trace_data_is_read_back(self, repository: Any) -> None:
        repository.upload_archived_trace_data(TraceData(spans=[a_span("größer")]))
        (span,) = repository.download_archived_trace_data().spans
        assert (span.name, span.span_id) == ("größer", "2" * 16)

    def test_missing_archived_trace_data_has_no_spans(self, repository: Any) -> None:
        assert repository.download_archived_trace_data().spans == []
