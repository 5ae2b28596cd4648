"""What power cuts are judged by: a state that no moment of the workload explains is a problem."""

from __future__ import annotations

import pytest

from tests.powercut.ledger import Call, Ledger
from tests.powercut.outcome import Outcome

FIRST = {"w0/m:a": "1", "w0/m:b": "1"}
SECOND: dict[str, str | None] = {"w0/m:a": "2", "w0/m:b": None, "w0/m:c": "2"}


@pytest.fixture
def ledger() -> Ledger:
    """One call is acknowledged, one is under way."""
    ledger = Ledger()
    ledger.begin(Call("w0", "log", dict(FIRST)))
    ledger.acknowledge("w0")
    ledger.begin(Call("w0", "log", SECOND))
    return ledger


def judged(ledger: Ledger, found: dict[str, str]) -> Outcome:
    outcome = Outcome(0)
    ledger.judge(found, outcome)
    return outcome


def test_a_call_that_was_under_way_may_be_absent(ledger: Ledger) -> None:
    outcome = judged(ledger, FIRST)
    assert (outcome.problems, outcome.whole, outcome.absent) == ([], 0, 1)


def test_or_there_wholly(ledger: Ledger) -> None:
    outcome = judged(ledger, {"w0/m:a": "2", "w0/m:c": "2"})
    assert (outcome.problems, outcome.whole, outcome.absent) == ([], 1, 0)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({}, "lost"),
        ({"w0/m:a": "1"}, "torn"),
        ({"w0/m:a": "2", "w0/m:b": "1"}, "torn"),
        ({"w0/m:a": "other", "w0/m:b": "1"}, "damaged"),
        ({**FIRST, "w0/m:d": "1"}, "not as it was being logged"),
        ({**FIRST, "w1/m:a": "1"}, "not as it was being logged"),
    ],
)
def test_anything_else_is_a_problem(ledger: Ledger, found: dict[str, str], said: str) -> None:
    assert said in str(judged(ledger, found).problems)


def test_what_was_found_is_certain_from_then_on(ledger: Ledger) -> None:
    judged(ledger, {"w0/m:a": "2", "w0/m:c": "2"})
    assert "lost: w0/m:c" in judged(ledger, FIRST).problems
