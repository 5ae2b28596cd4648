"""The merge of records is a map in which the last writer wins: order and repetition change nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cas.backends import MemoryBackend
from cas.fragment import Fragment, State, encode, fold, manifest_of, merge
from cas.history import read_fragment
from cas.keys import fragment_key
from cas.paths import ancestors
from cas.ulid import new_ulid
from tests.property.strategies import ROOT, log_calls, quick, states, thorough


@thorough
@given(states, states)
def test_the_merge_is_commutative(one: State, two: State) -> None:
    assert merge(one, two) == merge(two, one)


@thorough
@given(states, states, states)
def test_the_merge_is_associative(one: State, two: State, three: State) -> None:
    assert merge(merge(one, two), three) == merge(one, merge(two, three)) == merge(one, two, three)


@thorough
@given(states, states)
def test_the_merge_is_idempotent(one: State, two: State) -> None:
    assert merge(one, one) == one
    assert merge(merge(one, two), one, two) == merge(one, two)


@quick
@given(states, states)
def test_the_greatest_stamp_wins(one: State, two: State) -> None:
    for path, record in merge(one, two).items():
        assert record.stamp == max(state[path].stamp for state in (one, two) if path in state)
        assert record in (one.get(path), two.get(path))


@thorough
@given(states, st.randoms(use_true_random=False))
def test_the_manifest_is_a_function_of_the_state(state: State, random: object) -> None:
    shuffled = list(state.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert list(manifest_of(dict(shuffled))) == list(manifest_of(state))


@thorough
@given(states)
def test_no_path_is_a_file_and_a_directory(state: State) -> None:
    shown = {entry.path for entry in manifest_of(state)}
    assert not {directory for path in shown for directory in ancestors(path)} & shown


@thorough
@given(states)
def test_what_is_shown_is_what_won(state: State) -> None:
    for entry in manifest_of(state):
        assert state[entry.path].entry is entry


@thorough
@given(states)
def test_only_what_a_later_log_call_contradicts_is_hidden(state: State) -> None:
    shown = {entry.path for entry in manifest_of(state)}
    for path, record in state.items():
        if record.entry is None or path in shown:
            continue
        rivals = [each for each in shown if each in ancestors(path) or path in ancestors(each)]
        assert any(state[rival].stamp >= record.stamp for rival in rivals)


@quick
@given(log_calls, st.data())
def test_a_fold_says_what_its_fragments_say(
    calls: list[tuple[Fragment, dict[str, bytes]]], data: st.DataObject
) -> None:
    """Whichever were folded, and folded again, merged with the rest, and with what it replaced, in any order."""
    backend = MemoryBackend()
    for fragment, inline in calls:
        backend.put(fragment_key(ROOT, fragment.intent), encode(fragment, inline), create=True)
    everything = [_read(backend, fragment.intent) for fragment, _ in calls]
    expected = _meaning(merge(*(fragment.records for fragment in everything)))
    present = list(everything)
    for _ in range(data.draw(st.integers(1, 3), label="folds")):
        chosen = data.draw(st.lists(st.sampled_from(present), unique_by=id, min_size=1), label="folded")
        present.append(_fold(backend, chosen))
        if data.draw(st.booleans(), label="what was folded is deleted"):
            present = [fragment for fragment in present if not any(fragment is each for each in chosen)]
    ordered = data.draw(st.permutations(present), label="order")
    merged = merge(*(fragment.records for fragment in ordered))
    assert _meaning(merged) == expected
    _assert_inline_bytes_are_at_hand(backend, merged, {fragment.intent for fragment in present})


def _fold(backend: MemoryBackend, chosen: list[Fragment]) -> Fragment:
    folded = fold(new_ulid(after=max(fragment.intent for fragment in chosen)), chosen)
    inline = {
        path: backend.read(entry.inline.fragment, entry.inline.offset, entry.size)
        for path, record in folded.records.items()
        if (entry := record.entry) is not None and entry.inline is not None
    }
    backend.put(fragment_key(ROOT, folded.intent), encode(folded, inline), create=True)
    return _read(backend, folded.intent)


def _read(backend: MemoryBackend, intent: str) -> Fragment:
    return read_fragment(backend, fragment_key(ROOT, intent))


def _meaning(state: State) -> dict[str, object]:
    """A state without the places of inline bytes, which a fold moves."""
    return {
        path: (record.stamp, (entry := record.entry) and (entry.size, entry.digest, entry.origin, entry.blob))
        for path, record in state.items()
    }


def _assert_inline_bytes_are_at_hand(backend: MemoryBackend, state: State, present: set[str]) -> None:
    """A winner's inline bytes lie in a fragment that was not deleted."""
    allowed = {fragment_key(ROOT, intent) for intent in present}
    for record in state.values():
        if record.entry is not None and record.entry.inline is not None:
            assert record.entry.inline.fragment in allowed
            backend.read(*record.entry.inline, record.entry.size)
