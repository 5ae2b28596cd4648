"""Collection: what nobody needs any more is condemned, and after a while deleted.

Any number of collectors may run beside any number of writers, readers and folds, on any machines, and each may stop
at any step, or go on after a day. The order of the steps is the whole argument (docs/decisions/0016, and the model
in tests/model):

1. read the condemned lists, list blobs, *then* read intents, *then* fragments: what is there, and nobody needs;
2. put a tombstone at the fragment's key of every intent that outlived its lease;
3. publish what nobody needs as condemned, *then*
4. read intents, *then* fragments again: nobody can begin to need what is unneeded now, and it is published so;
5. after the grace period, which is for readers, delete. A list goes when all it names is gone.

Against the writers' pin-then-read stands publish-then-mark: one side must see the other. The grace period protects
nobody who writes.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from cas.backends import Backend, SupportsLocalFiles
from cas.concurrency import at_once
from cas.condemning import Condemned, publish, spent
from cas.digest import Digest
from cas.errors import InvalidInput, KeyExists
from cas.fragment import tombstone
from cas.history import History
from cas.inventory import Inventory, digest_of_key, intent_of, is_alias, other_of, pack, unpack
from cas.keys import intent_key, parse_blob_key
from cas.leftovers import Leftovers
from cas.marking import Announced, Marks, intents, mark
from cas.plan import Plan
from cas.store import Store
from cas.ulid import milliseconds_of

GRACE = 24 * 3600.0
"""Seconds for which a reader may go on reading what was removed since it began."""
_DELETED_AT_ONCE = 500


@dataclass(slots=True)
class Collected:
    """What a collection did. ``kept`` were to go, and somebody had begun to need them meanwhile."""

    blobs: int = 0
    bytes: int = 0
    condemned: int = 0
    kept: int = 0


def plan(store: Store, *, grace: float = GRACE, now: float | None = None) -> Plan:
    """Find out what can go; changes nothing. ``grace`` is in seconds, ``now`` in seconds since 1970.

    Raises :class:`MalformedRecord` for a record, or a key, that cannot be read: what cannot be judged might need
    anything. Raises :class:`InvalidInput` where blobs are, and no manifest is.
    """
    backend = store.backend
    made = Plan(grace, time.time() if now is None else now)
    made.condemned = Condemned.read(backend)
    inventory = Inventory.take(backend)
    announced = intents(backend)
    made.dead = [each for each in announced if each.is_expired(made.now)]
    living = [each for each in announced if not each.is_expired(made.now)]
    marks = mark(backend)
    made.names, made.emptied = marks.names, marks.emptied
    made.replaced = [key for key, fold in marks.replaced if made.is_over(milliseconds_of(fold) / 1000)]
    if not marks.names and not announced and any(True for _ in inventory.blobs()):
        raise InvalidInput(
            f"{store.name} has blobs, and no manifest at all: it is a cache (see `cas cache prune`), or its"
            " manifests are lost. Nothing is deleted"
        )
    needs = _Needs(marks, living, with_digests=inventory.has_aliases)
    for key, size in _unneeded(store, inventory, needs, made):
        made.batch(key).add(key, size)
    made.spent = spent(backend, made.condemned.lists, _present(made))
    made.leftovers = Leftovers.find(backend, {each.id for each in living}, made.now)
    return made


def execute(store: Store, made: Plan) -> Collected:
    """Do what a plan says, and nothing else. What somebody has begun to need since it was made stays."""
    backend, done = store.backend, Collected(condemned=made.condemn.blobs)
    _abort(backend, made)
    candidates = [*made.condemn.sizes, *made.confirm.sizes]
    lists = [*made.condemned.lists, *publish(backend, [*made.condemn.sizes], unneeded=False)]
    living = intents(backend)
    needs = _Needs(mark(backend, made.names), living, with_digests=True)
    unneeded = [key for key in candidates if not needs.include(key)]
    lists += publish(backend, unneeded, unneeded=True)
    going = [key for key in made.delete.sizes if not needs.include(key)]
    done.kept = len(candidates) + len(made.delete.sizes) - len(unneeded) - len(going)
    if made.grace <= 0:
        going += unneeded
    # What was seen may not be durable yet: no deletion may outlive, in a power cut, what it was decided by.
    _sync(backend)
    _delete(backend, going)
    done.blobs, done.bytes = sum(not is_alias(key) for key in going), sum(map(made.size, going))
    backend.delete(made.replaced)
    for root in made.emptied:
        History(backend, root).fold()
    made.leftovers.remove(backend)
    _sync(backend)  # nor may a list go, and what it names come back
    backend.delete(spent(backend, lists, _present(made).difference(going)))
    return done


class _Needs:
    """Whether a key has to stay: some manifest names it, an intent pins it, or the intent that wrote it lives; of
    an alias, the digest it leads to has a key that does."""

    def __init__(self, marks: Marks, living: Iterable[Announced], *, with_digests: bool) -> None:
        self.missing = marks.keys
        """What is needed, and was not claimed."""
        self.other_digests = marks.digests
        self._writers = set()
        for each in living:
            self._writers.add(each.id)
            if each.intent is not None:
                marks.keys.update(map(pack, each.intent.pins))
        self.digests = set(map(digest_of_key, marks.keys)) if with_digests else set()

    def include(self, key: bytes) -> bool:
        if intent_of(key) in self._writers:
            return True
        return other_of(key) in self.digests if is_alias(key) else key in self.missing

    def claim(self, key: bytes) -> bool:
        """As :meth:`include`, of a blob that is there; asked once of each."""
        needed = self.include(key)
        self.missing.discard(key)
        return needed


def _unneeded(store: Store, inventory: Inventory, needs: _Needs, made: Plan) -> Iterator[tuple[bytes, int]]:
    unneeded = []
    for key, size in inventory.blobs():
        if not needs.claim(key):
            unneeded.append((key, size))
        elif key in made.condemned.since:
            made.held.add(key)
    spared = _stand_ins(store, needs)
    needs.digests.update(map(digest_of_key, spared))
    for key, size in unneeded:
        if key not in spared:
            yield key, size
        elif key in made.condemned.since:
            made.held.add(key)
    for alias in inventory.aliases():
        if not needs.include(alias):
            yield alias, 0
        elif alias in made.condemned.since:
            made.held.add(alias)


def _stand_ins(store: Store, needs: _Needs) -> set[bytes]:
    """Where a key that a manifest names is not there (it was damaged, and the same bytes were logged again),
    readers take any other of its digest: those stay, though nobody names them."""

    def others(key: bytes) -> set[bytes]:
        digests: set[Digest] = {parse_blob_key(unpack(key))[0]}
        if key in needs.other_digests:
            digests.add(needs.other_digests[key])
        return {pack(each) for digest in digests for each in store.blobs.candidates(digest)}

    return set[bytes]().union(*at_once(store.backend, others, needs.missing))


def _present(made: Plan) -> set[bytes]:
    """What is condemned, or about to be, and there."""
    batches = (made.delete, made.waiting, made.confirm, made.condemn)
    return made.held.union(*(batch.sizes for batch in batches))


def _abort(backend: Backend, made: Plan) -> None:
    """Make sure that the writers that seem dead commit nothing any more; then their intents protect nothing."""
    now = {each.id: each for each in intents(backend)}
    for each in made.dead:
        announced = now.get(each.id)
        if announced is None or not announced.is_expired(made.now):
            continue  # it lives after all
        if announced.intent is not None:
            with suppress(KeyExists):  # it has committed, or was aborted before
                backend.put(announced.intent.fragment, tombstone(each.id), create=True)
        backend.delete([intent_key(each.id)])


def _delete(backend: Backend, keys: Sequence[bytes]) -> None:
    def delete(start: int) -> None:
        batch = [unpack(key) for key in keys[start : start + _DELETED_AT_ONCE]]
        backend.delete(batch)
        if isinstance(backend, SupportsLocalFiles):
            for directory in {backend.path(key).parent for key in batch}:
                try:
                    os.rmdir(directory)
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
                        raise

    for _ in at_once(backend, delete, range(0, len(keys), _DELETED_AT_ONCE)):
        pass


def _sync(backend: Backend) -> None:
    if isinstance(backend, SupportsLocalFiles):
        backend.sync()
