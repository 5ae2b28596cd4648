"""A read-only fsspec file system over the manifests of stores.

`cas:///srv/models/7/<run id>/artifacts/model/config.json` names a file as MLflow's artifact URIs do; `cas-s3://`
and its likes are places in buckets. Only the ranges that are read are fetched.
"""

from __future__ import annotations

import errno
from typing import Any, BinaryIO

from fsspec.spec import AbstractFileSystem

from cas.errors import CasError, NotFound
from cas.manifest import Entry
from cas.place import Place
from cas.roots import find_store, parse_uri
from cas.store import Store


class CasFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec is untyped
    """Places of stores on this machine's disks. Paths are absolute: the store's, and what follows inside.

    Files carry their digest in :meth:`info`, and as their :meth:`ukey`. Raises FileNotFoundError where there is no
    store, and OSError (EROFS) for whatever would write.
    """

    protocol: str = "cas"
    root_marker = ""
    cachable = True

    def __init__(self, *args: Any, **options: Any) -> None:
        options["use_listings_cache"] = False  # a listing is a manifest's, which is cached where it is read
        super().__init__(*args, **options)
        self._stores: dict[object, Store] = {}

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        place = self._place(path)
        entry = place.entry("") if place.base else None
        if entry is not None:
            return _file(path, entry)
        if place.base and not place.list():
            raise FileNotFoundError(errno.ENOENT, "no such file or directory", path)
        return _directory(path)

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        path = self._strip_protocol(path)
        found = [self.info(path)]
        if found[0]["type"] == "directory":
            listed = self._place(path).list()
            names = [(f"{path}/{each.path}", each.entry) for each in listed]
            found = [_directory(name) if entry is None else _file(name, entry) for name, entry in names]
        return found if detail else [each["name"] for each in found]

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        size = self.info(path)["size"]
        first, stop, _step = slice(start, end).indices(size)
        with self.open(path, "rb") as file:
            file.seek(first)
            data: bytes = file.read(max(0, stop - first))
            return data

    def ukey(self, path: str) -> str:
        """The digest: the same bytes have the same key, wherever they are."""
        return str(self.info(path)["digest"])

    checksum = ukey

    def _open(self, path: str, mode: str = "rb", **_: Any) -> BinaryIO:
        if mode != "rb":
            raise _read_only(path)
        if self.info(path)["type"] != "file":
            raise IsADirectoryError(errno.EISDIR, "is a directory", path)
        return self._place(self._strip_protocol(path)).open("")

    def _place(self, path: str) -> Place:
        try:
            root, inside = find_store(parse_uri(f"{self.protocol}://{path}"))
            if root not in self._stores:
                self._stores[root] = Store.open(root)
        except NotFound as error:
            raise FileNotFoundError(errno.ENOENT, str(error), path) from error
        except CasError as error:
            raise OSError(errno.EINVAL, str(error), path) from error
        return Place(self._stores[root], inside)

    def _refuse(self, path: str, *_: Any, **__: Any) -> Any:
        raise _read_only(path)

    mkdir = makedirs = rmdir = rm = rm_file = _rm = cp_file = pipe_file = put_file = touch = mv = _refuse


class CasS3FileSystem(CasFileSystem):
    """Places of stores in S3 buckets."""

    protocol = "cas-s3"


class CasGsFileSystem(CasFileSystem):
    """Places of stores in buckets of Google Cloud Storage."""

    protocol = "cas-gs"


class CasAzFileSystem(CasFileSystem):
    """Places of stores in containers of Azure Blob Storage."""

    protocol = "cas-az"


def _file(path: str, entry: Entry) -> dict[str, Any]:
    return {"name": path, "size": entry.size, "type": "file", "digest": str(entry.digest)}


def _directory(path: str) -> dict[str, Any]:
    return {"name": path, "size": 0, "type": "directory"}


def _read_only(path: str) -> OSError:
    return OSError(errno.EROFS, "models are logged through MLflow; this file system only reads", path)
