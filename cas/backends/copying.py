"""Copies that a server of S3 makes by itself: the bytes never come here."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from cas.backends.s3 import S3
from cas.errors import FileChanged, StoreError

WHOLE = 5 << 30
"""Bytes that S3 copies with one request, at most. Beyond, it goes by parts."""
PART = 256 << 20
_PARTS = 9_000  # S3 takes 10,000 at most
_AT_ONCE = 8


def copy(source: S3, source_key: str, target: S3, key: str, *, size: int, etag: str | None = None) -> None:
    """Copy the ``size`` bytes under ``source_key`` to ``key``; with ``etag``, only those that were seen with it.

    Raises :class:`KeyNotFound`, and :class:`FileChanged` if the source was replaced, or is of another size:
    then nothing is under ``key``.
    """
    copying = _Copy(source, source_key, target, key, size)
    etag = copying.check(etag)
    if size <= WHOLE:
        copying.whole(etag)
    else:
        copying.by_parts(etag)
    # Some servers (Ceph) take no notice of the condition that each request carried.
    try:
        copying.check(etag)
    except BaseException:
        with suppress(StoreError), target.answers(key):
            target.client.delete_object(**target.at(key))
        raise


class _Copy:
    def __init__(self, source: S3, source_key: str, target: S3, key: str, size: int) -> None:
        self._source, self._source_key, self._target, self._key, self._size = source, source_key, target, key, size
        self._changed = FileChanged(f"{source.name}/{source_key} was replaced while it was being copied")
        self._known = {"PreconditionFailed": self._changed, "412": self._changed}

    def check(self, etag: str | None) -> str:
        """The source's ETag, which has to be ``etag`` if there is one."""
        with self._source.answers(self._source_key):
            found = self._source.client.head_object(**self._source.at(self._source_key))
        if found["ContentLength"] != self._size or etag not in (None, found["ETag"]):
            raise self._changed
        return str(found["ETag"])

    def whole(self, etag: str) -> None:
        with self._target.answers(self._key, self._known):
            self._target.client.copy_object(**self._request(etag), MetadataDirective="REPLACE")

    def by_parts(self, etag: str) -> None:
        client, at = self._target.client, self._target.at(self._key)
        with self._target.answers(self._key):
            upload = {**at, "UploadId": client.create_multipart_upload(**at)["UploadId"]}
        try:
            parts = self._parts(upload, etag)
            with self._target.answers(self._key):
                client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except BaseException:
            with suppress(StoreError):
                self._target.abort(self._key, upload["UploadId"])
            raise

    def _parts(self, upload: dict[str, str], etag: str) -> list[dict[str, Any]]:
        """When it returns, or raises, no copy is on its way: a part that came after the abort would stay."""
        size = max(PART, -(-self._size // _PARTS))

        def copy_part(number: int) -> dict[str, Any]:
            start = (number - 1) * size
            span = f"bytes={start}-{min(start + size, self._size) - 1}"
            with self._target.answers(self._key, self._known):
                answer = self._target.client.upload_part_copy(
                    **upload, **self._request(etag, at={}), PartNumber=number, CopySourceRange=span
                )
            return {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}

        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="cas-copy") as pool:
            try:
                return list(pool.map(copy_part, range(1, -(-self._size // size) + 1)))
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _request(self, etag: str, at: dict[str, str] | None = None) -> dict[str, Any]:
        source = self._source.at(self._source_key)
        where = self._target.at(self._key) if at is None else at
        return {**where, "CopySource": source, "CopySourceIfMatch": etag}
