"""Where keys become bytes: a local disk, memory, and object stores."""

from cas.backends.interface import (
    Backend,
    Listing,
    SupportsCopy,
    SupportsLocalFiles,
    SupportsPartUploads,
    SupportsRemote,
    SupportsSignedUrls,
    SupportsTimes,
    Unfinished,
)
from cas.backends.local import LocalBackend
from cas.backends.memory import MemoryBackend

__all__ = [
    "Backend",
    "Listing",
    "LocalBackend",
    "MemoryBackend",
    "SupportsCopy",
    "SupportsLocalFiles",
    "SupportsPartUploads",
    "SupportsRemote",
    "SupportsSignedUrls",
    "SupportsTimes",
    "Unfinished",
]
