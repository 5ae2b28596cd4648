"""Medians, spreads, and ratios of what was measured side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import NamedTuple

from benchmarks.harness import Sample


class Spread(NamedTuple):
    median: float
    low: float
    high: float


def spread(values: Iterable[float]) -> Spread:
    found = list(values)
    return Spread(median(found), min(found), max(found))


def wall(sample: Sample) -> float:
    return sample.wall


def durable(sample: Sample) -> float:
    """The time until what was written is safe, whoever synced it."""
    return sample.wall if sample.synced is None else sample.synced


def paired_ratio(
    samples: Sequence[Sample], step: str, one: str, other: str, value: Callable[[Sample], float] = wall
) -> float:
    """The median over the rounds of ``one`` / ``other`` in the same round: noise that lasts hits both."""
    by_round: dict[str, dict[int, list[float]]] = {one: {}, other: {}}
    for each in samples:
        if each.step == step and each.contender in by_round:
            by_round[each.contender].setdefault(each.round, []).append(value(each))
    return median(median(by_round[one][number]) / median(by_round[other][number]) for number in by_round[one])
