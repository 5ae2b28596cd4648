"""A cache that several users of a machine share: by a group, or by all; and one that is nobody else's."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cas.cache import Cache
from cas.eviction import Uses
from tests.support.tools import require_root

GROUP, ALICE, BOB, EVE = 40_400, 40_401, 40_402, 40_403

# The same store in every process: whoever has to fetch from it says so. All is imported while this is root.
USER = """
import os, sys
from pathlib import Path
from tempfile import TemporaryDirectory
from cas import Store
from cas.atomic import write_private
from cas.backends import MemoryBackend
from cas.cache import Cache
from cas.fetch import How

uid, group, umask, directory, code = sys.argv[1:]
store = Store.create(MemoryBackend())
root = store.artifact_root()
for number in range(3):
    root.ingest_bytes(bytes([number]) * 1_000_000, f"file-{number}")
entries = list(root.manifest())
with TemporaryDirectory() as warm:
    Cache(Path(warm, "cache")).fetch(entries, store.supply)
os.setgroups([int(group)])
os.setgid(int(uid))
os.setuid(int(uid))
os.umask(int(umask, 8))
cache = Cache(Path(directory))

def fetched():
    return cache.fetch(entries, store.supply).files[How.STREAMED]

def right():
    return all(cache.find(each).read_bytes() == bytes([int(each.path[-1])]) * each.size for each in entries)

exec(code)
"""


def start(uid: int, cache: Path, code: str, *, umask: str = "077") -> subprocess.Popen[str]:
    require_root()
    command = [sys.executable, "-c", USER, str(uid), str(GROUP if uid != EVE else EVE), umask, str(cache), code]
    environment = {**os.environ, "CAS_STAT_CACHE": "off"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)


def run(uid: int, cache: Path, code: str, *, umask: str = "077") -> str:
    out, err = start(uid, cache, code, umask=umask).communicate(timeout=60)
    assert err == ""
    return out.strip()


@pytest.fixture
def place() -> Iterator[Path]:
    """Where every user may go."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


@pytest.fixture(params=["group", "all"])
def shared(request: pytest.FixtureRequest, place: Path) -> Path:
    require_root()
    directory = place / "cache"
    directory.mkdir()
    if request.param == "group":
        os.chown(directory, 0, GROUP)
        os.chmod(directory, 0o2775)
    else:
        os.chmod(directory, 0o1777)
    return directory


pytestmark = pytest.mark.root


def test_what_one_user_fetched_another_reads(shared: Path) -> None:
    assert run(ALICE, shared, "print(fetched(), right())") == "3 True"
    assert run(BOB, shared, "print(fetched(), right())") == "0 True"


def test_two_users_at_once_fetch_each_blob_once(shared: Path) -> None:
    users = [start(uid, shared, "print(fetched(), right())") for uid in (ALICE, BOB, ALICE, BOB)]
    told = [user.communicate(timeout=60) for user in users]
    assert [err for _, err in told] == [""] * 4
    assert [out.split()[1] for out, _ in told] == ["True"] * 4
    assert sum(int(out.split()[0]) for out, _ in told) == 3


def test_what_another_user_uses_stays(shared: Path) -> None:
    user = start(ALICE, shared, "fetched(); print('ready', flush=True); input()")
    assert user.stdout is not None
    assert user.stdout.readline() == "ready\n"
    assert run(BOB, shared, "done = cache.prune(); print(done.blobs, done.in_use)") == "0 3000000"
    user.communicate("\n", timeout=30)
    assert len(Cache(shared).contents()) == 3


def test_the_marks_of_another_users_dead_process_protect_nothing(shared: Path) -> None:
    user = start(ALICE, shared, "fetched(); print('ready', flush=True); input()")
    assert user.stdout is not None
    user.stdout.readline()
    user.kill()
    user.communicate()
    assert list(shared.glob("tmp/*/uses/*"))
    assert run(BOB, shared, "print(len(cache._uses.all()))") == "0"


BEGIN = """
from cas.locks import exclusive
downloads, digest = cache.scratch.parent / "downloads", entries[0].digest
lock = exclusive(downloads / f"{digest.algorithm}-{digest.hex}.lock")
lock.__enter__()
(downloads / "alice").mkdir(mode=0o700)
print("ready", flush=True)
input()
"""


def test_what_another_users_dead_process_had_begun_stops_nobody(shared: Path) -> None:
    user = start(ALICE, shared, BEGIN)
    assert user.stdout is not None
    user.stdout.readline()
    user.kill()
    user.communicate()
    assert run(BOB, shared, "print(fetched(), right())") == "3 True"
    assert run(BOB, shared, "print(cache.prune().blobs)") == "3"


def test_a_member_of_the_group_makes_room(shared: Path) -> None:
    """In a sticky directory only those who fetched something may delete it, and that stops nobody."""
    run(ALICE, shared, "fetched()")
    told = run(BOB, shared, "done = cache.prune(); print(done.blobs, done.foreign, fetched(), right())")
    by_group = stat.S_IMODE(shared.stat().st_mode) == 0o2775
    assert told == ("3 0 3 True" if by_group else "0 3000000 0 True")


def test_a_full_cache_of_others_stops_no_fetch(shared: Path) -> None:
    run(ALICE, shared, "entries = entries[:2]; fetched()")
    code = "cache = Cache(Path(directory), limit=2_000_000); print(fetched(), right())"
    assert run(BOB, shared, code) == "1 True"


def test_what_is_unfinished_is_closed_to_others(shared: Path) -> None:
    code = "write_private(path := cache.scratch.file(), [b'mine']); print(path, flush=True); input()"
    user = start(ALICE, shared, code, umask="000")
    assert user.stdout is not None
    path = user.stdout.readline().strip()
    code = f"print(os.access({path!r}, os.R_OK), os.access(os.path.dirname({path!r}), os.W_OK))"
    assert run(BOB, shared, code) == "False False"
    user.communicate("\n", timeout=30)


def test_whoever_is_not_in_the_group_can_put_nothing_there(place: Path) -> None:
    require_root()
    cache = place / "cache"
    cache.mkdir()
    os.chown(cache, 0, GROUP)
    os.chmod(cache, 0o2770)
    run(ALICE, cache, "fetched()", umask="000")
    assert run(EVE, cache, "print(os.access(directory, os.R_OK | os.W_OK | os.X_OK))") == "False"
    modes = {stat.S_IMODE(each.stat().st_mode) for each in (cache / "blobs").rglob("*")}
    assert modes == {0o2770, 0o444}


def test_a_cache_that_was_not_shared_is_nobody_elses(place: Path) -> None:
    require_root()
    os.chmod(place, 0o1777)
    cache = place / "cache"
    run(ALICE, cache, "fetched()", umask="000")
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert stat.S_IMODE((cache / "tmp" / "eviction.lock").stat().st_mode) == 0o600
    assert run(BOB, cache, "print(os.access(directory, os.X_OK))") == "False"


def test_somebody_who_fetches_right_now_stops_no_pruning(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    downloads = cache.scratch.parent / "downloads"
    downloads.mkdir(parents=True)
    (downloads / "blake3-0.lock").touch()
    assert cache.prune().blobs == 0
    assert Uses(cache._backend).all() == set()
