"""What a writer does, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.model.states import (
    NOTHING,
    TOMBSTONE,
    Rules,
    Sizes,
    State,
    Step,
    W,
    Writer,
    keys,
    swap,
    union,
    with_slot,
)

Go = Callable[..., State]


def write(state: State, number: int, rules: Rules, sizes: Sizes) -> Iterator[Step]:
    writer, name = state.writers[number], f"writer {number + 1}"
    flying = state.flying[number]
    if flying and state.fragments.slots[number] == NOTHING:
        landed = state._replace(flying=swap(state.flying, number, NOTHING))
        yield f"{name}'s commit arrives late", with_slot(landed, number, flying)

    def go(at: W, base: State = state, **changes: object) -> State:
        # What a writer will not ask for again is forgotten, so that states do not differ by it.
        then = Writer(at) if at in (W.DECIDE, W.LEAVE, W.END) else writer._replace(at=at, **changes)
        return base._replace(writers=swap(base.writers, number, then))

    if writer.at == W.BEGIN:
        pins = state.intents[number]
        intents = state.intents
        if rules.intent_comes_first and pins == TOMBSTONE:
            intents = swap(intents, number, NOTHING)
        found = state.blobs
        begun = state._replace(intents=intents)
        first = W.PIN if rules.pins_come_before_condemned_is_read else W.READ
        yield (
            f"{name} puts its intent, and finds {keys(found)}",
            go(first if found else W.LOOK, begun, candidates=found, condemned=0),
        )
    elif writer.at == W.PIN:
        pins = max(state.intents[number], 0) | (writer.candidates if rules.writers_pin else 0)
        then = W.READ if rules.pins_come_before_condemned_is_read else W.LOOK
        pinned = state._replace(intents=swap(state.intents, number, pins)) if rules.intent_comes_first else state
        yield f"{name} pins {keys(writer.candidates)}", go(then, pinned)
    elif writer.at == W.READ:
        condemned = union(state.condemned) | union(state.unneeded) if rules.condemned_is_read else 0
        then = W.LOOK if rules.pins_come_before_condemned_is_read else W.PIN
        yield f"{name} reads that {keys(condemned)} is condemned", go(then, condemned=condemned)
    elif writer.at == W.LOOK:
        yield from _look(state, number, rules, sizes, go)
    elif writer.at == W.STORED:
        if not rules.intent_comes_first:
            late = state._replace(intents=swap(state.intents, number, writer.chosen))
            yield f"{name} puts its intent", go(W.COMMIT, late)
            return
        if number == 0 and 0 < writer.placed < sizes.placements:
            yield f"{name} goes on with the same bytes", go(W.BEGIN)
        if not rules.commit_comes_before_the_intent_goes:
            gone = state._replace(intents=swap(state.intents, number, TOMBSTONE))
            yield f"{name} deletes its intent", go(W.COMMIT_LATE, gone)
            return
        yield from _commit(state, number, rules, sizes, go)
    elif writer.at in (W.COMMIT, W.COMMIT_LATE):
        yield from _commit(state, number, rules, sizes, go)
    elif writer.at == W.DECIDE:
        yield f"{name} cannot reach the store, and leaves its intent", go(W.END)
        slot = state.fragments.slots[number]
        decided = with_slot(state, number, TOMBSTONE) if slot == NOTHING else state
        yield f"{name} decides what became of its commit", go(W.LEAVE, decided)
    elif writer.at == W.LEAVE:
        gone = state._replace(intents=swap(state.intents, number, TOMBSTONE))
        yield f"{name} deletes its intent", go(W.END, gone)


def _look(state: State, number: int, rules: Rules, sizes: Sizes, go: Go) -> Iterator[Step]:
    writer, name, own = state.writers[number], f"writer {number + 1}", 2 << number
    there = state.blobs if rules.pinned_keys_are_looked_for else writer.candidates
    good = writer.candidates & ~writer.condemned & there
    again = int(sizes.placements > 1 and number == 0)
    if writer.wrote and not good & own and rules.keys_are_written_once:
        yield f"{name} finds its own blob condemned or gone, and gives up", go(W.LEAVE)
        return
    for bit in range(len(state.writers) + 1):
        if good >> bit & 1:
            relied = {"chosen": writer.chosen | 1 << bit, "placed": writer.placed + again}
            yield f"{name} relies on {keys(1 << bit)}", go(W.STORED, candidates=0, condemned=0, **relied)
    if not good:
        stored = state._replace(blobs=state.blobs | own)
        made = {"chosen": writer.chosen | own, "wrote": bool(again), "placed": writer.placed + again}
        yield f"{name} stores {keys(own)}", go(W.STORED, stored, candidates=0, condemned=0, **made)


def _commit(state: State, number: int, rules: Rules, sizes: Sizes, go: Go) -> Iterator[Step]:
    writer, slot, name = state.writers[number], state.fragments.slots[number], f"writer {number + 1}"
    then = W.LEAVE if rules.commit_comes_before_the_intent_goes else W.END
    if slot == NOTHING or not rules.commit_is_create_only:
        yield f"{name} commits", go(then, with_slot(state, number, writer.chosen))
    else:
        yield f"{name} finds that it was aborted", go(then)
    if sizes.answers_get_lost and slot == NOTHING:
        flying = state._replace(flying=swap(state.flying, number, writer.chosen))
        unknown = W.DECIDE if rules.unknown_commits_are_decided else W.LEAVE
        yield f"{name}'s commit is on its way when it loses patience", go(unknown, flying)
