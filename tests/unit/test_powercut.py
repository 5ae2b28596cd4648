"""How a power cut is judged. The cuts themselves are made by hand: `make powercut`."""

from __future__ import annotations

import pytest

from tests.powercut.ledger import STORE, Call, Ledger, State
from tests.powercut.outcome import Outcome

FIRST = Call("w0", "tree", {"root:w0/a": "1", "root:w0/b": "1"})
SECOND = Call("w0", "tree", {"root:w0/a": "2", "root:w0/c": "2"})
THIRD = Call("w0", "remove", {"root:w0/c": None})
AFTER_FIRST: State = {"root:w0/a": "1", "root:w0/b": "1"}
AFTER_SECOND: State = {"root:w0/a": "2", "root:w0/b": "1", "root:w0/c": "2"}
AFTER_THIRD: State = {"root:w0/a": "2", "root:w0/b": "1"}


@pytest.fixture
def ledger() -> Ledger:
    """One log call was acknowledged, two more had begun."""
    ledger = Ledger()
    ledger.begin(Call("store", "create", {**STORE}))
    ledger.acknowledge("store")
    for call in (FIRST, SECOND, THIRD):
        ledger.begin(call)
    ledger.acknowledge("w0")
    return ledger


def judged(ledger: Ledger, found: State) -> Outcome:
    ledger.judge(STORE | found, outcome := Outcome(0))
    return outcome


@pytest.mark.parametrize(("found", "whole"), [(AFTER_FIRST, 0), (AFTER_SECOND, 1), (AFTER_THIRD, 2)])
def test_calls_that_were_under_way_are_there_or_not(ledger: Ledger, found: State, whole: int) -> None:
    outcome = judged(ledger, found)
    assert (outcome.problems, outcome.whole, outcome.absent) == ([], whole, 2 - whole)


def test_what_was_found_after_a_cut_must_be_there_after_the_next(ledger: Ledger) -> None:
    judged(ledger, AFTER_SECOND)
    assert judged(ledger, AFTER_SECOND).problems == []
    assert judged(ledger, AFTER_FIRST).problems != []


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ({"root:w0/a": "1"}, "lost: root:w0/b"),
        (AFTER_FIRST | {"root:w0/b": "BlobDamaged"}, "damaged: root:w0/b: BlobDamaged, not 1"),
        (AFTER_FIRST | {"root:w0/c": "2"}, "torn: some of what tree logs is there, not all of it"),
        (AFTER_FIRST | {"root:w0/d": "1"}, "not as it was being logged: root:w0/d: 1"),
        (AFTER_FIRST | {"root:w1/a": "1"}, "not as it was being logged: root:w1/a: 1"),
    ],
)
def test_anything_else_is_a_problem(ledger: Ledger, found: State, problem: str) -> None:
    assert problem in judged(ledger, found).problems


def test_a_store_that_was_acknowledged_must_be_there(ledger: Ledger) -> None:
    ledger.judge({}, outcome := Outcome(0))
    assert outcome.problems == ["lost: cas.json", "lost: root:w0/a", "lost: root:w0/b"]


def test_an_outcome_passes_through_a_line() -> None:
    outcome = Outcome(3, "files", acknowledged=4, kinds={"small": 4}, problems=["lost: a"])
    assert Outcome.decode(outcome.encode()) == outcome
