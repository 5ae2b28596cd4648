"""What folds, readers, and those who remove files do."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.states import NOTHING, TOMBSTONE, F, Fragments, List, Rules, Sizes, State, Step, keys, named, swap


def remove(state: State, sizes: Sizes) -> Iterator[Step]:
    there = [0] * state.fragments.base
    there += [number + 1 for number, slot in enumerate(state.fragments.slots) if slot > 0 and sizes.removals]
    for number in there:
        removed = state.fragments.removed | 1 << number
        if removed != state.fragments.removed:
            text = f"the file of writer {number} is removed" if number else "the old file is removed"
            yield text, state._replace(fragments=state.fragments._replace(removed=removed))


def fold(state: State, number: int, rules: Rules, sizes: Sizes) -> Iterator[Step]:
    at, seen = state.folds[number]

    def go(to: F, base: State, what: Fragments | None = None) -> State:
        return base._replace(folds=swap(base.folds, number, (to, what)))

    if at == F.BEGIN:
        fragments = state.fragments._replace(slots=tuple(max(each, NOTHING) for each in state.fragments.slots))
        first = F.PUT if rules.folds_come_before_deletions else F.DELETE
        begun = go(first, state, fragments)
        if sizes.coarse:
            yield from fold(begun, number, rules, sizes)
        else:
            yield "the fold reads all fragments", begun
    elif at == F.PUT:
        put = state._replace(fragments=state.fragments._replace(fold=tuple(seen or ())[:3]))
        yield "the fold is put", go(F.DELETE if rules.folds_come_before_deletions else F.END, put, seen)
    elif at == F.DELETE:
        assert seen is not None
        now = state.fragments
        left = Fragments(
            base=now.base and not seen.base,
            removed=now.removed & ~seen.removed,
            slots=tuple(
                NOTHING if folded > 0 else slot for slot, folded in zip(now.slots, seen.slots, strict=True)
            ),
            fold=now.fold,
        )
        gone = state._replace(fragments=left)
        then = F.END if rules.folds_come_before_deletions else F.PUT
        yield "what was folded is deleted", go(then, gone, seen if then == F.PUT else None)


def read(state: State, number: int) -> Iterator[Step]:
    reading = state.readers[number]
    if reading == NOTHING:
        seen = named(state.fragments)
        if seen:
            text = f"the reader begins: its manifest names {keys(seen)}"
            yield text, state._replace(readers=swap(state.readers, number, seen))
    elif reading > 0:
        ended = state._replace(readers=swap(state.readers, number, TOMBSTONE))
        if not any(each > 0 for each in ended.readers):
            ended = ended._replace(
                condemned=tuple(List(each.keys) for each in state.condemned),
                unneeded=tuple(List(each.keys) for each in state.unneeded),
            )
        yield "the reader ends", ended
