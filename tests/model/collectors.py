"""What a collector does, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

from tests.model.states import (
    NOTHING,
    TOMBSTONE,
    C,
    Collector,
    Fragments,
    List,
    Rules,
    Sizes,
    State,
    Step,
    keys,
    named,
    swap,
    union,
    with_slot,
)

Go = Callable[..., State]
"""To a next step, of another state than the one it came from, with other things remembered."""


def collect(state: State, number: int, rules: Rules, sizes: Sizes) -> Iterator[Step]:
    collector = state.collectors[number]

    def go(at: C, base: State = state, **changes: object) -> State:
        return base._replace(collectors=swap(base.collectors, number, collector._replace(at=at, **changes)))

    part = _plan if collector.at <= C.FRAGMENTS else _mark_again if collector.at in _AGAIN else _change
    yield from part(state, number, rules, sizes, go)


_AGAIN = (C.INTENTS_AGAIN, C.FRAGMENTS_AGAIN)


def _plan(state: State, number: int, rules: Rules, sizes: Sizes, go: Go) -> Iterator[Step]:
    collector, name = state.collectors[number], f"collector {number + 1}"
    in_order = rules.intents_are_listed_before_fragments
    if collector.at == C.BEGIN:
        condemned, unneeded = union(state.condemned), union(state.unneeded)
        text = f"{name} reads the condemned lists, and lists {keys(state.blobs)}"
        known = {"condemned": condemned, "unneeded": unneeded, "inventory": state.blobs}
        begun = go(C.INTENTS if in_order else C.FRAGMENTS, **known)
        if sizes.coarse:
            yield from ((f"{text}; {more}", then) for more, then in collect(begun, number, rules, sizes))
        else:
            yield text, begun
    elif collector.at == C.INTENTS:
        there = sum(1 << each for each, pins in enumerate(state.intents) if pins != TOMBSTONE)
        for dead in _subsets(there):
            needed = _pinned(state, dead)
            text = f"{name} lists the intents, and takes {_writers(dead)} for dead"
            if in_order:
                yield text, go(C.FRAGMENTS, needed=needed, dead=dead)
            else:
                yield text, _planned(state, number, collector._replace(dead=dead), collector.needed | needed)
    elif collector.at == C.FRAGMENTS:
        for seen, text in _listed(state, collector, name, rules, sizes):
            if seen is None or isinstance(seen, tuple):
                yield text, go(C.FRAGMENTS, seen=seen)
            elif in_order:
                yield text, _planned(state, number, collector._replace(seen=()), collector.needed | seen)
            else:
                yield text, go(C.INTENTS, needed=seen, seen=())


def _change(state: State, number: int, rules: Rules, _: Sizes, go: Go) -> Iterator[Step]:
    collector, name = state.collectors[number], f"collector {number + 1}"
    if collector.at == C.ABORT:
        then = C.PUBLISH if collector.todo else C.DELETE if collector.going else C.END
        text = f"{name} aborts {_writers(collector.dead)}"
        yield text, go(then, _aborted(state, collector.dead, rules), dead=0)
    elif collector.at == C.PUBLISH:
        yield from _publish(state, number, rules, go)
    elif collector.at == C.DELETE:
        if collector.going & ~_free(state, rules):
            return  # the grace period is not over
        text = f"{name} deletes {keys(collector.going)}"
        yield text, go(C.DROP, state._replace(blobs=state.blobs & ~collector.going), going=0)
    elif collector.at == C.DROP:
        yield f"{name} drops the lists that are spent", _dropped(state, number, rules)


def _mark_again(state: State, number: int, rules: Rules, sizes: Sizes, go: Go) -> Iterator[Step]:
    collector, name = state.collectors[number], f"collector {number + 1}"
    in_order = rules.intents_are_listed_before_fragments
    if collector.at == C.INTENTS_AGAIN:
        needed = _pinned(state, 0)
        text = f"{name} lists the intents again"
        if in_order:
            yield text, go(C.FRAGMENTS_AGAIN, needed=needed)
        else:
            yield text, _confirmed(state, number, collector.needed | needed, rules)
    else:
        for seen, text in _listed(state, collector, name, rules, sizes):
            if isinstance(seen, tuple):
                yield text, go(C.FRAGMENTS_AGAIN, seen=seen)
            elif in_order:
                cleared = state._replace(collectors=swap(state.collectors, number, collector._replace(seen=())))
                yield text, _confirmed(cleared, number, collector.needed | seen, rules)
            else:
                yield text, go(C.INTENTS_AGAIN, needed=seen, seen=())


def _dropped(state: State, number: int, rules: Rules) -> State:
    def left(lists: tuple[List, ...]) -> tuple[List, ...]:
        drop_all = not rules.lists_go_after_their_keys
        return tuple(List() if drop_all or not each.keys & state.blobs else each for each in lists)

    return state._replace(
        condemned=left(state.condemned),
        unneeded=left(state.unneeded),
        collectors=swap(state.collectors, number, Collector(C.END)),
    )


def _planned(state: State, number: int, collector: Collector, needed: int) -> State:
    """What was found unneeded is deleted, if it was known to be; else confirmed, or condemned."""
    unneeded = collector.inventory & ~needed
    going = unneeded & collector.unneeded
    todo = unneeded & ~collector.unneeded
    # Steps that would do nothing are left out.
    at = C.ABORT if collector.dead else C.PUBLISH if todo else C.DELETE if going else C.END
    planned = Collector(at, dead=collector.dead, publish=todo & ~collector.condemned, todo=todo, going=going)
    return state._replace(collectors=swap(state.collectors, number, planned))


def _publish(state: State, number: int, rules: Rules, go: Go) -> Iterator[Step]:
    collector, name = state.collectors[number], f"collector {number + 1}"
    guarded = any(each > 0 for each in state.readers)
    published = state
    if collector.publish and rules.condemned_is_published_before_marking_again:
        published = state._replace(condemned=swap(state.condemned, number, List(collector.publish, guarded)))
    again = C.INTENTS_AGAIN if rules.intents_are_listed_before_fragments else C.FRAGMENTS_AGAIN
    text = f"{name} publishes {keys(collector.publish)} as condemned"
    if not rules.marking_is_done_again:
        going = collector.going | collector.todo
        listed = published._replace(unneeded=swap(state.unneeded, number, List(collector.todo, guarded)))
        yield text, go(C.DELETE, listed, going=going, publish=0, todo=0)
    else:
        kept = 0 if rules.condemned_is_published_before_marking_again else collector.publish
        yield text, go(again, published, publish=kept)


def _confirmed(state: State, number: int, needed: int, rules: Rules) -> State:
    """What nobody needs now that it is published, nobody can begin to need."""
    collector = state.collectors[number]
    unneeded = collector.todo & ~needed
    guarded = any(each > 0 for each in state.readers)
    condemned = state.condemned
    if not rules.condemned_is_published_before_marking_again and collector.publish:
        condemned = swap(condemned, number, List(collector.publish, guarded))
    if not rules.condemned_is_never_revoked:
        condemned = tuple(List(each.keys & ~(collector.todo & needed), each.guarded) for each in condemned)
    listed = swap(state.unneeded, number, List(unneeded, guarded)) if unneeded else state.unneeded
    going = collector.going | unneeded
    done = Collector(C.DELETE if going else C.END, going=going)
    return state._replace(condemned=condemned, unneeded=listed, collectors=swap(state.collectors, number, done))


def _aborted(state: State, dead: int, rules: Rules) -> State:
    for number in range(len(state.writers)):
        if dead >> number & 1:
            if rules.expiry_leaves_a_tombstone and state.fragments.slots[number] == NOTHING:
                state = with_slot(state, number, TOMBSTONE)
            state = state._replace(intents=swap(state.intents, number, TOMBSTONE))
    return state


def _listed(
    state: State, collector: Collector, name: str, rules: Rules, sizes: Sizes
) -> Iterator[tuple[int | tuple[object, ...], str]]:
    """What the fragments say: at one moment, or name by name, in their order."""
    if not sizes.listed_singly:
        yield named(state.fragments), f"{name} lists the fragments"
        return
    base, removed, slots, fold = state.fragments
    order: list[tuple[str, object]] = [("the first", base), ("the removal", removed)]
    order += [(f"writer {number + 1}'s", slot) for number, slot in enumerate(slots)]
    order.insert(len(order) if rules.folds_sort_last else 0, ("the fold", fold))
    what, found = order[len(collector.seen)]
    seen = (*collector.seen, found)
    text = f"{name} comes to {what} fragment, which is {'there' if found else 'not there'}"
    if len(seen) < len(order):
        yield seen, text
        return
    fold_at = len(order) - 1 if rules.folds_sort_last else 0
    rest = [each for at, each in enumerate(seen) if at != fold_at]
    yield named(Fragments(bool(rest[0]), rest[1], tuple(rest[2:]), seen[fold_at])), text  # type: ignore[arg-type]


def _pinned(state: State, dead: int) -> int:
    """What the intents of living writers protect: their pins, and what they wrote."""
    mask = 0
    for number, pins in enumerate(state.intents):
        if pins != TOMBSTONE and not dead >> number & 1:
            mask |= pins | 2 << number
    return mask


def _free(state: State, rules: Rules) -> int:
    """What has been known to be unneeded for the grace period."""
    begun = state.unneeded if rules.grace_begins_when_unneeded else state.unneeded + state.condemned
    return union(tuple(each for each in begun if not each.guarded))


@cache
def _subsets(mask: int) -> list[int]:
    return [chosen for chosen in range(mask + 1) if not chosen & ~mask]


@cache
def _writers(mask: int) -> str:
    return " and ".join(f"writer {bit + 1}" for bit in range(8) if mask >> bit & 1) or "nobody"
