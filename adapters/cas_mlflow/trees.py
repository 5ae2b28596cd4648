"""Where downloads go, and when they go away."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

from cas.checkout import Checkout, link_modes
from cas.config import link_override
from cas.errors import PathNotFound
from cas.place import Place


def destination_for(place: Place, dst_path: str | None) -> tuple[Path, bool]:
    """The directory a download is written to, and whether it is disposable.

    A place the user named is not, unless it lies below the system's temporary directory.
    """
    if dst_path is None:
        if _for_the_command_line():
            return Path(tempfile.mkdtemp()), False
        return _own_tree(place), True
    destination = Path(dst_path)
    if _below_temporary(destination):
        if _chosen_by_mlflow():
            _remove_at_exit(destination)
        return destination, True
    return destination, False


def write_file(place: Place, path: str, local_path: Path, *, disposable: bool | None = None) -> None:
    """Write one artifact to a path of its own; by default disposable below the temporary directory."""
    if disposable is None:
        disposable = _below_temporary(local_path)
    entry = place.entry(path)
    if entry is None:
        raise PathNotFound(path, f"{place.store.name}/{place.base}")
    modes = link_modes(disposable=disposable, override=link_override())
    source = place.local_path(path)
    with Checkout(local_path.parent, modes) as checkout:
        if source is not None:
            checkout.link(local_path.name, source, entry.size)
        else:
            with place.open(path) as file:
                checkout.write(local_path.name, file, entry.size)
    if not local_path.is_symlink():
        place.store.cache.release([entry])


def _own_tree(place: Place) -> Path:
    """A tree on the store's file system, where links work; the system's temporary directory if this user may
    not write to the store."""
    try:
        return place.store.trees.tree()
    except PermissionError:
        tree = Path(tempfile.mkdtemp(prefix="mlflow-cas-"))
        _remove_at_exit(tree)
        return tree


def _below_temporary(path: Path) -> bool:
    temporary = os.path.realpath(tempfile.gettempdir())
    return os.path.realpath(path).startswith(temporary + os.sep)


def _chosen_by_mlflow() -> bool:
    """Whether MLflow made the destination because its caller named none.

    `runs:/` URIs are always downloaded into a directory that MLflow makes and never removes. It reaches us like
    one the user named, so the caller's own argument is looked up. If MLflow ever renames it, directories are
    left behind again, as without this plugin; none is ever removed by mistake.
    """
    frame = sys._getframe()
    while (frame := frame.f_back) is not None:  # type: ignore[assignment]
        match frame.f_globals.get("__name__"), frame.f_code.co_name:
            case "mlflow.tracking.artifact_utils", "_download_artifact_from_uri":
                named = frame.f_locals.get("output_path", "another argument now")
                return named is None and not _for_the_command_line()
            case "mlflow.utils.model_utils", "_get_flavor_configuration_from_uri":
                return True  # it reads the MLmodel, and names no destination
    return False


def _for_the_command_line() -> bool:
    """Whether `mlflow artifacts download` asked: it prints the path for somebody to use after it has ended."""
    frame = sys._getframe()
    while (frame := frame.f_back) is not None:  # type: ignore[assignment]
        if frame.f_globals.get("__name__") == "mlflow.store.artifact.cli":
            return True
    return False


_doomed: set[tuple[int, Path]] = set()


def _remove_at_exit(tree: Path) -> None:
    if (os.getpid(), tree) not in _doomed:
        _doomed.add((os.getpid(), tree))
        atexit.register(_remove, os.getpid(), tree)


def _remove(process: int, tree: Path) -> None:
    if os.getpid() == process:  # not in a forked child
        shutil.rmtree(tree, ignore_errors=True)
