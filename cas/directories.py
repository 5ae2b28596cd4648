"""Directories of a store that several users may write to: what one of them puts there must not lead others astray.

Links that lie on the way are refused. One that is put there between this look and the use of what was looked at is
not seen: whoever may write to a directory of the store is trusted that far (FORMAT.md, "Not promised").
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from cas.errors import Damaged


def check_way(root: str, directory: str) -> None:
    """Raise :class:`Damaged` if ``directory``, or one between it and ``root``, is a link. ``root`` may be."""
    end = len(directory)
    while end > len(root):  # strings and no pathlib: this is done for every blob
        try:
            is_link = stat.S_ISLNK(os.lstat(directory[:end]).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            is_link = False
        if is_link:
            raise Damaged(f"{directory[:end]} is a link, which no store has; somebody put it there. Remove it")
        end = directory.rfind("/", 0, end)


def make_own(path: Path) -> None:
    """Make a private directory; one that is there must be this user's. Raises :class:`Damaged`."""
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise Damaged(f"{path} is not this user's own directory; somebody put it there. Remove it")
