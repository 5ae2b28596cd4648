"""Origins on the Hub: `hf://models/org/name@<40-hex commit>/path/in/repository`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from cas.errors import CasError, InvalidInput
from cas.paths import check_path

# What the Hub allows in a name: no slash, no "..", no "--" (it stands for "/" in the client's cache directory).
_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"{_NAME}(?:/{_NAME})?\Z")
_ORIGIN = re.compile(
    rf"hf://models/(?P<repo>{_NAME}(?:/{_NAME})?)@(?P<commit>[0-9a-f]{{40}})/(?P<path>.+)\Z", re.DOTALL
)
_LONGEST = 96


@dataclass(frozen=True, slots=True)
class HubOrigin:
    """One file of one commit of a model repository. Paths stand as they are, without escapes: they end the text."""

    repo: str
    commit: str
    path: str

    def __str__(self) -> str:
        return f"hf://models/{self.repo}@{self.commit}/{self.path}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InvalidInput for anything but the one form that is written."""
        match = _ORIGIN.match(text)
        if match is None:
            raise InvalidInput(
                f"{text!r} is no origin on the Hub, such as hf://models/org/name@<40-hex commit>/file"
            )
        return cls(check_repo(match["repo"]), match["commit"], _checked_path(text, match["path"]))


def check_repo(name: str) -> str:
    """Return the id of a repository if it may be one; raise InvalidInput if not."""
    if not _REPOSITORY.match(name) or ".." in name or "--" in name or len(name) > _LONGEST:
        raise InvalidInput(f"{name!r} is no repository of the Hub; one is called org/name, or name")
    return name


def _checked_path(origin: str, path: str) -> str:
    try:
        return check_path(path)
    except CasError as error:
        raise InvalidInput(f"{origin!r} is no origin: {error}") from error
