"""The artifact repository MLflow finds under the scheme ``cas``, and under ``cas-s3`` and its likes.

MLflow imports this module at its own start, so nothing of :mod:`cas` is imported before an artifact is touched.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
from collections.abc import AsyncIterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mlflow.entities import FileInfo
from mlflow.entities.multipart_upload import (
    CreateMultipartUploadResponse,
    MultipartUploadCredential,
    MultipartUploadPart,
)
from mlflow.entities.presigned_download import PresignedDownloadUrlResponse
from mlflow.exceptions import _UnsupportedMultipartUploadException
from mlflow.store.artifact.artifact_repo import (
    ArtifactRepository,
    MultipartDownloadMixin,
    MultipartUploadMixin,
    StreamUploadMixin,
    _validate_attachment_path,
)
from mlflow.tracing.utils.artifact_utils import TRACE_DATA_FILE_NAME

from cas_mlflow.boundary import (
    checked_destination,
    loggable,
    mlflow_errors,
    no_such_artifact,
    safe_path,
    verify_directory,
)

if TYPE_CHECKING:
    from cas.place import Place
    from cas.uploads import Uploads

_CHUNK = 1 << 20


class CasArtifactRepository(ArtifactRepository, StreamUploadMixin):  # type: ignore[misc]  # MLflow is untyped
    """Artifact trees as manifests of a store.

    ``artifact_uri`` names a place in an initialised store: an artifact root in direct mode, the store (or any
    directory of it) as the destination of a server. Making one touches nothing.
    """

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)

    @cached_property
    def _place(self) -> Place:
        from cas_mlflow.stores import open_place

        return open_place(self.artifact_uri)

    # Logging

    def log_artifact(self, local_file: str | Path, artifact_path: str | None = None) -> None:
        with mlflow_errors():
            self._place.ingest_file(Path(local_file), _target(local_file, artifact_path))

    def log_artifacts(self, local_dir: str | Path, artifact_path: str | None = None) -> None:
        from cas.artifact_root import walk_files

        verify_directory(artifact_path)
        with mlflow_errors():
            below = (artifact_path or "").rstrip("/")
            files = walk_files(Path(local_dir))
            self._place.ingest_files({loggable(posixpath.join(below, name)): file for name, file in files})

    def log_artifact_from_stream(
        self, stream: BinaryIO, artifact_file_name: str, artifact_path: str | None = None
    ) -> None:
        with mlflow_errors():
            self._place.ingest_stream(_chunks(stream), _target(artifact_file_name, artifact_path))

    async def log_artifact_from_async_stream(
        self, chunks: AsyncIterable[bytes], artifact_file_name: str, artifact_path: str | None = None
    ) -> None:
        """As :meth:`log_artifact_from_stream`; the event loop only collects, threads write and hash."""
        with mlflow_errors():
            path = _target(artifact_file_name, artifact_path)
            place = await asyncio.to_thread(lambda: self._place)
            staging = await asyncio.to_thread(place.store.staging)
            buffer, staged = bytearray(), False
            try:
                async for chunk in chunks:
                    buffer += chunk
                    if len(buffer) >= _CHUNK:
                        staged = True
                        await asyncio.to_thread(staging.write, buffer)
                        buffer = bytearray()
                if staged:
                    await asyncio.to_thread(staging.write, buffer)
            except BaseException:
                await asyncio.to_thread(staging.abort)
                raise
            if staged:
                await asyncio.to_thread(lambda: place.ingest_staged(staging.finish(), path))
            else:
                await asyncio.to_thread(place.ingest_bytes, bytes(buffer), path)

    # Traces: what MLflow has in memory needs no temporary file on its way

    def upload_trace_data(self, trace_data: str) -> None:
        self._log_bytes(trace_data.encode(), TRACE_DATA_FILE_NAME)

    def upload_archived_trace_data_bytes(self, data: bytes) -> None:
        from mlflow.tracing.otel.otel_archival import TRACE_ARCHIVAL_FILENAME

        self._log_bytes(data, TRACE_ARCHIVAL_FILENAME)

    def upload_attachment(self, attachment_id: str, content_bytes: bytes) -> None:
        _validate_attachment_path(attachment_id)
        self._log_bytes(content_bytes, posixpath.join("attachments", attachment_id))

    # Reading

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        with mlflow_errors():
            return [
                FileInfo(listed.path, listed.entry is None, listed.entry.size if listed.entry else None)
                for listed in self._place.list(self._existing(path))
            ]

    def _is_directory(self, artifact_path: str | None) -> bool:
        with mlflow_errors():
            return self._place.is_directory(self._existing(artifact_path))

    def get_local_path(self, artifact_path: str) -> str | None:
        """A file with the artifact's own name, for a server to send; it must only be read.

        None for what has to be fetched first, from the Hub or a bucket: a server asks from its event loop, which
        must not wait, and then downloads in a thread.
        """
        from cas_mlflow.views import view_of

        with mlflow_errors():
            path = self._existing(artifact_path)
            entry = self._place.entry(path)
            if entry is None and self._place.is_directory(path):
                raise IsADirectoryError(path)
            if entry is not None and not self._place.is_near(path):
                return None
            return str(view_of(self._place, path))

    def download_artifacts(self, artifact_path: str | None, dst_path: str | None = None) -> str:
        """Write artifacts out and return where. Without ``dst_path`` the tree is disposable: its large files are
        links to the store, and it goes when this process ends."""
        from cas_mlflow.trees import destination_for

        with mlflow_errors():
            path = self._existing(artifact_path)
            chosen = checked_destination(dst_path) if dst_path else None
            destination, disposable = destination_for(self._place, chosen)
            self._place.checkout(path, destination, disposable=disposable)
            return str(destination / path)

    def _download_file(self, remote_file_path: str, local_path: str | Path) -> None:
        from cas_mlflow.trees import write_file

        with mlflow_errors():
            write_file(self._place, self._existing(remote_file_path), Path(local_path))

    # Removing

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Remove a file, or everything below a directory; what is not there needs no removing."""
        with mlflow_errors():
            # As it is written, never decoded: to delete what was not named is worse than to delete nothing.
            if artifact_path:
                safe_path(artifact_path)
            self._place.remove((artifact_path or "").rstrip("/"))

    def _log_bytes(self, data: bytes, path: str) -> None:
        with mlflow_errors():
            self._place.ingest_bytes(data, path)

    def _existing(self, path: str | None) -> str:
        """The path a request means: as it is written if a file or directory of that very name is there (it may
        hold a percent sign), else decoded, as MLflow's own repositories do."""
        if not path:
            return ""
        decoded, literal = safe_path(path), path.rstrip("/")
        if decoded != literal and (self._place.entry(literal) or self._place.is_directory(literal)):
            return literal
        return decoded


