"""From a URI to a store and a place in it.

``cas:///srv/models/7/<run id>/artifacts/model`` names the store at ``/srv/models`` (the nearest parent that holds
``cas.json``, as git finds ``.git``), in it the artifact root ``7/<run id>/artifacts``, and in that the path
``model``. The artifact root ends with MLflow's ``artifacts`` component, so that a client that writes directly and a
server that writes for others meet in one manifest. Any other path belongs to the store's own manifest.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from cas.errors import InvalidURI, StoreNotFound
from cas.keys import OWN_ROOT, STORE
from cas.paths import check_path, join

SCHEME = "cas"
# What MLflow puts before `artifacts`: a run id, models/<model id> or traces/<trace id>.
# The first that qualifies, not the last: a user may well log a directory of such a name.
_ARTIFACT_ROOT = re.compile(r"(?:.*?/)?(?:[0-9a-f]{32}|(?:models|traces)/[^/]+)/artifacts(?=/|\Z)")


class Location(NamedTuple):
    """An artifact root of a store, and a path inside it ("" for the root itself)."""

    root: str
    path: str


def locate(path: str) -> Location:
    """Which artifact root of a store a path inside the store belongs to. "" is the store itself."""
    if path:
        check_path(path)
    match = _ARTIFACT_ROOT.match(path)
    if match is None:
        return Location(OWN_ROOT, path)
    return Location(match.group(), path[match.end() + 1 :])


def parse_uri(uri: str) -> Path:
    """The absolute path a ``cas:`` URI, or a plain path, names. MLflow may write ``cas:/p`` for ``cas:///p``."""
    if "://" not in uri and not uri.startswith(SCHEME + ":"):
        return Path(uri).absolute()
    parts = urlsplit(uri)
    if parts.scheme != SCHEME:
        raise InvalidURI(f"{uri!r}: the scheme of a local store is {SCHEME}:, as in cas:///srv/models")
    if parts.netloc:
        raise InvalidURI(f"{uri!r} names a host; a local path has three slashes, as in cas:///srv/models")
    if parts.query or parts.fragment or "?" in uri or "#" in uri:
        raise InvalidURI(f"{uri!r}: a store URI has no query and no fragment")
    path = parts.path.rstrip("/")
    if not path.startswith("/"):
        raise InvalidURI(f"{uri!r}: not an absolute path, as in cas:///srv/models")
    check_path(path[1:])
    return Path(path)


def find_store(path: Path) -> tuple[Path, str]:
    """The root of the store that ``path`` lies in, and the path inside it.

    Raises :class:`StoreNotFound`: nothing outside an initialised store is ever opened.
    """
    stores = [root for root in (path, *path.parents) if (root / STORE).is_file()]
    if not stores:
        raise StoreNotFound(f"no store at {path}, nor in any directory above it; make one with `cas init {path}`")
    if len(stores) > 1:
        # Somebody may have logged, or checked out, a file of that name inside a store.
        raise InvalidURI(f"{path} lies in a store at {stores[0]} inside another at {stores[1]}")
    return stores[0], join(*path.relative_to(stores[0]).parts)
