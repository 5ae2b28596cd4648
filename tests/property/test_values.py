"""Paths, ULIDs and manifests, for any text and any order."""

from __future__ import annotations

import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cas.errors import InvalidPath, MalformedRecord
from cas.fragment import State, manifest_of
from cas.manifest import Entry, Manifest
from cas.paths import ancestors, check_path, relative_to
from cas.roots import locate
from cas.ulid import is_ulid, milliseconds_of, new_ulid
from tests.property.strategies import LAST_ULID, digests, quick, states, thorough, ulids

_awkward = st.lists(
    st.sampled_from(["..", ".", "", "a", "/", "\\", "\0", "%2e%2e", "\n", "x" * 256, "é" * 128, " ", "~", "\ud800"])
    | st.text(max_size=4),
    max_size=6,
)
texts = st.text() | _awkward.map("/".join) | _awkward.map("".join)


@thorough
@given(texts)
@example("a/..")
@example("a//b")
@example("/etc/passwd")
def test_an_accepted_path_stays_below_the_directory_it_is_joined_to(text: str) -> None:
    try:
        path = check_path(text)
    except InvalidPath:
        return
    assert path == text
    joined = os.path.join("/some/where", path)
    assert os.path.normpath(joined) == joined
    assert joined.startswith("/some/where/")
    assert len(joined.encode()) < 4096
    assert "\0" not in path


@thorough
@given(
    st.lists(st.text(st.characters(categories=["L", "N", "S"]), min_size=1, max_size=20), min_size=1, max_size=5)
)
def test_ordinary_names_are_accepted(names: list[str]) -> None:
    path = "/".join(name.replace("\\", "-") for name in names)
    assert check_path(path) == path


@quick
@given(st.lists(st.sampled_from(["a", "b", "artifacts", "models", "0" * 32]), max_size=6).map("/".join))
def test_a_located_path_is_root_and_rest(path: str) -> None:
    root, inside = locate(path)
    assert "/".join(part for part in (root, inside) if part) == path
    assert root == "" or root.endswith("/artifacts")


@quick
@given(st.lists(st.text("ab.é", min_size=1, max_size=3), min_size=1, max_size=6).map("/".join))
def test_ancestors_are_the_directories_a_path_lies_in(path: str) -> None:
    for directory in ancestors(path):
        assert path.startswith(directory + "/")
        assert relative_to(path, directory) == path[len(directory) + 1 :]
    assert len(list(ancestors(path))) == path.count("/")


@thorough
@given(ulids)
def test_a_new_ulid_sorts_after_any_other(other: str) -> None:
    if milliseconds_of(other) == milliseconds_of(LAST_ULID):
        with pytest.raises(MalformedRecord):
            new_ulid(after=other)
    else:
        assert is_ulid(new_ulid(after=other))
        assert new_ulid(after=other) > other


@quick
@given(ulids, ulids)
def test_ulids_sort_by_their_time(one: str, two: str) -> None:
    if milliseconds_of(one) < milliseconds_of(two):
        assert one < two


@quick
@given(states, st.randoms(use_true_random=False))
def test_the_canonical_json_does_not_depend_on_the_order(state: State, random: object) -> None:
    entries = list(manifest_of(state))
    expected = Manifest(entries).canonical_json()
    random.shuffle(entries)  # type: ignore[attr-defined]
    assert Manifest(entries).canonical_json() == expected


@quick
@given(states)
def test_the_canonical_json_does_not_depend_on_where_bytes_lie(state: State) -> None:
    here = manifest_of(state)
    elsewhere = Manifest(Entry(entry.path, entry.size, entry.digest, entry.origin) for entry in here)
    assert elsewhere.digest == here.digest


@quick
@given(st.dictionaries(st.text("ab/é", min_size=1), digests), st.dictionaries(st.text("ab/é", min_size=1), digests))
def test_different_manifests_have_different_digests(one: dict[str, object], two: dict[str, object]) -> None:
    def manifest(files: dict[str, object]) -> Manifest:
        return Manifest(Entry(path, 1, digest) for path, digest in files.items())  # type: ignore[arg-type]

    assert (manifest(one).digest == manifest(two).digest) == (one == two)


@quick
@given(states)
def test_walking_the_directories_meets_every_entry_once(state: State) -> None:
    manifest = manifest_of(state)
    found: list[Entry] = []
    directories = [""]
    while directories:
        for path, entry in manifest.list(directories.pop()):
            if entry is None:
                directories.append(path)
            else:
                found.append(entry)
    assert sorted(entry.path for entry in found) == sorted(entry.path for entry in manifest)
