"""The fragments of one artifact root: reading them as one state, and folding them when they grow many."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

from cas.backends import Backend
from cas.errors import KeyNotFound, PathConflict
from cas.fragment import Fragment, State, decode, encode, fold, header_span, manifest_of, supersede
from cas.keys import fragment_intent, fragment_key, fragments_prefix
from cas.manifest import Manifest
from cas.paths import ancestors, check_path
from cas.ulid import new_ulid

_HEAD = 64 << 10  # most headers fit the first read
_FOLD_FROM = 32
_FOLD_BELOW = 1 << 20  # larger fragments are few for what they hold, and folding them again and again is not free
_SIZE_CLASS_BITS = 3


class History:
    """What the log calls of one artifact root said. Fragments never change, so each is read once."""

    def __init__(self, backend: Backend, root: str) -> None:
        self._backend = backend
        self._root = root
        self._prefix = fragments_prefix(root)
        self._lock = threading.Lock()
        self._seen: set[str] = set()
        self._replaced: set[str] = set()
        self._state: State = {}
        self._manifest: Manifest | None = Manifest()
        self._directories: Counter[str] = Counter()  # with the number of files anywhere below

    def manifest(self) -> Manifest:
        """What readers see now."""
        with self._lock:
            self._refresh()
            if self._manifest is None:
                self._manifest = manifest_of(self._state)
            return self._manifest

    def state(self) -> tuple[State, str]:
        """The record of every path there ever was, and the name of the latest fragment ("" if there is none)."""
        with self._lock:
            self._refresh()
            return dict(self._state), max(self._seen, default="")

    def next_intent(self, paths: Iterable[str], after: str = "") -> str:
        """An intent for a log call that puts ``paths``, later than everything visible, and than ``after``.

        Raises PathConflict if one of them would be a file and a directory at once. This costs the same however
        much is here already.
        """
        with self._lock:
            self._refresh()
            for path in paths:
                self._check_free(path)
            return new_ulid(after=max({*self._seen, after}))

    def tidy(self, newest: str) -> None:
        """Fold what has grown many, and delete what a fold has replaced.

        Every writer calls this after its commit, and the one whose fragment is the newest does the work. That
        saves work only: any number of folds at once are safe, since merging a fragment and its fold is the same
        as merging either.
        """
        if len(self._seen) + 1 < _FOLD_FROM and self._replaced.isdisjoint(self._seen):
            return
        sizes = self._sizes()
        if newest != max(sizes, default=newest):
            return
        with self._lock:
            self._refresh()
        self._delete(self._replaced.intersection(sizes))
        classes: dict[int, list[str]] = {}
        for name in sizes.keys() - self._replaced:
            if sizes[name] < _FOLD_BELOW:
                classes.setdefault(sizes[name].bit_length() // _SIZE_CLASS_BITS, []).append(name)
        for names in classes.values():
            if len(names) >= _FOLD_FROM:
                self._fold(sorted(names))

    def fold(self) -> None:
        """Delete what earlier folds replaced, and fold every fragment there is, whatever its size."""
        with self._lock:
            self._refresh()
        names = self._names()
        self._delete(self._replaced.intersection(names))
        self._fold(sorted(names - self._replaced))

    def _fold(self, names: list[str]) -> None:
        """Write one fragment that says what those of ``names`` say.

        They are deleted with the next log call, not now: a listing made meanwhile then shows them or their fold,
        whatever the order it goes in.
        """
        try:
            fragments = [read_fragment(self._backend, fragment_key(self._root, name)) for name in names]
            folded = fold(new_ulid(after=max(self._names(), default="")), fragments)
            inline = {
                path: self._backend.read(entry.inline.fragment, entry.inline.offset, entry.size)
                for path, record in folded.records.items()
                if (entry := record.entry) is not None and entry.inline is not None
            }
        except KeyNotFound:
            return  # another writer folded them first
        if len(folded.replaces) > 1:
            self._backend.put(fragment_key(self._root, folded.intent), encode(folded, inline), create=True)

    def _delete(self, names: set[str]) -> None:
        self._backend.delete([fragment_key(self._root, name) for name in sorted(names)])

    def _refresh(self) -> None:
        while True:
            names = self._agreed_names()
            try:
                for name in sorted(names - self._seen):
                    self._add(read_fragment(self._backend, fragment_key(self._root, name)))
            except KeyNotFound:
                continue  # folded since: its fold is in the next listing
            self._seen = names
            return

    def _add(self, fragment: Fragment) -> None:
        for record in fragment.records.values():
            lost = supersede(self._state, record)
            if lost is not record:
                change = (record.entry is not None) - (lost is not None and lost.entry is not None)
                if change:
                    self._directories.update(dict.fromkeys(ancestors(record.path), change))
        self._replaced.update(fragment.replaces)
        self._seen.add(fragment.intent)
        self._manifest = None

    def _check_free(self, path: str) -> None:
        """A file where a directory is, or below a file, would hide what is there."""
        if self._directories[check_path(path)] > 0:
            raise PathConflict(path, "it is a directory")
        for directory in ancestors(path):
            above = self._state.get(directory)
            if above is not None and above.entry is not None:
                raise PathConflict(path, f"{directory!r} is a file")

    def _agreed_names(self) -> set[str]:
        """A listing may miss a fold and, a moment later, the fragments it replaced. Two that agree did not."""
        names = self._names()
        while (again := self._names()) != names:
            names = again
        return names

    def _names(self) -> set[str]:
        """The intents of all fragments."""
        return {fragment_intent(key) for key in self._backend.keys(self._prefix) if self._is_own(key)}

    def _sizes(self) -> dict[str, int]:
        """The sizes of all fragments in bytes, by intent."""
        return {fragment_intent(key): size for key, size in self._backend.list(self._prefix) if self._is_own(key)}

    def _is_own(self, key: str) -> bool:
        """The store's own root lists "@/…" roots, too."""
        return "/" not in key[len(self._prefix) :]


def read_fragment(backend: Backend, key: str) -> Fragment:
    """Read a fragment's records, without the bytes it holds. Raises KeyNotFound, or MalformedRecord."""
    start = backend.read(key, 0, _HEAD)
    begin, end, checksum = header_span(key, start)
    if end > len(start):
        start += backend.read(key, len(start), end - len(start))
    return decode(key, start[begin:end], body_at=end, checksum=checksum)
