"""Which hosts are private: a redirect must not lead from the internet into the network this runs in."""

from __future__ import annotations

import ipaddress
import socket
from functools import lru_cache


@lru_cache(maxsize=256)
def is_private(host: str) -> bool:
    """Whether any address of ``host`` is not a public one. A host that cannot be resolved is judged when it is
    connected to, and fails there."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return any(not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_global for *_, address in found)
