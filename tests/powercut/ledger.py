"""What the workload said it would log, and what it acknowledged: hence what may be found after a cut."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.powercut.outcome import Outcome

State = dict[str, str]
"""What there is, by `<artifact root>:<path>`: digest and size."""

STORE = {"cas.json": "a store"}
_WORKER = re.compile(r"(?:^|[/:])(w\d+)/")


@dataclass(frozen=True, slots=True)
class Call:
    """One log call of one worker. ``changes`` says what it puts, and (None) removes."""

    worker: str
    kind: str
    changes: dict[str, str | None]


@dataclass
class Ledger:
    """Of one file system, since it was made. Each worker's calls follow one another; workers share no key."""

    certain: dict[str, State] = field(default_factory=lambda: defaultdict(dict))
    pending: dict[str, list[Call]] = field(default_factory=lambda: defaultdict(list))
    acknowledged: int = 0

    def begin(self, call: Call) -> None:
        self.pending[call.worker].append(call)

    def acknowledge(self, worker: str) -> Call:
        """The worker's last call was acknowledged, before the power was cut."""
        call = self.pending[worker].pop(0)
        self.certain[worker] = _after(self.certain[worker], call)
        self.acknowledged += 1
        return call

    @property
    def has_store(self) -> bool:
        return self.certain["store"] == STORE

    def judge(self, found: State, outcome: Outcome) -> None:
        """Compare what was found after a cut with every moment that may have been left.

        For each worker, that is one from its last acknowledgement on: of the calls that were under way the first
        few are there, each of them whole, and nothing of the others. What was found is certain from then on.
        """
        outcome.acknowledged = self.acknowledged
        outcome.files = sum(map(len, self.certain.values()))
        for worker in sorted({*self.certain, *self.pending, *map(worker_of, found)}):
            calls = [call for call in self.pending.pop(worker, []) if call.changes]
            moment = self.certain[worker]
            own = {key: value for key, value in found.items() if worker_of(key) == worker}
            moments = [moment, *(moment := _after(moment, call) for call in calls)]
            if own in moments:
                outcome.whole += moments.index(own)
                outcome.absent += len(calls) - moments.index(own)
                self.certain[worker] = own
            else:
                outcome.problems += _differences(own, moments[0], calls)


def worker_of(key: str) -> str:
    match = _WORKER.search(key)
    return match[1] if match else "store"


def _after(state: State, call: Call) -> State:
    changed = {**state, **call.changes}
    return {key: value for key, value in changed.items() if value is not None}


def _differences(found: State, certain: State, calls: Iterable[Call]) -> list[str]:
    """In words: what was acknowledged first, since that is what matters."""
    possible: dict[str, set[str | None]] = defaultdict(set)
    for call in calls:
        for key, value in call.changes.items():
            possible[key].add(value)
    problems = []
    for key in sorted({*certain, *found}):
        expected, actual = certain.get(key), found.get(key)
        if expected == actual or actual in possible[key]:
            continue
        if actual is None:
            problems.append(f"lost: {key}")
        elif expected is None:
            problems.append(f"not as it was being logged: {key}: {actual}")
        else:
            problems.append(f"damaged: {key}: {actual}, not {expected}")
    return problems or [f"torn: some of what {call.kind} logs is there, not all of it" for call in calls]
