"""Who may see which repository of the loopback Hub, and what the real one answers to those who may not."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple


class Refusal(NamedTuple):
    """A status, and the headers by which the client tells what it is about."""

    status: int
    headers: Mapping[str, str]


class Access:
    """All repositories are open until something else is said. ``tokens`` are those with an invitation."""

    def __init__(self) -> None:
        self._gated: dict[str, frozenset[str]] = {}
        self._hidden: dict[str, frozenset[str]] = {}
        self._renamed: dict[str, str] = {}

    def gate(self, repo_id: str, *tokens: str) -> None:
        """Everyone may see the repository and its listing; files only with a token of those."""
        self._gated[repo_id] = frozenset(tokens)

    def hide(self, repo_id: str, *tokens: str) -> None:
        """Without one of those tokens there is no such repository."""
        self._hidden[repo_id] = frozenset(tokens)

    def rename(self, old: str, new: str) -> None:
        self._renamed[old] = new

    def new_name(self, repo_id: str) -> str | None:
        """What a repository is called now, if it was renamed."""
        return self._renamed.get(repo_id)

    def is_gated(self, repo_id: str) -> bool:
        return repo_id in self._gated

    def refusal(self, repo_id: str, headers: Mapping[str, str], *, file: bool) -> Refusal | None:
        """What a request gets instead of an answer; None if it may have one. ``file``: it asks for content."""
        token = headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self._hidden.get(repo_id, {token}):
            status = HTTPStatus.NOT_FOUND if token else HTTPStatus.UNAUTHORIZED
            return Refusal(status, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        if file and token not in self._gated.get(repo_id, {token}):
            status = HTTPStatus.FORBIDDEN if token else HTTPStatus.UNAUTHORIZED
            message = f"Access to model {repo_id} is restricted"
            return Refusal(status, {"X-Error-Code": "GatedRepo", "X-Error-Message": message})
        return None
