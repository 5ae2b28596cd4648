"""Connections of this process, kept open for the next request, through a proxy where the environment names one."""

from __future__ import annotations

import os
from functools import lru_cache
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

_CONNECTIONS = 32  # kept open for reuse, to one host


def manager_for(url: str) -> urllib3.PoolManager:
    """What makes requests to ``url``."""
    return _manager(os.getpid(), _proxy_for(url))


def let_go(response: urllib3.BaseHTTPResponse) -> None:
    """Give the connection back if it can be used again."""
    if response.length_remaining == 0:
        response.drain_conn()  # reads nothing, and so finds the end: before, it could not be used again
        response.release_conn()
    else:
        response.close()


@lru_cache(maxsize=8)
def _manager(_process: int, proxy: str | None) -> urllib3.PoolManager:
    """Connections of this process: a forked child must not share sockets with its parent."""
    if proxy is None:
        return urllib3.PoolManager(maxsize=_CONNECTIONS)
    return urllib3.ProxyManager(proxy, maxsize=_CONNECTIONS)


def _proxy_for(url: str) -> str | None:
    parts, proxies = urlsplit(url), getproxies()
    if proxy_bypass(parts.hostname or ""):
        return None
    return proxies.get(parts.scheme) or proxies.get("all")
