"""What both clients of object stores do through botocore, where their bucket is one of S3."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from cas.backends.bucket import Bucket
from cas.backends.copying import copy
from cas.backends.interface import Backend, Unfinished
from cas.backends.s3 import S3


class S3Powers:
    """Implements ``SupportsCopy`` and ``SupportsPartUploads`` for a backend that says its ``bucket``."""

    bucket: Bucket | None

    @cached_property
    def s3(self) -> S3 | None:
        """None for other providers, without botocore, and without credentials."""
        return S3.of(self.bucket)

    def copy_from(self, source: Backend, source_key: str, key: str, size: int, *, etag: str | None = None) -> bool:
        theirs = s3_of(source)
        if self.s3 is None or theirs is None or not self.s3.shares_with(theirs):
            return False
        copy(theirs, source_key, self.s3, key, size=size, etag=etag)
        return True

    def unfinished(self) -> Iterator[Unfinished]:
        if self.s3 is None:
            return
        pages = self.s3.client.get_paginator("list_multipart_uploads").paginate(**self.s3.below)
        with self.s3.answers(""):
            for page in pages:
                for each in page.get("Uploads", ()):
                    key = self.s3.key(each["Key"])
                    yield Unfinished(key, each["UploadId"], each["Initiated"].timestamp())

    def abort(self, key: str, upload_id: str) -> None:
        if self.s3 is not None:
            self.s3.abort(key, upload_id)


def s3_of(backend: Backend) -> S3 | None:
    """The bucket of S3 that a backend is in, if it is in one."""
    return backend.s3 if isinstance(backend, S3Powers) else None
