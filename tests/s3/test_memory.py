"""However many files are put or got: what is in memory at once is bounded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cas import Store

from .conftest import MB, PLACE

BOUND = 200 * MB

# The peak starts at what is there once everything is imported, and one of the same kind was done.
MEASURE = """
import re, sys
from pathlib import Path
from cas import Store

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10

uri, place, directory, what = sys.argv[1:]
root = Store.open(uri).artifact_root(place)
root.ingest_bytes(b"begin" * 10_000, "first")
with root.open("first") as file:
    file.read()
Path("/proc/self/clear_refs").write_text("5")
before = peak()
if what == "put":
    root.ingest_tree(directory, "files")
else:
    root.checkout("files", directory)
print(peak() - before)
"""


def growth(uri: str, directory: Path, what: str) -> int:
    """By how many bytes the memory of a process grows at most."""
    command = [sys.executable, "-c", MEASURE, uri, PLACE, str(directory), what]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=280).stdout)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("count", "size"), [(60, 8 * MB), (100, 4 * MB)])
def test_many_files_of_middle_size(store: Store, tmp_path: Path, count: int, size: int) -> None:
    directory = tmp_path / "files"
    directory.mkdir()
    block = os.urandom(size)
    for number in range(count):
        (directory / f"{number}").write_bytes(number.to_bytes(8, "big") + block[8:])
    assert growth(store.name, directory, "put") < BOUND
    assert growth(store.name, tmp_path / "out", "get") < BOUND
