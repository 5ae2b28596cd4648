"""Views: files of the right name for a server to send.

A server tells the type of a file by its name, and a blob's name says nothing. A view is a link to the blob
(small files are written out) under the artifact's name, in this process's scratch directory.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

from cas.errors import PathNotFound
from cas.place import Place
from cas_mlflow.trees import write_file

_KEPT = 256  # views a process keeps; a response opens its view at once

_views: OrderedDict[Path, None] = OrderedDict()
_lock = threading.Lock()


def view_of(place: Place, path: str) -> Path:
    """A readable file with the bytes and the name of the artifact at ``path``."""
    entry = place.entry(path)
    if entry is None:
        raise PathNotFound(path, f"{place.store.name}/{place.base}")
    directory = place.store.scratch.directory / "views" / str(entry.digest).replace(":", "-")
    view = directory / os.path.basename(path)
    with _lock:
        fresh = view not in _views or not view.exists()
        _views[view] = None
        _views.move_to_end(view)
        old = [_views.popitem(last=False)[0] for _ in range(len(_views) - _KEPT)]
    if fresh:
        write_file(place, path, view, disposable=True)
    else:
        place.local_path(path)  # the blob behind it may have been damaged since: then it is refused here
    for each in old:
        each.unlink(missing_ok=True)
        with suppress(OSError):  # another view of the same bytes lives there
            each.parent.rmdir()
    return view
