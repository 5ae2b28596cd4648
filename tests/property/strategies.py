"""What hypothesis draws from: values as a store would hold them, few enough that they meet."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

from cas.digest import Digest, digest_of
from cas.fragment import Fragment, Record, State, merge
from cas.keys import blob_key, fragment_key
from cas.manifest import Entry, Inline

ROOT = "7/models/artifacts"
LAST_ULID = "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"
PATHS = ("a", "a/b", "a/b/c", "a/d", "a b", "b", "b/c/d", "é")

quick = settings(deadline=None, max_examples=100)
thorough = settings(deadline=None, max_examples=200)

_crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
ulids = st.builds(str.__add__, st.sampled_from("01234567"), st.text(_crockford, min_size=25, max_size=25))
_STAMPS = [f"01HZZZZZZZZZZZZZZZZZZZZZZ{letter}" for letter in "ABCDE"]
stamps = st.sampled_from(_STAMPS)
paths = st.sampled_from(PATHS)
digests = st.sampled_from(
    [digest_of(b""), digest_of(b"one"), digest_of(b"two"), Digest("sha256", "ab" * 32)],
)
origins = st.none() | st.just(f"hf://models/o/n@{'c' * 40}/f")


_ORIGIN = f"hf://models/o/n@{'c' * 40}/f"
_SAID: list[tuple[int, Digest, str | None, str | None, Inline | None] | None] = [
    None,  # removed
    *((1, digest, None, None, None) for digest in (digest_of(b"1"), digest_of(b"2"))),
    *((2, digest_of(b"1"), origin, None, None) for origin in (None, _ORIGIN)),
    *((1, digest_of(b"1"), _ORIGIN, blob_key(digest_of(b"1"), stamp), None) for stamp in _STAMPS),
    # A fragment holds a path once, so there is one offset for a path in a fragment.
    *((1, digest_of(b"1"), None, None, Inline(fragment_key(ROOT, stamp), 1000)) for stamp in _STAMPS),
]


def _record(said: tuple[str, str, tuple[int, Digest, str | None, str | None, Inline | None] | None]) -> Record:
    stamp, path, entry = said
    return Record(stamp, path, entry and Entry(path, *entry))


records = st.tuples(stamps, paths, st.sampled_from(_SAID)).map(_record)
"""A put of bytes in a fragment, in a blob or elsewhere, or a removal, under a stamp others may have, too."""

states: st.SearchStrategy[State] = st.lists(records, max_size=6).map(
    lambda drawn: merge(*({record.path: record} for record in drawn))
)


_CALLS = st.lists(
    st.tuples(
        stamps,
        # By path: None is a removal; else the bytes, and whether they lie in the fragment.
        st.dictionaries(paths, st.none() | st.tuples(st.binary(max_size=8), st.booleans()), max_size=4),
    ),
    unique_by=lambda call: call[0],
    min_size=1,
    max_size=5,
)


def _fragments(
    calls: list[tuple[str, dict[str, tuple[bytes, bool] | None]]],
) -> list[tuple[Fragment, dict[str, bytes]]]:
    found = []
    for intent, files in calls:
        fragment, inline = Fragment(intent), {}
        for path, said in files.items():
            entry = None
            if said is not None:
                data, kept = said
                blob = None if kept else blob_key(digest_of(data), intent)
                entry = Entry(path, len(data), digest_of(data), blob=blob)
                if kept:
                    inline[path] = data
            fragment.records[path] = Record(intent, path, entry)
        found.append((fragment, inline))
    return found


log_calls = _CALLS.map(_fragments)
"""Fragments as writers make them, each with its inline files: every record carries its fragment's stamp."""
