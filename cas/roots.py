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
from urllib.parse import SplitResult, urlsplit

from cas.backends.bucket import PROVIDERS, Bucket
from cas.backends.opening import open_bucket
from cas.errors import InvalidURI, KeyNotFound, StoreNotFound, StoreRefused
from cas.keys import OWN_ROOT, STORE
from cas.paths import check_path, join

SCHEME = "cas"
SCHEMES = (SCHEME, *(f"cas-{provider}" for provider in PROVIDERS))
"""Of URIs of artifacts, as MLflow knows them. No "+" in them: MLflow's server decodes it to a space."""
# What MLflow puts before `artifacts`: a run id, models/<model id> or traces/<trace id>.
# The first that qualifies, not the last: a user may well log a directory of such a name.
_ARTIFACT_ROOT = re.compile(r"(?:.*?/)?(?:[0-9a-f]{32}|(?:models|traces)/[^/]+)/artifacts(?=/|\Z)")


_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}\Z")


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


def parse_uri(uri: str) -> Path | Bucket:
    """What a URI names: an absolute path for ``cas:`` and for plain paths, a place in a bucket for ``cas-s3:`` or
    ``s3:`` and their likes. MLflow may write ``cas:/p`` for ``cas:///p``.

    Raises :class:`InvalidURI`, and :class:`cas.errors.InvalidPath` for a path that climbs.
    """
    if "://" not in uri and not uri.startswith(SCHEME + ":"):
        return Path(uri).absolute()
    parts = _split(uri)
    provider = parts.scheme.removeprefix("cas-")
    if provider in PROVIDERS:
        return _parse_bucket(uri, provider)
    if parts.scheme != SCHEME:
        raise InvalidURI(
            f"{uri!r}: a store is at a path, or at one of {', '.join(f'{each}://' for each in SCHEMES)}"
        )
    if parts.netloc:
        raise InvalidURI(f"{uri!r} names a host; a local path has three slashes, as in cas:///srv/models")
    if parts.query or parts.fragment or "?" in uri or "#" in uri:
        raise InvalidURI(f"{uri!r}: a store URI has no query and no fragment")
    path = parts.path.rstrip("/")
    if not path.startswith("/"):
        raise InvalidURI(f"{uri!r}: not an absolute path, as in cas:///srv/models")
    check_path(path[1:])
    return Path(path)


def _split(uri: str) -> SplitResult:
    if any(ord(c) < 0x20 or ord(c) == 0x7F for c in uri):
        # urlsplit drops some of them: what is opened would not be what was checked, or is shown.
        raise InvalidURI(f"{uri!r}: control character")
    try:
        return urlsplit(uri)
    except ValueError as error:
        raise InvalidURI(f"{uri!r} is no URI: {error}") from None


def is_store_uri(uri: str) -> bool:
    """Whether an artifact URI names a place in a store, here or in a bucket."""
    return uri.partition(":")[0] in SCHEMES


def find_store(place: Path | Bucket) -> tuple[Path | Bucket, str]:
    """The root of the store that ``place`` lies in, and the path inside it.

    Raises :class:`StoreNotFound`: nothing outside an initialised store is ever opened.
    """
    return _find_in_bucket(place) if isinstance(place, Bucket) else _find_on_disk(place)


def _parse_bucket(uri: str, provider: str) -> Bucket:
    authority, _, path = uri.partition("://")[2].partition("/")
    if "?" in uri or "#" in uri:
        raise InvalidURI("a store URI has no query and no fragment; endpoints and keys come from the environment")
    if not _BUCKET.match(authority):
        raise InvalidURI(
            f"{provider}: {authority.rpartition('@')[2]!r} is no name of a bucket, as in cas-s3://models/team"
        )
    prefix = path.strip("/")
    if prefix:
        check_path(prefix)
    return Bucket(provider, authority, prefix)


_known: set[Bucket] = set()


def _find_in_bucket(place: Bucket) -> tuple[Bucket, str]:
    """A store once found stays one, so that opening its thousandth artifact costs no request."""
    root = locate(place.prefix).root
    # Nothing that is logged can look like a store: whatever lies inside an artifact root lies in fragments.
    start = place._replace(prefix="/".join(root.split("/")[:-2])) if root else place
    above = [start, *start.parents]
    found = [each for each in above if each in _known] or _probe(above)
    if not found:
        raise StoreNotFound(f"no store at {place}, nor at any prefix above it; make one with `cas init {start}`")
    if len(found) > 1:
        raise InvalidURI(f"{place} lies in a store at {found[0]} inside another at {found[1]}")
    _known.add(found[0])
    return found[0], place.inside(found[0])


def _probe(above: list[Bucket]) -> list[Bucket]:
    """Which of these places hold a store. A prefix one may not look at is none, unless all are so."""
    backend, refused, found = open_bucket(above[-1]._replace(prefix="")), None, []
    for each in above:
        try:
            backend.size(join(each.prefix, STORE))
            found.append(each)
        except KeyNotFound:
            continue
        except StoreRefused as error:
            refused = refused or error
    if not found and refused is not None:
        raise refused
    return found


def _find_on_disk(path: Path) -> tuple[Path, str]:
    stores = [root for root in (path, *path.parents) if (root / STORE).is_file()]
    if not stores:
        raise StoreNotFound(f"no store at {path}, nor in any directory above it; make one with `cas init {path}`")
    if len(stores) > 1:
        # Somebody may have logged, or checked out, a file of that name inside a store.
        raise InvalidURI(f"{path} lies in a store at {stores[0]} inside another at {stores[1]}")
    return stores[0], join(*path.relative_to(stores[0]).parts)
