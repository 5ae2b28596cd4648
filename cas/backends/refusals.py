"""What object stores answer when they do not do what they were asked, in words that say what to do.

Their own messages quote addresses with signatures, and access keys: only the error code of the answer is shown.
"""

from __future__ import annotations

import re

from cas.errors import CasError, KeyNotFound, StoreRefused, StoreUnavailable

_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound", "InvalidBucketName"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired", "InvalidToken"}
_SKEWED = {"RequestTimeTooSkewed"}
_WRONG_KEY = {"SignatureDoesNotMatch", "InvalidAccessKeyId", "AuthFailure", "NotSignedUp"}
_ABSENT = {"NoSuchKey", "NoSuchUpload", "BlobNotFound"}
_OUT_OF_RANGE = {"InvalidRange", "416"}


class PastEndError(Exception):
    """A range that starts at, or behind, the end of its object. Never leaves a backend."""


def code_in(text: str) -> str:
    """The error code of an S3, GCS or Azure answer quoted in a client's message, else its HTTP status, else ""."""
    match = _CODE.search(text) or _STATUS.search(text)
    return match[1] if match else ""


def no_credentials(where: str, error: BaseException) -> StoreRefused:
    """The error to raise where there is nobody to be: ``error``, whose text may quote secrets, is only named."""
    return StoreRefused(
        f"{where}: there are no credentials, or they could not be renewed ({type(error).__name__}). Sign in again"
        " (aws sso login, or what your credential_process asks for), or see AWS_PROFILE"
    )


def refusal(where: str, key: str, code: str, *, what: str = "") -> CasError | PastEndError:
    """The error to raise for an error code about ``key`` of the store ``where``. ``what`` names what failed if
    there is no code."""
    about = f"{where}, at {key!r}"
    if code in _OUT_OF_RANGE:
        return PastEndError()
    if code in _NO_BUCKET:
        return StoreRefused(f"{about}: there is no such bucket ({code}). Make it, or correct the address")
    if code in _ABSENT or code == "404":
        return KeyNotFound(key)
    if code in _EXPIRED:
        return StoreRefused(f"{about}: the credentials have expired ({code}). Sign in again")
    if code in _SKEWED:
        return StoreRefused(f"{about}: the clocks differ too much ({code}). Set this machine's clock")
    if code in _WRONG_KEY or code == "401":
        return StoreRefused(
            f"{about}: the credentials were not accepted ({code}). See AWS_ACCESS_KEY_ID, AWS_PROFILE, or what"
            " your provider uses instead"
        )
    if code in {"AccessDenied", "AllAccessDisabled", "403", "AuthorizationPermissionMismatch"}:
        return StoreRefused(
            f"{about}: permission denied ({code}). docs/object-stores.md lists the permissions a store needs"
        )
    return StoreUnavailable(f"{about}: {code or what or 'no answer'}. Try again later")
