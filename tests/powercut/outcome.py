"""What one cut showed; made in the machine, printed outside."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Self

CONTROLS = {
    "nothing": "nothing is synced",
    "files": "files are not synced",
    "directories": "directories are not synced",
    "batches": "syncfs does nothing",
}
"""Ways to break the order of writes on purpose. Each must be found out, or the cuts prove nothing."""


@dataclass(slots=True)
class Outcome:
    """One cut.

    ``acknowledged`` and ``files`` are the log calls, and the files, that had to be there; ``whole`` and ``absent``
    are calls that were under way, and what became of them. ``control`` names what was broken on purpose.
    """

    number: int
    control: str = ""
    acknowledged: int = 0
    files: int = 0
    whole: int = 0
    absent: int = 0
    empty_intents: int = 0
    read: int = 0
    seconds: float = 0.0
    kinds: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def encode(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, line: str) -> Self:
        return cls(**json.loads(line))
