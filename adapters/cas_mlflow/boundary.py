"""Where our errors and paths become MLflow's: callers see what MLflow's own repositories raise."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    PERMISSION_DENIED,
    RESOURCE_CONFLICT,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
)
from mlflow.store.artifact.artifact_repo import verify_artifact_path
from mlflow.utils.uri import validate_path_is_safe


@contextmanager
def mlflow_errors() -> Iterator[None]:
    """Raise errors of the store as MlflowException. What the operating system refuses passes as it is.

    The code decides whether MLflow's HTTP client tries again, for minutes: only where that can help.
    """
    from cas.errors import (
        CasError,
        InvalidInput,
        NotFound,
        OriginGated,
        PathConflict,
        PointerRefused,
        SourceError,
        SourceUnavailable,
        StoreRefused,
        StoreUnavailable,
    )

    try:
        yield
    except IsADirectoryError as error:
        raise MlflowException(
            f"Artifact path refers to a directory, not a file: {str(error)!r}", INVALID_PARAMETER_VALUE
        ) from error
    except NotFound as error:
        raise MlflowException(f"No such artifact: {error}", RESOURCE_DOES_NOT_EXIST) from error
    except (InvalidInput, PathConflict) as error:
        raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from error
    except (PointerRefused, OriginGated, StoreRefused) as error:
        raise MlflowException(str(error), PERMISSION_DENIED) from error
    except (SourceUnavailable, StoreUnavailable) as error:
        raise MlflowException(str(error), TEMPORARILY_UNAVAILABLE) from error
    except SourceError as error:
        raise MlflowException(str(error), RESOURCE_CONFLICT) from error
    except CasError as error:
        raise MlflowException(str(error), INTERNAL_ERROR) from error


def safe_path(path: str) -> str:
    """A path from a request, decoded and checked; a trailing slash is the habit of some clients."""
    from cas.errors import InvalidPath
    from cas.paths import check_path

    try:
        decoded: str = validate_path_is_safe(path)
    except ValueError as error:  # it takes the path for a URL, and "//[" for one that is malformed
        raise InvalidPath(path, str(error)) from None
    return check_path(decoded.rstrip("/"))


def loggable(path: str) -> str:
    """A path to log at. One that MLflow would refuse to read, or read as another, hostile one, is refused now."""
    from cas.paths import check_path

    if "%" in path or "#" in path:
        safe_path(path)
    return check_path(path)


def verify_directory(artifact_path: str | None) -> None:
    """MLflow's own check of a directory to log into, as the client's mistake that it is."""
    try:
        verify_artifact_path(artifact_path)
    except MlflowException as error:
        raise MlflowException(error.message, INVALID_PARAMETER_VALUE) from error


def checked_destination(path: str) -> str:
    """An existing directory, as MLflow demands of a download's destination."""
    path = os.path.abspath(path)
    if not os.path.exists(path):
        raise MlflowException(
            f"The destination path for downloaded artifacts does not exist! Destination path: {path}",
            RESOURCE_DOES_NOT_EXIST,
        )
    if not os.path.isdir(path):
        raise MlflowException(
            f"The destination path for downloaded artifacts must be a directory! Destination path: {path}",
            INVALID_PARAMETER_VALUE,
        )
    return path


def no_such_artifact(path: str) -> MlflowException:
    return MlflowException(f"No such artifact: {path!r}", RESOURCE_DOES_NOT_EXIST)
