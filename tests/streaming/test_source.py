"""The Hub as a source: what it resolves, lists and reads, and what it says when it cannot."""

from __future__ import annotations

import re
from collections.abc import Callable

import huggingface_hub.constants
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cas import Store
from cas.digest import Digest
from cas.errors import (
    InvalidInput,
    InvalidPath,
    OriginChanged,
    OriginGated,
    OriginGone,
    OriginMoved,
    SourceUnavailable,
)
from cas.fetch import How
from cas.manifest import Entry
from cas.paths import check_path
from cas.references import persist
from cas.repair import repair
from cas.sources import OriginStatus, source
from cas.verify import Kind, verify
from cas_hub.origin import HubOrigin
from tests.support import hub_faults as faults
from tests.support.hub import LoopbackHub, wrong_bytes

from .conftest import REPO, SIZE


def is_path(text: str) -> bool:
    try:
        return check_path(text) == text
    except InvalidPath:
        return False


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def repository(hub, weights, tmp_path):
    """With files of both kinds, some in a folder."""
    directory = tmp_path / "repository"
    (directory / "deep" / "er").mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    (directory / "empty.txt").write_text("")
    (directory / "deep" / "er" / "naïve name+%41.txt").write_text("é")
    (directory / "model.safetensors").write_bytes((weights / "model.safetensors").read_bytes())
    hub.page_size = 2
    return hub.add_repo("acme/both", directory), directory


def test_a_snapshot_lists_every_file_of_a_commit_and_downloads_none(hub: LoopbackHub, repository):
    commit, directory = repository
    hub.log.clear()
    found = source("hf").snapshot("acme/both", "main")
    assert (found.name, found.commit) == ("acme/both", commit)
    expected = {path.relative_to(directory).as_posix(): path.stat().st_size for path in directory.rglob("*.*")}
    assert {file.path: file.size for file in found.files} == expected
    assert {file.path for file in found.files if file.digest} == {"model.safetensors"}
    assert not [request for request in hub.log if request.on_cdn or "/resolve/" in request.path]


def test_small_files_are_read_whole_whatever_their_name(repository):
    _, directory = repository
    for file in source("hf").snapshot("acme/both").files:
        if file.digest is None:
            assert source("hf").read(file) == (directory / file.path).read_bytes()


def test_a_small_file_with_other_bytes_is_refused(hub, repository):
    (file,) = [each for each in source("hf").snapshot("acme/both").files if each.path == "config.json"]
    hub.fault = lambda request: wrong_bytes if "config.json" in request.path else None
    with pytest.raises(OriginChanged, match=r"config.json: expected git:\w{40}, found git:\w{40}"):
        source("hf").read(file)


@pytest.mark.parametrize(
    ("arrange", "error", "said"),
    [
        (lambda hub: hub.remove_repo(REPO), OriginGone, "there is no acme/weights at http.*Check the name"),
        (lambda hub: hub.access.hide(REPO), OriginGone, "if it is private, log in with `hf auth login`"),
        (lambda hub: hub.access.rename(REPO, "acme/both"), OriginMoved, "is called acme/both now; use that name"),
    ],
    ids=["missing", "private", "renamed"],
)
@pytest.mark.usefixtures("entry", "repository")
def test_a_repository_that_cannot_be_resolved_says_what_to_do(hub, arrange, error, said):
    arrange(hub)
    with pytest.raises(error, match=said):
        source("hf").snapshot(REPO)


def test_an_unknown_revision_is_named(hub, entry):
    with pytest.raises(OriginGone, match="acme/weights@v9: the Hub has no such revision"):
        source("hf").snapshot(REPO, "v9")


def test_a_busy_hub_is_asked_again(hub, entry):
    refused = iter([faults.status(429, {"Retry-After": "1"}), faults.status(503), faults.status(500)])
    hub.fault = lambda request: next(refused, None)
    assert source("hf").snapshot(REPO).name == REPO


