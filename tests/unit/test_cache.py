"""The cache: bounded, and never at the price of somebody who uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cas import Store
from cas.backends import MemoryBackend
from cas.cache import Cache
from cas.config import parse_size
from cas.digest import digest_of
from cas.errors import InvalidInput
from cas.manifest import Entry
from cas_cli.main import main

SIZE = 100_000
PLACE = "7/0123456789abcdef0123456789abcdef/artifacts"


def content(number: int) -> bytes:
    return bytes([number]) * SIZE


@pytest.fixture
def remote() -> Store:
    """A store whose blobs are no files of this machine, with six of them."""
    store = Store.create(MemoryBackend())
    for number in range(6):
        store.artifact_root(PLACE).ingest_bytes(content(number), f"file-{number}")
    return store


@pytest.fixture
def entries(remote: Store) -> list[Entry]:
    return list(remote.artifact_root(PLACE).manifest())


def fetch(cache: Cache, remote: Store, *entries: Entry, keep: bool = False) -> None:
    cache.fetch(entries, remote.supply)
    if not keep:
        cache.release(entries)


def held(cache: Cache) -> set[str]:
    return {str(each.digest) for each in cache.contents()}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", limit=3 * SIZE)


def test_it_never_holds_more_than_its_limit(cache: Cache, remote: Store, entries: list[Entry]) -> None:
    for entry in entries:
        fetch(cache, remote, entry)
        assert sum(each.size for each in cache.contents()) <= 3 * SIZE
    assert held(cache) == {str(entry.digest) for entry in entries[3:]}


def test_what_was_used_longest_ago_goes_first(cache: Cache, remote: Store, entries: list[Entry]) -> None:
    for entry in entries[:3]:
        fetch(cache, remote, entry)
    assert cache.find(entries[0]) is not None
    cache.release(entries[:1])
    fetch(cache, remote, entries[3])
    assert held(cache) == {str(entries[number].digest) for number in (0, 2, 3)}


def test_what_is_in_use_stays_beyond_the_limit(cache: Cache, remote: Store, entries: list[Entry]) -> None:
    fetch(cache, remote, *entries, keep=True)
    assert held(cache) == {str(entry.digest) for entry in entries}
    cache.release(entries)
    fetch(cache, remote, entries[0])
    assert sum(each.size for each in cache.contents()) <= 3 * SIZE


def test_what_another_process_uses_stays_until_it_ends(cache: Cache, remote: Store, entries: list[Entry]) -> None:
    fetch(cache, remote, entries[0])
    code = (
        "import sys; from pathlib import Path; from cas.cache import Cache; from cas.digest import Digest;"
        "from cas.manifest import Entry;"
        f"entry = Entry('x', {SIZE}, Digest.parse({str(entries[0].digest)!r}));"
        f"print(Cache(Path({str(cache.root)!r})).find(entry), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
        assert user.stdout is not None
        path = Path(user.stdout.readline().decode().strip())
        done = cache.prune()
        assert (done.blobs, done.in_use) == (0, SIZE)
        assert path.read_bytes() == content(0)
    assert cache.prune().blobs == 1
    assert not path.exists()


def test_the_marks_of_a_process_that_was_killed_protect_nothing(
    cache: Cache, remote: Store, entries: list[Entry]
) -> None:
    fetch(cache, remote, entries[0])
    code = (
        "import os, signal; from pathlib import Path; from cas.cache import Cache; from cas.digest import Digest;"
        "from cas.manifest import Entry;"
        f"Cache(Path({str(cache.root)!r})).find(Entry('x', {SIZE}, Digest.parse({str(entries[0].digest)!r})));"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert cache.prune().blobs == 1


def test_a_checkout_by_links_outlives_the_blob(
    remote: Store, entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAS_CACHE_SIZE", "1")
    remote.artifact_root(PLACE).checkout("", tmp_path / "out", disposable=True)
    remote.cache.prune()
    assert remote.cache.contents() == []
    for number in range(6):
        assert (tmp_path / "out" / f"file-{number}").read_bytes() == content(number)


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="no tmpfs at /dev/shm")
def test_a_checkout_by_symlinks_keeps_its_blobs(
    remote: Store, entries: list[Entry], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    import shutil
    import tempfile

    monkeypatch.setenv("CAS_LINK", "symlink")
    tree = Path(tempfile.mkdtemp(dir="/dev/shm"))
    request.addfinalizer(lambda: shutil.rmtree(tree))
    remote.artifact_root(PLACE).checkout("", tree / "out", disposable=True)
    remote.cache.prune()
    for number in range(6):
        assert (tree / "out" / f"file-{number}").read_bytes() == content(number)


def test_aliases_go_with_their_blob(cache: Cache, remote: Store, entries: list[Entry]) -> None:
    fetch(cache, remote, entries[0])
    other = digest_of(b"pretend that it is the sha256")
    cache._blobs.add_alias(other, "0" * 26, entries[0].digest)
    cache.prune()
    assert list(cache._backend.keys("blobs/")) == []


def test_a_store_is_never_emptied_as_if_it_were_a_cache(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    store.artifact_root(PLACE).ingest_bytes(content(0), "file")
    with pytest.raises(InvalidInput, match="not a cache"):
        Cache(tmp_path / "store").prune()
    done = CliRunner().invoke(main, ["cache", "clear", "--cache", str(tmp_path / "store")])
    assert done.exit_code == 1
    assert store.artifact_root(PLACE).is_held(store.artifact_root(PLACE).entry("file"))


def test_the_command_line_lists_prunes_and_clears(cache: Cache, remote: Store, entries: list[Entry]) -> None:
    fetch(cache, remote, *entries[:3])

    def run(*words: str) -> dict:
        done = CliRunner().invoke(main, ["cache", *words, "--cache", str(cache.root), "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.output)

    assert run("ls")["bytes"] == 3 * SIZE
    assert run("prune", "--older-than", "1h") == {"blobs": 0, "bytes": 0, "in_use": 0, "foreign": 0}
    assert run("prune", "--size", "250kB")["blobs"] == 1
    assert run("clear")["blobs"] == 2
    assert run("ls")["blobs"] == []


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("500MB", 5 * 10**8), ("1.5 TB", 15 * 10**11), ("2GiB", 2 << 30)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "5 parsecs", "1e9"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no size"):
        parse_size(text)
