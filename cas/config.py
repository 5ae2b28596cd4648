"""What the environment says. Read when asked, so that a test or a notebook can change it."""

from __future__ import annotations

import os
import re
from pathlib import Path


def link_override() -> str | None:
    """``CAS_LINK``: the mode, or modes separated by commas, a checkout shall try instead of its own choice."""
    return os.environ.get("CAS_LINK") or None


def stat_cache_path() -> Path | None:
    """``CAS_STAT_CACHE``: where digests of unchanged files are remembered; ``off`` for nowhere.

    By default below the user's cache directory (XDG).
    """
    chosen = os.environ.get("CAS_STAT_CACHE")
    if chosen == "off":
        return None
    if chosen:
        return Path(chosen)
    return _user_cache() / "stat.sqlite3"


def verified_path() -> Path:
    """Where verifications record what they have read, so that they can be gone on with."""
    return _user_cache() / "verify"


def cache_path() -> Path:
    """``CAS_CACHE``: where bytes are kept that were fetched to be read, by default below the user's cache
    directory (XDG)."""
    chosen = os.environ.get("CAS_CACHE")
    return Path(chosen).absolute() if chosen else _user_cache() / "blobs"


def cache_limit() -> int | None:
    """``CAS_CACHE_SIZE``: how many bytes the cache may hold, such as 200GB; None to leave a tenth of its disk free.

    Raises ValueError if it is no size.
    """
    chosen = os.environ.get("CAS_CACHE_SIZE")
    return parse_size(chosen) if chosen else None


def cache_logged() -> str:
    """``CAS_CACHE_LOGGED``: how files that are logged to an object store get into the cache, ``reflink`` or
    ``copy``; ``off``, the default, for not at all."""
    return os.environ.get("CAS_CACHE_LOGGED") or "off"


def parse_size(text: str) -> int:
    """Bytes as people write them: 500MB, 1.5TB, 64GiB. Raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) *([KMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise ValueError(f"{text!r} is no size; one looks like 200GB")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** " KMGT".index(match[2].upper() or " "))


def fetch_patience() -> float | None:
    """``CAS_PATIENCE``: for how many seconds without any progress a source is asked again; None for the default.

    Raises ValueError if it is no number.
    """
    chosen = os.environ.get("CAS_PATIENCE")
    return float(chosen) if chosen else None


def object_client() -> str | None:
    """``CAS_CLIENT``: what talks to object stores, ``obstore`` or ``fsspec``; None for the faster that is
    installed."""
    return os.environ.get("CAS_CLIENT") or None


def s3_endpoint() -> str | None:
    """Where S3 is, if not at Amazon: MLflow's own variable, then those of AWS's tools."""
    names = ("MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    return next((value for name in names if (value := os.environ.get(name))), None)


def s3_ignores_tls() -> bool:
    """``MLFLOW_S3_IGNORE_TLS``, as MLflow reads it: certificates are not checked."""
    return os.environ.get("MLFLOW_S3_IGNORE_TLS", "").lower() in ("true", "1")


def allowed_stores() -> list[str]:
    """``CAS_STORES``: further stores a server may open, separated by commas."""
    return [word.strip() for word in os.environ.get("CAS_STORES", "").split(",") if word.strip()]


def _user_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "mlflow-cas"