class CasBucketArtifactRepository(
    CasArtifactRepository,
    MultipartDownloadMixin,  # type: ignore[misc]
    MultipartUploadMixin,  # type: ignore[misc]
):
    """The same for stores in buckets, whose clients get and put large files past the server."""

    def get_download_presigned_url(self, artifact_path: str, expiration: int = 300) -> PresignedDownloadUrlResponse:
        """An address in the bucket, good for ``expiration`` seconds. Without a size, MLflow's client asks the
        server for the file itself: so it is for small files, which lie inside the manifest, and for references.
        """
        with mlflow_errors():
            path = self._existing(artifact_path)
            entry = self._place.entry(path)
            if entry is None:
                raise no_such_artifact(artifact_path)
            url = self._place.signed_url(path, expiration)
            return PresignedDownloadUrlResponse(url or "", {}, entry.size if url else None)

    def create_multipart_upload(
        self, local_file: str, num_parts: int = 1, artifact_path: str | None = None
    ) -> CreateMultipartUploadResponse:
        """Addresses in the bucket for the parts of a file."""
        with mlflow_errors():
            begun = self._uploads.begin(self._inside_store(local_file, artifact_path), num_parts)
            credentials = [
                MultipartUploadCredential(url, number, {}) for number, url in enumerate(begun.addresses, start=1)
            ]
            return CreateMultipartUploadResponse(begun.upload_id, credentials)

    def complete_multipart_upload(
        self,
        local_file: str,
        upload_id: str,
        parts: list[MultipartUploadPart],
        artifact_path: str | None = None,
    ) -> None:
        """Log the file, after its bytes were read and hashed where they are. To repeat it does no harm."""
        from cas.backends.parts import Part

        with mlflow_errors():
            said = [Part(part.part_number, part.etag or "") for part in parts]
            self._uploads.complete(self._inside_store(local_file, artifact_path), upload_id, said)

    def abort_multipart_upload(self, local_file: str, upload_id: str, artifact_path: str | None = None) -> None:
        with mlflow_errors():
            self._uploads.abort(self._inside_store(local_file, artifact_path), upload_id)

    @property
    def _uploads(self) -> Uploads:
        from cas.uploads import Uploads

        uploads = Uploads.of(self._place.store)
        if uploads is None:
            raise _UnsupportedMultipartUploadException  # the client then sends the file to the server
        return uploads

    def _inside_store(self, local_file: str, artifact_path: str | None) -> str:
        return posixpath.join(self._place.base, _target(local_file, artifact_path))


def _target(file_name: str | Path, artifact_path: str | None) -> str:
    """Where a file of this name goes."""
    verify_directory(artifact_path)
    name = os.path.basename(file_name)
    if not name:
        raise no_such_artifact(str(file_name))
    return loggable(posixpath.join(artifact_path or "", name))


def _chunks(stream: BinaryIO) -> Iterator[Any]:
    while chunk := stream.read(_CHUNK):
        yield chunk
