"""What a collection is going to do: computed, printed, and then executed, the same object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from cas.condemning import NEVER, Condemned
from cas.inventory import intent_of, is_alias
from cas.leftovers import Leftovers
from cas.marking import Announced, Names
from cas.ulid import milliseconds_of


class Batch:
    """Keys of blobs, with their sizes, and of aliases: packed."""

    def __init__(self) -> None:
        self.sizes: dict[bytes, int] = {}
        self.blobs = 0
        self.bytes = 0

    def add(self, key: bytes, size: int = 0) -> None:
        self.sizes[key] = size
        self.blobs += not is_alias(key)
        self.bytes += size

    @property
    def aliases(self) -> int:
        return len(self.sizes) - self.blobs

    @property
    def oldest(self) -> float | None:
        """When the oldest of them was written, in seconds since 1970, by its writer's clock."""
        return min((milliseconds_of(intent_of(key)) for key in self.sizes), default=0) / 1000 or None


class Step(NamedTuple):
    """A line of a plan: so many of something are dealt with, for a reason."""

    what: str
    number: int
    bytes: int
    oldest: float | None
    why: str


@dataclass(slots=True)
class Plan:
    """``delete`` are keys that have been known to be unneeded for the grace period; ``waiting`` those that will be.
    ``confirm`` are condemned, and were not known to be unneeded until now; ``condemn`` are not condemned yet.

    ``dead`` are intents that outlived their lease, ``replaced`` fragments of which there is a fold, ``emptied``
    artifact roots whose fragments are to be folded since nothing but removals is left of them, ``spent``
    condemned lists all of whose keys are gone. ``grace`` is in seconds. ``held`` are keys that are condemned, and
    needed: they were relied on before they were condemned.
    """

    grace: float
    now: float
    delete: Batch = field(default_factory=Batch)
    waiting: Batch = field(default_factory=Batch)
    confirm: Batch = field(default_factory=Batch)
    condemn: Batch = field(default_factory=Batch)
    dead: list[Announced] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    emptied: list[str] = field(default_factory=list)
    spent: list[str] = field(default_factory=list)
    leftovers: Leftovers = field(default_factory=Leftovers)
    names: Names = field(default_factory=dict)
    condemned: Condemned = field(default_factory=Condemned)
    held: set[bytes] = field(default_factory=set)

    def batch(self, key: bytes) -> Batch:
        """Where a key belongs that nobody needs."""
        since = self.condemned.since.get(key)
        if since is None:
            return self.condemn
        if since == NEVER:
            return self.confirm
        return self.delete if self.is_over(since) else self.waiting

    def is_over(self, since: float) -> bool:
        """Whether readers had their time since then."""
        return self.grace <= 0 or self.now - since >= self.grace

    def size(self, key: bytes) -> int:
        """Of a key that is deleted, confirmed or condemned, in bytes."""
        return next(batch.sizes[key] for batch in (self.delete, self.confirm, self.condemn) if key in batch.sizes)

    @property
    def blobs(self) -> int:
        """How many blobs go when this plan is executed."""
        return sum(batch.blobs for batch in self._going)

    @property
    def bytes(self) -> int:
        """How many bytes of blobs go when this plan is executed."""
        return sum(batch.bytes for batch in self._going)

    @property
    def _going(self) -> list[Batch]:
        return [self.delete, self.confirm, self.condemn] if self.grace <= 0 else [self.delete]

    def steps(self) -> Iterator[Step]:
        """What is done, and what is left for later. Lines about nothing are left out."""
        now = self.grace <= 0
        unneeded = "named by no manifest, and pinned by no writer"
        batches = (
            ("delete", self.delete, f"{unneeded} for at least the grace period"),
            ("delete" if now else "condemn", self.confirm, f"{unneeded}; condemned before"),
            ("delete" if now else "condemn", self.condemn, unneeded),
            ("wait", self.waiting, "condemned; the grace period is not over"),
        )
        for verb, batch, why in batches:
            if batch.sizes:
                what = f"{verb} blobs" + (f", and {batch.aliases} aliases" if batch.aliases else "")
                yield Step(what, batch.blobs, batch.bytes, batch.oldest, why)
        yield from (step for step in self._leftovers() if step.number)

    def _leftovers(self) -> Iterator[Step]:
        left = self.leftovers
        renewed = min((each.renewed for each in self.dead), default=None)
        yield Step("abort intents", len(self.dead), 0, renewed, "not renewed for their lease: of dead writers")
        yield Step("fold artifact roots", len(self.emptied), 0, None, "everything in them was removed")
        yield Step("delete fragments", len(self.replaced), 0, None, "folded")
        yield Step("delete condemned lists", len(self.spent), 0, None, "all they name is gone")
        yield Step("delete staged uploads", len(left.staged), 0, None, "not gone on with for two days")
        begun = min((each.started for each in left.uploads), default=None)
        yield Step("abort uploads", len(left.uploads), 0, begun, "not gone on with for two days")
        yield Step("delete private files", len(left.files), 0, None, "their processes are dead")
