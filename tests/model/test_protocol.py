"""Every interleaving of writers, readers, folds and collectors: nothing that is needed is ever deleted.

One product of everything would have billions of states. What is explored is all of these, each in full; every two
kinds of process meet in at least one of them, and all of them in the last. That nobody who *begins* to read finds
what is about to be deleted is asked in every state of every one of them, so a reader is a process of its own only
where it has to hold a grace period up.

And each rule of the protocol, broken, leads to a state that is wrong: `pytest -s` prints the way there.
"""

from __future__ import annotations

import pytest

from tests.model.explore import explore
from tests.model.states import Rules, Sizes

EXPLORED = {
    "two writers, two collectors": Sizes(2, 2),
    "a writer that goes on after a stall": Sizes(2, 2, placements=2, fresh=True, coarse=True),
    "two writers, a collector, a fold": Sizes(2, 1, folds=1),
    "a writer, two collectors, a fold": Sizes(1, 2, folds=1),
    "fragments listed one by one beside a fold": Sizes(1, 1, folds=1, listed_singly=True),
    "two writers, a reader, a collector": Sizes(2, 1, readers=1),
    "a writer, a reader, two collectors, removals": Sizes(1, 2, readers=1, removals=True),
    "a writer, a reader, a fold, a collector, removals": Sizes(1, 1, folds=1, readers=1, removals=True),
    "two writers whose answers get lost": Sizes(2, 1, answers_get_lost=True),
    "a writer whose answers get lost, two collectors": Sizes(1, 2, answers_get_lost=True),
    "a writer whose answers get lost, a fold": Sizes(1, 1, folds=1, answers_get_lost=True, removals=True),
    "all together": Sizes(2, 2, folds=1, fresh=True, coarse=True),
}
# 1.4 million states and a minute, for the same answer: it runs on demand.
WITH_A_READER = Sizes(2, 2, folds=1, readers=1, fresh=True, coarse=True)

BROKEN = {
    "intent_comes_first": Sizes(1, 1),
    "writers_pin": Sizes(1, 1),
    "pins_come_before_condemned_is_read": Sizes(1, 1),
    "condemned_is_read": Sizes(1, 1),
    "pinned_keys_are_looked_for": Sizes(1, 1),
    "keys_are_written_once": Sizes(2, 2, placements=2, fresh=True, coarse=True),
    "commit_is_create_only": Sizes(1, 1),
    "commit_comes_before_the_intent_goes": Sizes(1, 1),
    "unknown_commits_are_decided": Sizes(1, 1, answers_get_lost=True),
    "intents_are_listed_before_fragments": Sizes(1, 1),
    "expiry_leaves_a_tombstone": Sizes(1, 1),
    "condemned_is_published_before_marking_again": Sizes(1, 1),
    "marking_is_done_again": Sizes(1, 1),
    "grace_begins_when_unneeded": Sizes(1, 2, readers=1, removals=True),
    "condemned_is_never_revoked": Sizes(1, 2),
    "lists_go_after_their_keys": Sizes(2, 2),
    "folds_come_before_deletions": Sizes(1, 1, folds=1),
    "folds_sort_last": Sizes(1, 1, folds=1, listed_singly=True),
}


@pytest.mark.parametrize("name", EXPLORED)
def test_nothing_that_is_needed_is_deleted(name: str) -> None:
    found = explore(EXPLORED[name])
    print(f"{name}: {found.states} states")
    assert not found.trace, f"in a world of {name}:\n{found}"


def test_nothing_that_is_read_is_deleted_where_all_come_together() -> None:
    found = explore(WITH_A_READER)
    assert not found.trace, f"\n{found}"


@pytest.mark.parametrize("rule", Rules._fields)
def test_each_rule_is_there_for_a_reason(rule: str) -> None:
    found = explore(BROKEN[rule], Rules()._replace(**{rule: False}))
    print(f"\nwithout the rule that {rule.replace('_', ' ')}:\n{found}")
    assert found.trace, f"without the rule that {rule.replace('_', ' ')}, nothing goes wrong"


def test_whatever_can_happen_does() -> None:
    """A model in which nobody collects, relies on anything or is aborted would show nothing."""
    done = explore(Sizes(2, 1, folds=1)).done | explore(Sizes(1, 2, readers=1, removals=True)).done
    for text in (
        "writer 1 relies on the old blob",
        "writer 1 relies on blob 2",
        "writer 1 stores blob 1",
        "writer 1 commits",
        "writer 1 finds that it was aborted",
        "writer 1 reads that the old blob is condemned",
        "collector 1 deletes the old blob",
        "collector 1 deletes blob 1",
        "collector 1 deletes the old blob and blob 1",
        "collector 1 lists the intents, and takes writer 1 for dead",
        "collector 1 publishes no blob as condemned",
        "what was folded is deleted",
        "the reader ends",
    ):
        assert text in done
