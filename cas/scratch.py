"""Private places of this process: unfinished files, and trees that go when the process ends.

A directory is named for its owner (machine boot, pid namespace, pid, start time of that pid), so that the next
process to come by can tell a dead owner's leftovers from a living one's work, without locks: a pid that was
given to somebody else has another start time, and a process that replaced itself by exec keeps both.
"""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import tempfile
import threading
from pathlib import Path

from cas.directories import check_way, make_own
from cas.errors import CasError
from cas.sharing import make_directory, sharing


class Scratch:
    """This process's directory below ``parent``, made when first needed, removed at exit."""

    def __init__(self, parent: Path) -> None:
        self.parent = parent
        self._directory: Path | None = None
        self._owner = ""
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    @property
    def directory(self) -> Path:
        """Made, and dead owners' ones swept away, on first use; a forked child gets its own."""
        owner = own_name()
        if self._directory is None or self._owner != owner:
            with self._lock:
                if self._directory is None or self._owner != owner:
                    make_directory(self.parent)  # tools that copy trees leave empty directories out
                    check_way(str(self.parent.parent), str(self.parent))
                    sweep(self.parent)
                    directory = self.parent / owner
                    make_own(directory)
                    # Others who share the place may see which blobs are in use; files are closed to them.
                    os.chmod(directory, 0o700 | sharing(self.parent) & 0o2055)
                    atexit.register(_remove_own, directory, owner)
                    self._directory, self._owner = directory, owner
        return self._directory

    def file(self) -> Path:
        """A path nobody else uses, for a file to be made."""
        return self.directory / f"{threading.get_native_id()}-{id(self)}-{next(self._numbers)}"

    def tree(self) -> Path:
        """A new empty directory."""
        return Path(tempfile.mkdtemp(prefix="tree-", dir=self.directory))


def sweep(parent: Path) -> list[str]:
    """Remove what processes that are certainly dead left below ``parent``; returns their names."""
    names = abandoned(parent)
    for name in names:
        shutil.rmtree(parent / name, ignore_errors=True)
    return names


def abandoned(parent: Path) -> list[str]:
    """The names of the directories below ``parent`` whose owners are certainly dead.

    An owner of another machine, boot or pid namespace cannot be judged from here.
    """
    return [name for name in os.listdir(parent) if is_dead(name)]


def is_dead(name: str) -> bool:
    """Whether the process of this name has certainly ended. One of another machine cannot be judged from here."""
    machine, _, process = name.rpartition("-")[0].rpartition("-")
    if machine != own_name().rsplit("-", 2)[0]:
        return False
    started = _start_time(process)
    return started != name.rpartition("-")[2] and not (started is None and _is_hidden(process))


def own_name() -> str:
    """The name of this process, unlike any other's that is alive."""
    pid = os.getpid()
    if _name_cache[0] != pid:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip().replace("-", "")[:16]
        namespace = os.readlink("/proc/self/ns/pid").strip("pid:[]")
        start = _start_time(str(pid))
        if start is None:
            raise CasError("cannot read /proc/self/stat; is /proc mounted?")
        _name_cache[:] = [pid, f"{boot}-{namespace}-{pid}-{start}"]
    return str(_name_cache[1])


_name_cache: list[object] = [0, ""]


def _start_time(pid: str) -> str | None:
    """Field 22 of /proc/<pid>/stat: clock ticks from boot to the start of the process; None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _is_hidden(pid: str) -> bool:
    """Whether there is such a process, of another user whose processes /proc does not show (hidepid)."""
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (ProcessLookupError, ValueError, OverflowError):
        pass
    return False


def _remove_own(directory: Path, owner: str) -> None:
    # A forked child that runs atexit handlers must not take its parent's trees away.
    if own_name() == owner:
        shutil.rmtree(directory, ignore_errors=True)
