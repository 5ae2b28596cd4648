"""The keys of a store: the same on every backend. `FORMAT.md` is the reference."""

from __future__ import annotations

import re

from cas.digest import Digest, digest_of
from cas.errors import InvalidPath, MalformedRecord
from cas.paths import check_path
from cas.ulid import PATTERN, is_ulid

STORE = "cas.json"
BLOBS = "blobs/"
MANIFESTS = "manifests/"
INTENTS = "intents/"
CONDEMNED = "condemned/"
QUARANTINE = "quarantine/"
SCRATCH = "tmp/"
UPLOADS = "tmp/uploads/"

# The store's own manifest holds what lies outside every artifact root. "@" keeps its fragments apart from
# the directories of the others.
OWN_ROOT = ""
_OWN_ROOT_COMPONENT = "@"
_FRAGMENT = ".fragment"
_BLOB = re.compile(
    rf"blobs/(?P<algorithm>[a-z0-9]+)/(?P<shard>[0-9a-f]{{2}})/(?P<hex>[0-9a-f]{{64}})/(?P<intent>{PATTERN})"
    r"(?:\.(?P<alias_algorithm>[a-z0-9]+)-(?P<alias_hex>[0-9a-f]{64}))?\Z"
)


def blobs_prefix(digest: Digest) -> str:
    """Where all blobs, and all aliases, of a digest are listed."""
    return f"{BLOBS}{digest.algorithm}/{digest.hex[:2]}/{digest.hex}/"


def blob_key(digest: Digest, intent: str) -> str:
    """The key under which ``intent`` writes a blob. It is never used again, which makes collection safe."""
    return blobs_prefix(digest) + intent


def alias_key(digest: Digest, intent: str, other: Digest) -> str:
    """An empty object that says: the bytes of ``digest`` lie under ``other``."""
    return f"{blobs_prefix(digest)}{intent}.{other.algorithm}-{other.hex}"


def parse_blob_key(key: str) -> tuple[Digest, str, Digest | None]:
    """Split a key under ``blobs/`` into digest, intent and, for an alias, the other digest."""
    match = _BLOB.match(key)
    if match is None or match["shard"] != match["hex"][:2]:
        raise MalformedRecord(key, "not the key of a blob")
    other = match["alias_algorithm"] and Digest(match["alias_algorithm"], match["alias_hex"])
    return Digest(match["algorithm"], match["hex"]), match["intent"], other or None


def quarantine_key(key: str) -> str:
    """Where the bytes of a damaged blob are kept."""
    return QUARANTINE + key.replace("/", "-")


def check_root(root: str) -> str:
    """Return the path of an artifact root if it may be one; raise InvalidPath if not."""
    if root and check_path(root) == _OWN_ROOT_COMPONENT:
        raise InvalidPath(root, f"{_OWN_ROOT_COMPONENT!r} stands for the store's own root")
    return root


def fragments_prefix(root: str) -> str:
    """Where the fragments of an artifact root are listed."""
    return f"{MANIFESTS}{root or _OWN_ROOT_COMPONENT}/"


def fragment_key(root: str, intent: str) -> str:
    return f"{fragments_prefix(root)}{intent}{_FRAGMENT}"


def parse_fragment_key(key: str) -> tuple[str, str]:
    """Split the key of a fragment into artifact root and intent."""
    directory = key.removeprefix(MANIFESTS).rpartition("/")[0]
    if not key.startswith(MANIFESTS) or not directory:
        raise MalformedRecord(key, "not the key of a fragment")
    return (OWN_ROOT if directory == _OWN_ROOT_COMPONENT else check_path(directory)), fragment_intent(key)


def fragment_intent(key: str) -> str:
    """The intent in the key of a fragment whose artifact root is known."""
    name = key.rpartition("/")[2]
    intent = name.removesuffix(_FRAGMENT)
    if intent == name or not is_ulid(intent):
        raise MalformedRecord(key, "not the key of a fragment")
    return intent


def intent_key(intent: str) -> str:
    return f"{INTENTS}{intent}.json"


def staged_key(path: str, name: str) -> str:
    """Where an upload by parts, called ``name``, is put together: nobody can complete it for another path."""
    return f"{UPLOADS}{digest_of(path.encode()).hex}/{name}"
