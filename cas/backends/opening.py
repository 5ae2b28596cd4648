"""Which client talks to an object store."""

from __future__ import annotations

from importlib.util import find_spec

from cas.backends.aws import s3_settings
from cas.backends.bucket import Bucket
from cas.backends.interface import Backend
from cas.config import object_client
from cas.errors import InvalidInput, StoreRefused


def open_bucket(bucket: Bucket) -> Backend:
    """A backend for a place in an object store: obstore, where it is installed, else fsspec.

    Raises :class:`InvalidInput` for a CAS_CLIENT that is neither, :class:`StoreRefused` if neither is installed.
    """
    chosen = object_client()
    if chosen not in (None, "obstore", "fsspec"):
        raise InvalidInput(f"CAS_CLIENT may be obstore or fsspec, not {chosen!r}")
    if chosen != "fsspec" and find_spec("obstore") and not _needs_own_ca(bucket):
        from cas.backends.obstore import ObstoreBackend

        return ObstoreBackend(bucket)
    if chosen == "obstore":
        raise StoreRefused(
            "CAS_CLIENT=obstore, and it is not usable here: is it installed? It knows no AWS_CA_BUNDLE"
        )
    if find_spec("fsspec"):
        from cas.backends.fsspec import open_bucket as open_with_fsspec

        return open_with_fsspec(bucket)
    raise StoreRefused(f"nothing installed here reads {bucket}; install mlflow-cas[{bucket.provider}]")


def _needs_own_ca(bucket: Bucket) -> bool:
    """obstore trusts the system's certificates only; botocore, and with it s3fs, those of AWS_CA_BUNDLE."""
    return bucket.provider == "s3" and s3_settings().has_own_ca
