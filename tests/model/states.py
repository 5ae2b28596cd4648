"""The protocol of writers and collectors, as a machine small enough to try everything.

All processes log, or collect, the same bytes. Keys are bits of a mask: bit 0 is the blob that was there in the
beginning, named by the fragment ``base`` until its file is removed; bit *i* is the key of writer *i*'s own. A
process that crashes, or stalls for a day, is one that takes no further step: every prefix of every interleaving is
explored, so nothing needs to be said about that. Each step is one request to the store.

Time is not modelled. That an intent has outlived its lease is a collector's free choice, at any moment. The grace
period is what it is for: whoever was reading when it began has finished when it ends.
"""

from __future__ import annotations

from enum import IntEnum
from functools import cache
from typing import NamedTuple

NOTHING, TOMBSTONE = 0, -1


class Rules(NamedTuple):
    """What the protocol prescribes. Each of them can be broken, to see what it is good for."""

    intent_comes_first: bool = True
    writers_pin: bool = True
    pins_come_before_condemned_is_read: bool = True
    condemned_is_read: bool = True
    pinned_keys_are_looked_for: bool = True
    keys_are_written_once: bool = True
    commit_is_create_only: bool = True
    commit_comes_before_the_intent_goes: bool = True
    unknown_commits_are_decided: bool = True
    intents_are_listed_before_fragments: bool = True
    expiry_leaves_a_tombstone: bool = True
    condemned_is_published_before_marking_again: bool = True
    marking_is_done_again: bool = True
    grace_begins_when_unneeded: bool = True
    condemned_is_never_revoked: bool = True
    lists_go_after_their_keys: bool = True
    folds_come_before_deletions: bool = True
    folds_sort_last: bool = True


class Sizes(NamedTuple):
    """How many of each take part, and what may happen.

    ``placements``: how often the first writer places the same bytes. ``listed_singly``: a listing of fragments is
    one step for each name. ``answers_get_lost``: commits may be on their way when their writer has given up.
    ``fresh``: the old blob is not there. ``removals``: what writers logged is removed, too. ``coarse``: what a
    collector looks at before it first asks for intents it sees in one moment with them, and a fold is put in the
    moment it read what it is made of.
    """

    writers: int
    collectors: int
    folds: int = 0
    readers: int = 0
    placements: int = 1
    listed_singly: bool = False
    answers_get_lost: bool = False
    coarse: bool = False
    fresh: bool = False
    removals: bool = False


class W(IntEnum):
    """Where a writer is: what it does next."""

    BEGIN = 0
    PIN = 1
    READ = 2
    LOOK = 3
    STORED = 4
    COMMIT = 5
    DECIDE = 6
    LEAVE = 7
    COMMIT_LATE = 8
    END = 9


class C(IntEnum):
    """Where a collector is: what it does next."""

    BEGIN = 0
    INTENTS = 1
    FRAGMENTS = 2
    ABORT = 3
    PUBLISH = 4
    INTENTS_AGAIN = 5
    FRAGMENTS_AGAIN = 6
    DELETE = 7
    DROP = 8
    END = 9


class F(IntEnum):
    """Where a fold is."""

    BEGIN = 0
    PUT = 1
    DELETE = 2
    END = 3


class Writer(NamedTuple):
    at: W = W.BEGIN
    candidates: int = 0
    condemned: int = 0
    chosen: int = 0
    wrote: bool = False
    placed: int = 0


class Collector(NamedTuple):
    """``needed`` by intents, as listed last; ``dead`` writers; ``todo`` is what is condemned, or will be."""

    at: C = C.BEGIN
    condemned: int = 0
    unneeded: int = 0
    inventory: int = 0
    needed: int = 0
    dead: int = 0
    publish: int = 0
    todo: int = 0
    going: int = 0
    seen: tuple[object, ...] = ()


class Fragments(NamedTuple):
    """``removed`` are files that later fragments remove: bit 0 that of ``base``, bit *i* writer *i*'s. ``slots``
    are those of the writers: the keys they name, NOTHING or TOMBSTONE. ``fold`` is what it was made of."""

    base: bool
    removed: int
    slots: tuple[int, ...]
    fold: tuple[object, ...] | None = None


class List(NamedTuple):
    """A condemned list. ``guarded``: somebody was reading when it was published, and still is."""

    keys: int = 0
    guarded: bool = False


class State(NamedTuple):
    blobs: int
    fragments: Fragments
    intents: tuple[int, ...]  # the pins of each writer's, or TOMBSTONE for none
    condemned: tuple[List, ...]
    unneeded: tuple[List, ...]
    writers: tuple[Writer, ...]
    collectors: tuple[Collector, ...]
    folds: tuple[tuple[F, Fragments | None], ...]
    readers: tuple[int, ...]  # NOTHING before, the mask of the keys it reads, TOMBSTONE after
    flying: tuple[int, ...]  # commits whose writers have given up


Step = tuple[str, State]


def beginning(sizes: Sizes) -> State:
    return State(
        blobs=0 if sizes.fresh else 1,
        fragments=Fragments(base=not sizes.fresh, removed=0, slots=(NOTHING,) * sizes.writers),
        intents=(TOMBSTONE,) * sizes.writers,
        condemned=(List(),) * sizes.collectors,
        unneeded=(List(),) * sizes.collectors,
        writers=(Writer(),) * sizes.writers,
        collectors=(Collector(),) * sizes.collectors,
        folds=((F.BEGIN, None),) * sizes.folds,
        readers=(NOTHING,) * sizes.readers,
        flying=(NOTHING,) * sizes.writers,
    )


def named(fragments: Fragments) -> int:
    """The keys that the winning records of what is visible name."""
    base, removed, slots, fold = fragments
    mask = 0
    if fold is not None:
        base, removed = base or bool(fold[0]), removed | fold[1]  # type: ignore[operator]
        for number, each in enumerate(fold[2]):  # type: ignore[arg-type]
            if each > 0 and not removed >> number + 1 & 1:
                mask |= each
    for number, each in enumerate(slots):
        if each > 0 and not removed >> number + 1 & 1:
            mask |= each
    return mask | 1 if base and not removed & 1 else mask


def violation(state: State, rules: Rules) -> str | None:
    """What is wrong with a state, if anything is."""
    missing = named(state.fragments) & ~state.blobs
    if missing:
        return f"a manifest names {keys(missing)}, which was deleted"
    for number, writer in enumerate(state.writers):
        lost = writer.chosen & ~state.blobs
        if lost and state.intents[number] != TOMBSTONE and state.fragments.slots[number] == NOTHING:
            return f"writer {number + 1} relies on {keys(lost)}, which was deleted while its intent was there"
    soon = named(state.fragments) & union(state.unneeded)
    if soon and rules.grace_begins_when_unneeded:
        return f"whoever begins to read now needs {keys(soon)}, the grace period of which has begun"
    for reading in state.readers:
        if reading > 0 and reading & ~state.blobs:
            return f"the reader is about to read {keys(reading & ~state.blobs)}, which was deleted in its time"
    return None


@cache
def keys(mask: int) -> str:
    return (
        " and ".join(f"blob {bit}" if bit else "the old blob" for bit in range(8) if mask >> bit & 1) or "no blob"
    )


def with_slot(state: State, number: int, content: int) -> State:
    slots = swap(state.fragments.slots, number, content)
    return state._replace(fragments=state.fragments._replace(slots=slots))


def swap(items, index: int, item):
    return (*items[:index], item, *items[index + 1 :])


def union(lists: tuple[List, ...]) -> int:
    mask = 0
    for each in lists:
        mask |= each.keys
    return mask