def test_offline_mode_asks_nobody(hub, entry, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    hub.log.clear()
    for ask in (
        lambda: source("hf").snapshot(REPO),
        lambda: source("hf").check(entry.origin, entry.digest, entry.size),
        lambda: source("hf").open(entry.origin, entry.digest, entry.size),
    ):
        with pytest.raises(SourceUnavailable, match="offline mode is on"):
            ask()
    assert not hub.log


Arrange = Callable[[LoopbackHub], object]


@pytest.mark.parametrize(
    ("arrange", "status"),
    [
        (lambda hub: None, OriginStatus.OK),
        (lambda hub: hub.remove_repo(REPO), OriginStatus.GONE),
        (lambda hub: hub.access.gate(REPO), OriginStatus.GATED),
        (lambda hub: hub.access.hide(REPO), OriginStatus.GONE),
        (lambda hub: hub.tamper(REPO, "model.safetensors", bytes(SIZE)), OriginStatus.CHANGED),
    ],
    ids=["ok", "removed", "gated", "hidden", "changed"],
)
def test_checking_says_whether_the_bytes_could_still_be_had(hub, entry, arrange: Arrange, status):
    arrange(hub)
    assert source("hf").check(entry.origin, entry.digest, entry.size) is status


def test_checking_believes_no_other_digest_or_size(hub, entry):
    check = source("hf").check
    assert check(entry.origin, Digest("sha256", "0" * 64), entry.size) is OriginStatus.CHANGED
    assert check(entry.origin, entry.digest, entry.size + 1) is OriginStatus.CHANGED
    assert check(entry.origin.replace("model.", "other."), entry.digest, entry.size) is OriginStatus.GONE


def test_a_gated_listing_may_be_seen_and_its_files_not(hub, entry):
    hub.access.gate(REPO)
    assert source("hf").snapshot(REPO).files
    with pytest.raises(OriginGated):
        source("hf").open(entry.origin, entry.digest, entry.size).open_range(0, 10)


@given(st.text("ab./é %@+#?", min_size=1).filter(is_path))
def test_origins_are_read_as_they_are_written(path):
    origin = HubOrigin("acme/weights", COMMIT, path)
    assert HubOrigin.parse(str(origin)) == origin


@pytest.mark.parametrize(
    "text",
    [
        "hf://models/acme/w@main/file",
        f"hf://models/acme/w@{COMMIT}/",
        f"hf://models/acme/w@{COMMIT}/../../etc/passwd",
        f"hf://models/../w@{COMMIT}/file",
        f"hf://models/acme/w/x@{COMMIT}/file",
        f"hf://models/user:password@host/w@{COMMIT}/file",
        f"hf://datasets/acme/w@{COMMIT}/file",
        f"https://example.com/acme/w@{COMMIT}/file",
        f"hf://models/acme/w@{COMMIT.upper()}/file",
        f"hf://models/acme/w@{COMMIT}/a\nb",
        f"hf://models/-acme/w@{COMMIT}/file",
        "",
    ],
)
def test_what_is_no_origin_never_becomes_an_address(text):
    with pytest.raises(InvalidInput, match=re.escape(repr(text))):
        HubOrigin.parse(text)


def test_a_verification_asks_for_what_only_the_source_has(hub: LoopbackHub, entry: Entry, store: Store) -> None:
    root = store.artifact_root("m")
    with root.log_call() as writer:
        writer.put_known("weights", entry.digest, entry.size, entry.origin)
        writer.commit()
    assert verify(store, sources=True).problems == []
    hub.remove_repo(REPO)
    (problem,) = verify(store, sources=True).problems
    assert (problem.kind, problem.models) == (Kind.GONE, ("m/weights",))
    assert verify(store).problems == []


def test_what_was_lost_is_had_again_from_its_origin(store: Store, entry: Entry) -> None:
    root = store.artifact_root("m")
    with root.log_call() as writer:
        writer.put_known("weights", entry.digest, entry.size, entry.origin)
        writer.commit()
    persist(root)
    store.backend.delete([root.entry("weights").blob or ""])
    assert [each.kind for each in verify(store).problems] == [Kind.MISSING]
    assert repair(store).repaired.bytes == {How.STREAMED: SIZE}
    assert verify(store).problems == []
