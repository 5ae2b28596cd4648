"""Two users of one machine who share a store: a common group, set-group-ID, sticky, and a umask of 002."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import cas
from cas.errors import Damaged
from cas.keys import parse_blob_key
from cas.verify import verify
from tests.support.tools import require_root

ALICE, BOB, GROUP = 64_001, 64_002, 64_000
RUN = f"7/{'a' * 32}/artifacts"
LARGE = b"weights" * 300_000


@pytest.fixture
def shared() -> Iterator[Path]:
    """The store of an administrator, where both may write, and only owners rename and delete."""
    require_root()
    directory = Path(tempfile.mkdtemp(prefix="cas-shared-"))
    directory.chmod(0o755)
    path = directory / "store"
    path.mkdir()
    os.chown(path, 0, GROUP)
    path.chmod(0o3775)
    mask = os.umask(0o002)
    store = cas.Store.create(path)
    # Imported now: the users cannot read root's Python.
    store.artifact_root("warm").ingest_bytes(LARGE, "weights")
    store.artifact_root("warm").checkout("", directory / "warm", disposable=True)
    verify(store, quick=True)
    yield path
    os.umask(mask)
    shutil.rmtree(directory)


def run_as(user: int, action: Callable[[], object]) -> str:
    """What ``action`` raises in a process of this user: the last line, or nothing."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = ""
        try:
            signal.alarm(60)
            os.setgroups([])
            os.setgid(GROUP)
            os.setuid(user)
            os.umask(0o002)
            os.environ |= {"CAS_CACHE": f"/tmp/cas-cache-of-{user}", "CAS_STAT_CACHE": "off"}
            action()
        except BaseException:
            said = traceback.format_exc()
        os.write(writing, said.encode()[-60_000:])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        said = file.read()
    os.waitpid(child, 0)
    return said.strip().rpartition("\n")[2]


def log(path: Path, run: str, data: bytes = LARGE) -> None:
    root = cas.Store.open(path).artifact_root(run)
    root.ingest_bytes(data, "model/weights")
    root.ingest_bytes(b"small", "model/config.json")


def load(path: Path, run: str, data: bytes = LARGE) -> None:
    store = cas.Store.open(path)
    with store.artifact_root(run).open("model/weights") as file:
        assert file.read() == data
    tree = store.trees.tree()
    store.artifact_root(run).checkout("", tree, disposable=True)
    assert (tree / "model/weights").read_bytes() == data
    shutil.rmtree(tree)


def blob_of(path: Path, user: int) -> Path:
    """A blob this user wrote."""
    found = [path / key for key in cas.Store.open(path).backend.keys("blobs/")]
    return next(each for each in found if each.stat().st_uid == user)


def test_both_log_and_load_what_either_logged(shared: Path) -> None:
    assert run_as(ALICE, lambda: log(shared, "alice/artifacts", b"a" + LARGE)) == ""
    assert run_as(BOB, lambda: log(shared, "bob/artifacts", b"b" + LARGE)) == ""
    for user in (ALICE, BOB):
        assert run_as(user, lambda: load(shared, "alice/artifacts", b"a" + LARGE)) == ""
        assert run_as(user, lambda: load(shared, "bob/artifacts", b"b" + LARGE)) == ""


def test_both_log_into_one_run_and_store_equal_bytes_once(shared: Path) -> None:
    for user in (ALICE, BOB, ALICE):
        assert run_as(user, lambda: log(shared, RUN, b"both" + LARGE)) == ""
    assert run_as(BOB, lambda: load(shared, RUN, b"both" + LARGE)) == ""
    store = cas.Store.open(shared)
    assert [size for _, size in store.blobs.listing()].count(len(LARGE) + len(b"both")) == 1


def test_neither_changes_or_deletes_a_blob_of_the_other(shared: Path) -> None:
    assert run_as(ALICE, lambda: log(shared, RUN, b"a" + LARGE)) == ""
    blob = blob_of(shared, ALICE)
    for harm in (
        blob.unlink,
        lambda: blob.write_bytes(b"harm"),
        lambda: blob.chmod(0o666),
        lambda: os.utime(blob),
        lambda: blob.rename(blob.with_name("moved")),
        lambda: os.rename(_file_of_bob(shared), blob),
        lambda: blob.parent.rename(blob.parent.with_name("moved")),
        (shared / "cas.json").unlink,
        lambda: (shared / "blobs").rename(shared / "moved"),
    ):
        assert "Permission" in (said := run_as(BOB, harm)) or "not permitted" in said
    assert run_as(ALICE, lambda: load(shared, RUN, b"a" + LARGE)) == ""


def _file_of_bob(shared: Path) -> Path:
    path = shared / "tmp" / "of-bob"
    path.write_bytes(b"harm")
    return path


def test_every_directory_is_the_groups_and_sticky_as_the_store_is(shared: Path) -> None:
    for user in (ALICE, BOB):
        assert run_as(user, lambda user=user: log(shared, f"{user}/artifacts", b"%d" % user + LARGE)) == ""
    for each in (*shared.rglob("*"), shared):
        status = each.stat()
        if each.is_dir() and (shared / "tmp") not in each.parents:
            assert (status.st_gid, status.st_mode & 0o7777) == (GROUP, 0o3775), each


def test_a_store_that_is_not_sticky_has_no_sticky_directories(store: cas.Store) -> None:
    store.artifact_root(RUN).ingest_bytes(LARGE, "weights")
    assert not any(each.stat().st_mode & 0o1000 for each in Path(store.name).rglob("*"))


@pytest.mark.parametrize("place", ["blobs/blake3/{shard}/{digits}", "blobs/blake3/{shard}", f"manifests/{RUN}"])
def test_neither_is_led_out_of_the_store_by_a_link_of_the_other(shared: Path, place: str) -> None:
    """Into a directory that only the one who is led there may write to."""
    private = shared.parent / "private"
    private.mkdir(mode=0o700)
    os.chown(private, ALICE, GROUP)
    (private / "kept").write_bytes(b"kept")
    digits = cas.digest.digest_of(b"a" + LARGE).hex

    def plant() -> None:
        link = shared / place.format(shard=digits[:2], digits=digits)
        with suppress(FileExistsError):
            link.parent.mkdir(parents=True)
        link.symlink_to(private)

    assert run_as(BOB, plant) == ""
    said = run_as(ALICE, lambda: log(shared, RUN, b"a" + LARGE))
    assert Damaged.__name__ in said
    assert "is a link" in said
    assert [each.name for each in private.iterdir()] == ["kept"]


def test_damage_to_a_blob_of_the_other_is_refused_though_it_cannot_be_moved(shared: Path) -> None:
    assert run_as(ALICE, lambda: log(shared, RUN, b"a" + LARGE)) == ""
    blob = blob_of(shared, ALICE)
    content = bytearray(blob.read_bytes())
    content[0] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(content)
    assert "Blob" in run_as(BOB, lambda: load(shared, RUN, b"a" + LARGE))
    assert parse_blob_key(str(blob.relative_to(shared)))[1] == blob.name
