"""Paths of manifests and artifact roots: POSIX, relative, and never anything else.

Every path that enters the store passes :func:`check_path`, and so does every path read back from a record,
because a record may have been written by somebody else. A path that passed cannot leave the directory it is
joined to, whatever the file system.
"""

from __future__ import annotations

from collections.abc import Iterator

from cas.errors import InvalidPath

MAX_COMPONENT = 255  # bytes: what Linux file systems allow for one name
MAX_PATH = 3072  # bytes: leaves room for a destination in front, within Linux's 4096
MAX_DEPTH = 128  # components: who walks, or removes, a tree holds a frame and a descriptor for each


def check_path(path: str) -> str:
    """Return ``path`` if it may name an entry; raise :class:`InvalidPath` with the reason if not."""
    if not isinstance(path, str):
        raise InvalidPath(path, "not a string")
    if not path:
        raise InvalidPath(path, "empty")
    if not path.isprintable() and any(ord(c) < 0x20 or ord(c) == 0x7F for c in path):
        raise InvalidPath(path, "control character")
    if "\\" in path:
        raise InvalidPath(path, "backslash; paths are separated by '/'")
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        raise InvalidPath(path, "not valid Unicode") from None
    if len(encoded) > MAX_PATH:
        raise InvalidPath(path, f"longer than {MAX_PATH} bytes")
    if path.count("/") >= MAX_DEPTH:
        raise InvalidPath(path, f"more than {MAX_DEPTH} components")
    for component in path.split("/"):
        if component in ("", ".", ".."):
            raise InvalidPath(path, f"component {component!r}")
        if len(component) > MAX_COMPONENT // 4 and len(component.encode()) > MAX_COMPONENT:
            raise InvalidPath(path, f"a component longer than {MAX_COMPONENT} bytes")
    return path


def join(*parts: str) -> str:
    """Join path parts, leaving out empty ones (the root)."""
    return "/".join(part for part in parts if part)


def ancestors(path: str) -> Iterator[str]:
    """The directories a path lies in, nearest first, without the root."""
    end = path.rfind("/")
    while end != -1:
        path = path[:end]
        yield path
        end = path.rfind("/")


def relative_to(path: str, directory: str) -> str | None:
    """``path`` as seen from ``directory`` ("" for the directory itself), or None if it lies elsewhere."""
    if not directory:
        return path
    if path == directory:
        return ""
    return path[len(directory) + 1 :] if path.startswith(directory + "/") else None
