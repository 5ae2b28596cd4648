"""Trying every interleaving, breadth first, so that what goes wrong is shown in as few steps as it takes."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.model.collectors import collect
from tests.model.others import fold, read, remove
from tests.model.states import Rules, Sizes, State, Step, beginning, violation
from tests.model.writers import write

_ALL = Rules()


class Found(NamedTuple):
    """How many states there are, what was done on the way to them, and the way to one that is wrong, if any is."""

    states: int
    done: frozenset[str]
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join(f"{number:3}. {step}" for number, step in enumerate(self.trace, 1))


def explore(sizes: Sizes, rules: Rules = _ALL) -> Found:
    first = _canonical(beginning(sizes))
    came_from: dict[State, State | None] = {first: None}
    waiting = deque([first])
    done = set()
    with _no_cycles():
        while waiting:
            state = waiting.popleft()
            for text, reached in steps(state, rules, sizes):
                done.add(text)
                then = _canonical(reached)
                if then in came_from:
                    continue
                came_from[then] = state
                if violation(then, rules) is not None:
                    return Found(len(came_from), frozenset(done), _told(then, came_from, rules, sizes))
                waiting.append(then)
    return Found(len(came_from), frozenset(done))


def steps(state: State, rules: Rules, sizes: Sizes) -> Iterator[Step]:
    """Every step that any process may take."""
    yield from remove(state, sizes)
    for number in range(sizes.writers):
        yield from write(state, number, rules, sizes)
    for number in range(sizes.collectors):
        yield from collect(state, number, rules, sizes)
    for number in range(sizes.folds):
        yield from fold(state, number, rules, sizes)
    for number in range(sizes.readers):
        yield from read(state, number)


def _canonical(state: State) -> State:
    """Collectors do not differ but by their numbers: states that differ only in those are one."""
    if len(state.collectors) < 2:
        return state
    order = sorted(range(len(state.collectors)), key=lambda number: _collector(state, number))
    if order == sorted(order):
        return state
    return state._replace(
        collectors=tuple(state.collectors[number] for number in order),
        condemned=tuple(state.condemned[number] for number in order),
        unneeded=tuple(state.unneeded[number] for number in order),
    )


def _collector(state: State, number: int) -> tuple[object, ...]:
    return state.collectors[number], state.condemned[number], state.unneeded[number]


def _told(wrong: State, came_from: dict[State, State | None], rules: Rules, sizes: Sizes) -> tuple[str, ...]:
    """The steps to a state, played again with each collector keeping its number."""
    path, before = [wrong], came_from[wrong]
    while before is not None:
        path.append(before)
        before = came_from[before]
    texts, state = [], beginning(sizes)
    for then in reversed(path[:-1]):
        text, state = next(step for step in steps(state, rules, sizes) if _canonical(step[1]) == then)
        texts.append(text)
    return (*texts, violation(state, rules) or "")


@contextmanager
def _no_cycles() -> Iterator[None]:
    """Millions of tuples, none of them in a cycle: looking for those would take as long as all the rest."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
