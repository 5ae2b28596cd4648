"""Where keys become bytes: a local disk, memory, and object stores."""

from cas.backends.interface import Backend, Listing, SupportsLocalFiles, SupportsRemote, SupportsSignedUrls
from cas.backends.local import LocalBackend
from cas.backends.memory import MemoryBackend

__all__ = [
    "Backend",
    "Listing",
    "LocalBackend",
    "MemoryBackend",
    "SupportsLocalFiles",
    "SupportsRemote",
    "SupportsSignedUrls",
]
