"""Which stores may be opened, and opening each once.

A model version or an experiment can be given any artifact URI by whoever may create one. A client process opens
what its user could open anyway, if it is an initialised store; a server opens only stores it was configured
with: those of its default artifact root, of its artifacts destination, and those named in ``CAS_STORES``.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from cas.backends.bucket import Bucket
from cas.config import allowed_stores, object_client, s3_endpoint
from cas.errors import CasError
from cas.keys import STORE
from cas.place import Place
from cas.roots import find_store, is_store_uri, parse_uri
from cas.store import Store
from cas_mlflow.boundary import mlflow_errors

# How `mlflow server` tells its workers and jobs what it was started with.
_SERVER_VARIABLES = ("_MLFLOW_SERVER_ARTIFACT_ROOT", "_MLFLOW_SERVER_ARTIFACT_DESTINATION")


def open_place(uri: str) -> Place:
    """The place a URI names. Raises MlflowException if there is no store, or this server must not open it."""
    with mlflow_errors():
        root, inside = find_store(parse_uri(uri))
        _check_allowed(root)
        return Place(_open(root, *_identity(root)), inside)


@lru_cache(maxsize=64)
def _open(root: Path | Bucket, *_identity: object) -> Store:
    """One Store for each store, so that its manifests are read once; a store made anew is another."""
    return Store.open(root)


def _identity(root: Path | Bucket) -> tuple[object, ...]:
    """What changes when a store is made anew, or when this process shall reach it in another way."""
    if isinstance(root, Bucket):
        # A forked child must not share its parent's connections.
        return os.getpid(), object_client(), s3_endpoint(), os.environ.get("AWS_PROFILE")
    status = os.stat(root / STORE)
    return status.st_ino, status.st_mtime_ns


def _check_allowed(root: Path | Bucket) -> None:
    configured = [value for name in _SERVER_VARIABLES if (value := os.environ.get(name))]
    if not configured:
        return  # no server
    for uri in (*configured, *allowed_stores()):
        if (is_store_uri(uri) or uri.startswith("/")) and _same_store(uri, root):
            return
    raise MlflowException(
        f"This server was not configured with the store at {root}. Its administrator can add it to CAS_STORES.",
        PERMISSION_DENIED,
    )


def _same_store(uri: str, root: Path | Bucket) -> bool:
    try:
        other = find_store(parse_uri(uri))[0]
        if isinstance(other, Bucket) or isinstance(root, Bucket):
            return other == root
        return os.path.samefile(other, root)
    except CasError:
        return False  # not a store, hence not this one
