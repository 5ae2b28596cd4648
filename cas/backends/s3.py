"""One bucket of S3, for what neither client of a store does: signed addresses, copies, unfinished uploads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any, Self

from cas.backends.aws import S3Settings, content_disposition, is_unrenewed, s3_settings
from cas.backends.bucket import Bucket
from cas.backends.refusals import no_credentials, refusal
from cas.config import fetch_patience
from cas.errors import KeyNotFound

_PATIENCE = 180.0
_LONGEST_WAIT = 20.0  # botocore's
_SILENCE = 120  # seconds in which a server has to copy 5 GB, if it says nothing meanwhile


class S3:
    """A bucket, and the prefix of a store in it, through botocore. Its client is made when it is first used.

    Safe to share among threads. Whatever fails for a passing reason is tried again, with backoff, for about
    ``CAS_PATIENCE`` seconds.
    """

    def __init__(self, bucket: Bucket, settings: S3Settings) -> None:
        self.name = str(bucket)
        self._bucket = bucket
        self._settings = settings

    @classmethod
    def of(cls, bucket: Bucket | None) -> Self | None:
        """None for other providers, without botocore, and without credentials."""
        if bucket is None or bucket.provider != "s3":
            return None
        settings = s3_settings()
        return None if settings.credentials is None else cls(bucket, settings)

    def __repr__(self) -> str:
        return f"<S3 {self.name}>"

    @cached_property
    def client(self) -> Any:
        """botocore's."""
        return self._client(attempts(patience()))

    @cached_property
    def hasty_client(self) -> Any:
        """The same, which tries nothing again."""
        return self._client(1)

    def at(self, key: str) -> dict[str, str]:
        """The arguments of a request that say which object it is about."""
        return {"Bucket": self._bucket.name, "Key": self._path(key)}

    @property
    def below(self) -> dict[str, str]:
        """The arguments of a listing of everything in the store."""
        return {"Bucket": self._bucket.name, "Prefix": self._path("")}

    def key(self, path: str) -> str:
        """The store's key for a path in the bucket."""
        return path[len(self._path("")) :]

    def shares_with(self, other: S3) -> bool:
        """Whether both are reached at one endpoint as one user, so that the server can copy between them."""
        mine, theirs = self._settings, other._settings
        return (mine.endpoint, mine.ignores_tls, self._user) == (theirs.endpoint, theirs.ignores_tls, other._user)

    def sign_get(self, key: str, seconds: int, *, file_name: str, media_type: str) -> str:
        """An address from which the object can be got for ``seconds``, as a file of this name and type."""
        said = {"ResponseContentDisposition": content_disposition(file_name), "ResponseContentType": media_type}
        return self._sign("get_object", seconds, key, said)

    def sign_part(self, key: str, upload_id: str, number: int, seconds: int) -> str:
        """An address to which part ``number`` of an unfinished upload can be put for ``seconds``."""
        return self._sign("upload_part", seconds, key, {"UploadId": upload_id, "PartNumber": number})

    def abort(self, key: str, upload_id: str) -> None:
        """Give an unfinished upload up, with its parts. One that is gone is no error."""
        with suppress(KeyNotFound), self.answers(key):
            self.client.abort_multipart_upload(**self.at(key), UploadId=upload_id)

    @contextmanager
    def answers(self, key: str, known: Mapping[str, Exception] | None = None) -> Iterator[None]:
        """Raise what botocore raises as errors of this package; for an error code in ``known``, that error.

        botocore's own texts quote addresses, so they are neither shown nor chained.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            raise (known or {}).get(code) or refusal(self.name, key, code) from None
        except (BotoCoreError, RuntimeError) as error:
            if is_unrenewed(error):
                raise no_credentials(self.name, error) from None
            if not isinstance(error, BotoCoreError):
                raise
            raise refusal(self.name, key, "", what=type(error).__name__) from None

    @cached_property
    def _user(self) -> tuple[str, str]:
        """What tells users apart. Keys that are renewed change, and differ from session to session; whom they are
        for does not."""
        from botocore.credentials import RefreshableCredentials

        credentials = self._settings.credentials
        if isinstance(credentials, RefreshableCredentials):
            return str(credentials.method), str(self._settings.session.get_config_variable("profile"))
        return "key", str(credentials.access_key)

    def _client(self, most: int) -> Any:
        from botocore.config import Config

        settings = self._settings
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if settings.endpoint else "auto"},
            # What S3's newer checksums need, many servers do not know.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "total_max_attempts": most},
            read_timeout=_SILENCE,
        )
        return settings.session.create_client(
            "s3",
            region_name=settings.region,
            endpoint_url=settings.endpoint,
            verify=False if settings.ignores_tls else None,
            config=config,
        )

    def _sign(self, operation: str, seconds: int, key: str, parameters: Mapping[str, Any]) -> str:
        named = {**self.at(key), **parameters}
        with self.answers(key):
            return str(self.client.generate_presigned_url(operation, Params=named, ExpiresIn=seconds))

    def _path(self, key: str) -> str:
        return f"{self._bucket.prefix}/{key}" if self._bucket.prefix else key


def patience() -> float:
    """For how many seconds a request that fails is tried again."""
    chosen = fetch_patience()
    return _PATIENCE if chosen is None else chosen


def attempts(seconds: float) -> int:
    """How often botocore, which knows no time, has to try to spend so many seconds waiting in between."""
    left, count, longest = seconds, 1, 1.0
    while left > 0 and count < 100:
        left -= longest / 2  # it waits a random part of it
        longest = min(longest * 2, _LONGEST_WAIT)
        count += 1
    return count
