"""Every error this package raises on purpose.

    CasError
    ├── InvalidInput (ValueError)      the caller's words are off; nothing was touched
    │   ├── InvalidDigest
    │   ├── InvalidPath
    │   └── InvalidURI
    ├── NotFound (LookupError)
    │   ├── StoreNotFound              no cas.json here or in any parent
    │   ├── PathNotFound               the manifest has no such path
    │   ├── BlobNotFound               the store holds no blob under the digest
    │   └── KeyNotFound                a backend holds nothing under the key
    ├── AlreadyExists
    │   ├── StoreExists
    │   ├── KeyExists                  a create-only put lost
    │   └── DestinationExists          a checkout would overwrite a file
    ├── PathConflict                   a file where a directory is, or the reverse
    ├── UnsupportedFormat              the store is newer than this program
    ├── Damaged
    │   ├── MalformedRecord            a fragment, intent or cas.json cannot be read
    │   └── BlobDamaged                the bytes are not those of their digest
    ├── PointerRefused                 a pointer file names bytes its writer did not have
    ├── FileChanged                    a file changed while it was read
    ├── IntentAborted                  a collector gave this writer up; nothing was committed
    ├── StoreError                     an object store did not do what it was asked; nothing became visible
    │   ├── StoreUnavailable           it did not answer, or not well, for long; trying again can help
    │   └── StoreRefused               no permission, no bucket, credentials that are wrong or have expired
    └── SourceError                    an origin could not be read; nothing was published
        ├── SourceUnavailable          the source did not answer, or not well, for long; trying again can help
        ├── OriginGone (NotFound)      the repository, revision or file is not there, or is hidden from this user
        ├── OriginGated                it is there, and needs a licence accepted or a token
        ├── OriginMoved                it goes by another name now
        └── OriginChanged              it answers, with other bytes than were promised

What the operating system refuses (disk full, permission denied) surfaces as the OSError it is.
"""

from __future__ import annotations


class CasError(Exception):
    """Base of all errors of this package."""


class InvalidInput(CasError, ValueError):
    """An argument that can never be right, whatever the store holds."""


class InvalidDigest(InvalidInput):
    """Not a digest of the form ``algorithm:hex``."""


class InvalidPath(InvalidInput):
    """A path that must not become one: absolute, climbing, empty, or with forbidden characters."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"invalid path {path!r}: {reason}")
        self.path = path
        self.reason = reason


class InvalidURI(InvalidInput):
    """A store URI that cannot be understood."""


class NotFound(CasError, LookupError):
    """Something asked for by name is not there."""


class StoreNotFound(NotFound):
    """No initialised store at a location, nor at any parent of it."""


class PathNotFound(NotFound):
    """A manifest has no entry, and no directory, of this path."""

    def __init__(self, path: str, where: str) -> None:
        super().__init__(f"no such path: {path!r} in {where}")
        self.path = path


class BlobNotFound(NotFound):
    """No blob under this digest."""


class KeyNotFound(NotFound):
    """A backend holds nothing under this key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"no such key: {key!r}")
        self.key = key


class AlreadyExists(CasError):
    """Something is where a new thing was to be made."""


class StoreExists(AlreadyExists):
    """The location already holds a store."""


class KeyExists(AlreadyExists):
    """A create-only put found the key taken."""

    def __init__(self, key: str) -> None:
        super().__init__(f"key exists: {key!r}")
        self.key = key


class DestinationExists(AlreadyExists):
    """A checkout found two entries, or an entry and something foreign, at one path."""


class PathConflict(CasError):
    """A path would be a file and a directory at once."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"path conflict at {path!r}: {reason}")
        self.path = path


class UnsupportedFormat(CasError):
    """The store was written by a newer version of this package."""


class Damaged(CasError):
    """What is stored is not what was written."""


class MalformedRecord(Damaged):
    """A record of the store that cannot be read, with its key and what is wrong."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"malformed record {key!r}: {reason}")
        self.key = key
        self.reason = reason


class BlobDamaged(Damaged):
    """Bytes that do not match the digest they are stored under; they are never served."""


class PointerRefused(CasError):
    """A pointer file that is malformed, or names bytes its writer cannot show to have had. Nothing was logged."""


class FileChanged(CasError):
    """A file changed while it was being ingested; nothing was published. Trying again can help."""


class IntentAborted(CasError):
    """A collector took this writer for dead and fenced it off; nothing was committed. Log again."""


class StoreError(CasError):
    """An object store did not do what it was asked. Nothing became visible by it."""


class StoreUnavailable(StoreError):
    """The object store does not answer, or not well, and was asked for long. Trying again later can help."""


class StoreRefused(StoreError):
    """The object store will not do it for these credentials, or has no such bucket. Asking again will not help."""


class SourceError(CasError):
    """Something is wrong with an origin, or on the way to it. Nothing was published."""


class SourceUnavailable(SourceError):
    """The source does not answer, or not well. Trying again later can help.

    ``retry_after`` is how many seconds the source asked to be left alone, if it did. Raised by a
    :class:`cas.sources.Remote` for each failure that is worth another try; those who stream try again while there
    is progress, and raise the last one when there is none.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class OriginGone(SourceError, NotFound):
    """No such repository, revision or file at the source; or one this user must not know of."""


class OriginGated(SourceError):
    """It exists, and this user may not read it yet."""


class OriginMoved(SourceError):
    """It goes by another name now, which the message gives."""


class OriginChanged(SourceError):
    """The source offers other bytes than the origin promised: another size, another digest, a changed listing."""
