"""Objects that others put together: each part goes to an address of its own, and the whole appears when it is
completed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tenacity

from cas.backends.s3 import S3, patience
from cas.errors import InvalidInput, KeyNotFound, StoreUnavailable

MOST = 10_000
"""Parts that one upload may have."""


class Part(NamedTuple):
    """A part that was put. ``etag`` is what the server said of it, without quotes."""

    number: int
    etag: str


class Seen(NamedTuple):
    """An object as it was when it was looked at. ``size`` is in bytes; another ``etag`` means other bytes."""

    size: int
    etag: str


class S3PartUploads:
    """Uploads by parts to keys of one store in S3."""

    def __init__(self, s3: S3) -> None:
        self._s3 = s3

    def begin(self, key: str) -> str:
        """Returns S3's own id of the upload, which belongs to ``key``."""
        with self._s3.answers(key):
            return str(self._s3.client.create_multipart_upload(**self._s3.at(key))["UploadId"])

    def address(self, key: str, upload_id: str, number: int, *, seconds: int) -> str:
        """Where anybody can put part ``number`` for so long. It is a secret."""
        return self._s3.sign_part(key, upload_id, number, seconds)

    def parts(self, key: str, upload_id: str) -> list[Part]:
        """What was put so far. Raises :class:`KeyNotFound` if there is no such upload (any more) of this key."""
        request = {**self._s3.at(key), "UploadId": upload_id}
        with self._s3.answers(key):
            pages = self._s3.client.get_paginator("list_parts").paginate(**request)
            found = [each for page in pages for each in page.get("Parts", ())]
        return [Part(each["PartNumber"], each["ETag"].strip('"')) for each in found]

    def complete(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        """Make one object of ``parts``, which are all there. Completed already is no error as long as the object
        is there.

        Raises :class:`KeyNotFound` if the upload is gone, and :class:`InvalidInput` if a part is too small.
        """
        # Ceph answers "internal error" to the completion of what is gone: to ask again in vain takes minutes.
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(StoreUnavailable),
            stop=tenacity.stop_after_delay(patience()),
            wait=tenacity.wait_random_exponential(0.5, max=15),
            reraise=True,
        ):
            with attempt:
                self._complete(key, upload_id, parts)

    def look(self, key: str) -> Seen:
        """The object under ``key``. Raises :class:`KeyNotFound`."""
        with self._s3.answers(key):
            found = self._s3.client.head_object(**self._s3.at(key))
        return Seen(found["ContentLength"], found["ETag"])

    def abort(self, key: str, upload_id: str) -> None:
        """Forget the parts. An upload that is gone is no error."""
        self._s3.abort(key, upload_id)

    def _complete(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        named = [{"PartNumber": part.number, "ETag": f'"{part.etag}"'} for part in parts]
        small = InvalidInput("a part is too small: only the last one may have fewer bytes than 5 MiB")
        try:
            with self._s3.answers(key, {"EntityTooSmall": small}):
                self._s3.hasty_client.complete_multipart_upload(
                    **self._s3.at(key), UploadId=upload_id, MultipartUpload={"Parts": named}
                )
        except (StoreUnavailable, KeyNotFound):
            try:
                self.look(key)  # the answer was lost, or somebody else was quicker
            except KeyNotFound:
                self.parts(key, upload_id)  # raises if it is gone for good
                raise StoreUnavailable(
                    f"{self._s3.name}: the upload of {key!r} was not completed. Try again"
                ) from None
