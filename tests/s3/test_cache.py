"""A machine fetches a blob once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cas import Store
from tests.support.s3_faults import FaultProxy

from .conftest import PLACE

READ = """
import sys
from cas import Store
from cas.testing.fixtures import files_below
root = Store.open(sys.argv[1]).artifact_root(sys.argv[2])
root.checkout("", sys.argv[3], disposable=True)
print(len((__import__("pathlib").Path(sys.argv[3]) / "large").read_bytes()))
"""


def reader(uri: str, destination: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", READ, uri, PLACE, str(destination)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def logged(store: Store, large: Path, proxy: FaultProxy) -> Store:
    store.artifact_root(PLACE).ingest_file(large, "large")
    proxy.log.clear()
    return store


def test_the_second_read_fetches_nothing(logged: Store, large: Path, proxy: FaultProxy, tmp_path: Path) -> None:
    root = logged.artifact_root(PLACE)
    root.checkout("", tmp_path / "one", disposable=True)
    assert proxy.downloaded() == large.stat().st_size
    root.checkout("", tmp_path / "two", disposable=True)
    with root.open("large") as file:
        assert file.read() == large.read_bytes()
    assert proxy.downloaded() == large.stat().st_size
    # No copy either: both trees are links to the cache's own file.
    assert (tmp_path / "one/large").stat().st_ino == (tmp_path / "two/large").stat().st_ino


def test_logging_it_again_sends_nothing(logged: Store, large: Path, proxy: FaultProxy) -> None:
    logged.artifact_root("8/" + "a" * 32 + "/artifacts").ingest_file(large, "the same")
    assert proxy.uploaded() == 0


def test_eight_processes_fetch_each_byte_once(
    logged: Store, large: Path, proxy: FaultProxy, tmp_path: Path
) -> None:
    readers = [reader(logged.uri, tmp_path / f"out-{number}") for number in range(8)]
    size = large.stat().st_size
    for each in readers:
        assert each.communicate(timeout=60)[0] == f"{size}\n"
        assert each.returncode == 0
    assert proxy.downloaded() == size


def test_killed_while_fetching_it_goes_on_where_it_was(
    logged: Store, large: Path, proxy: FaultProxy, tmp_path: Path
) -> None:
    def slowly(exchange) -> None:
        exchange.rate = 10 << 20

    proxy.after = slowly
    for number in range(3):
        started = len(proxy.log)
        with reader(logged.uri, tmp_path / "killed") as killed:
            deadline = time.monotonic() + 30
            while killed.poll() is None and time.monotonic() < deadline:
                if any(each.is_download for each in proxy.log[started:]):
                    break
                time.sleep(0.01)
            time.sleep(0.3 + 0.2 * number)
            killed.send_signal(signal.SIGKILL)
    proxy.after = None
    proxy.log.clear()
    last = reader(logged.uri, tmp_path / "out")
    assert last.communicate(timeout=60)[0] == f"{large.stat().st_size}\n"
    assert proxy.downloaded() < large.stat().st_size  # what was recorded was not asked for again
    assert (tmp_path / "out/large").read_bytes() == large.read_bytes()
    downloads = Path(os.environ["CAS_CACHE"]) / "tmp" / "downloads"
    assert [path for path in downloads.rglob("*") if path.is_file()] == []


def test_what_one_reads_by_ranges_is_all_that_is_fetched(logged: Store, large: Path, proxy: FaultProxy) -> None:
    with logged.artifact_root(PLACE).open("large") as file:
        file.seek(20 << 20)
        assert file.read(1 << 20) == large.read_bytes()[20 << 20 : 21 << 20]
    assert proxy.downloaded() < 3 << 20
