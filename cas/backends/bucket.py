"""Addresses of object stores: which provider, which bucket, which prefix in it."""

from __future__ import annotations

from typing import NamedTuple

PROVIDERS = ("s3", "gs", "az")


class Bucket(NamedTuple):
    """A place in an object store. ``prefix`` has no slash at either end; "" is the bucket itself.

    There is no room for an endpoint or a credential: both come from this machine's settings, never from a URI
    that somebody sent.
    """

    provider: str
    name: str
    prefix: str = ""

    @property
    def parents(self) -> list[Bucket]:
        """The places above, the nearest first, the bucket itself last."""
        parts = self.prefix.split("/") if self.prefix else []
        return [self._replace(prefix="/".join(parts[:count])) for count in reversed(range(len(parts)))]

    def inside(self, root: Bucket) -> str:
        """The path of this place relative to ``root``, which is one of its parents, or itself."""
        return self.prefix[len(root.prefix) :].lstrip("/")

    def __str__(self) -> str:
        return "/".join(filter(None, (f"cas-{self.provider}://{self.name}", self.prefix)))
