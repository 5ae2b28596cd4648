"""One cut: the workload runs, the disk begins to lose writes, and what is left is looked at."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.powercut import workload
from tests.powercut.disk import Disk
from tests.powercut.ledger import STORE, Call, Ledger
from tests.powercut.outcome import Outcome
from tests.powercut.survey import Survey

_LONGEST = 60


@dataclass
class Trial:
    """A store on ``disk``, cut again and again."""

    disk: Disk
    seed: int
    ledger: Ledger = field(default_factory=Ledger)

    def begin(self, number: int, control: str = "") -> None:
        """Start from an empty file system. What a control leaves out, the kernel must not do by chance."""
        self.disk.make(eager=not control and random.Random(f"{self.seed} {number} eager").random() < 0.5)
        self.ledger = Ledger()

    def cut(self, number: int, control: str = "") -> Outcome:
        """Run the workload, cut, and judge. After a problem the file system is not fit for another."""
        began, outcome = time.monotonic(), Outcome(number, control)
        chance = random.Random(f"{self.seed} {number} {control} moment")
        store = self.disk.directory / "store"
        self.disk.arm()
        name = f"{control}{number}"
        child = _Child(lambda pipe: workload.run(pipe, store, f"{self.seed}-{name}", control))
        if control:
            child.wait_for(chance.randrange(2, 12))
        elif chance.random() < 0.5:
            child.wait_for(chance.randrange(1, 30))
        else:
            child.wait_until(chance.uniform(0, 4))
        self.disk.cut()
        before, after = child.stop()
        outcome.kinds = self._record(before, after, outcome)
        self.disk.revive()
        self._judge(store, outcome)
        outcome.seconds = time.monotonic() - began
        return outcome

    def _record(self, before: bytes, after: bytes, outcome: Outcome) -> dict[str, int]:
        """Acknowledgements count if they were read before the cut. Calls that began after it are under way, too."""
        kinds: dict[str, int] = {}
        *certain, rest = before.split(b"\n")
        uncertain = (rest + after).split(b"\n")[:-1]  # the last one is torn, or empty
        for lines, counts in ((certain, True), (uncertain, False)):
            for line in lines:
                message: dict[str, Any] = json.loads(line)
                if "changes" in message:
                    self.ledger.begin(Call(message["worker"], message["kind"], message["changes"]))
                elif "error" in message:
                    if counts:
                        outcome.problems.append(f"a log call failed: {message['error']}")
                elif counts:
                    kind = self.ledger.acknowledge(message["acknowledged"]).kind
                    kinds[kind] = kinds.get(kind, 0) + 1
        return kinds

    def _judge(self, store: Path, outcome: Outcome) -> None:
        child = _Child(lambda pipe: _survey(pipe, store))
        said = json.loads(child.read_all())
        if "error" in said:
            outcome.problems.append(said["error"])
            return
        outcome.problems += said["problems"]
        outcome.empty_intents, outcome.read = said["empty_intents"], said["read"]
        self.ledger.judge(said["found"], outcome)
        if not self.ledger.has_store:
            self.ledger = Ledger()  # the survey made one
            self.ledger.begin(Call("store", "create", {**STORE}))
            self.ledger.acknowledge("store")


def _survey(pipe: int, store: Path) -> None:
    try:
        survey = Survey(store)
        said = {
            "found": survey.found,
            "problems": survey.problems,
            "empty_intents": survey.empty_intents,
            "read": survey.read,
        }
    except BaseException as error:
        traceback.print_exc()  # to the console
        said = {"error": f"the store cannot be looked through: {error!r}"}
    with os.fdopen(pipe, "w") as file:
        json.dump(said, file)


class _Child:
    """A forked process that talks to this one through a pipe. A fork, since nothing is to be imported again."""

    def __init__(self, run: Callable[[int], None]) -> None:
        self._pipe, writer = os.pipe()
        self._heard = b""
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._pipe)
                run(writer)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(writer)

    def wait_for(self, count: int) -> None:
        """Until so many log calls were acknowledged."""
        deadline = time.monotonic() + _LONGEST
        while self._heard.count(b'{"acknowledged"') < count and self._hear(deadline):
            pass

    def wait_until(self, seconds: float) -> None:
        """Until so long after the first word."""
        self._hear(time.monotonic() + _LONGEST)
        deadline = time.monotonic() + seconds
        while self._hear(deadline):
            pass

    def stop(self) -> tuple[bytes, bytes]:
        """Kill it; what was heard before, and what it said since."""
        before, self._heard = self._heard, b""
        os.kill(self.pid, signal.SIGKILL)
        return before, self.read_all()

    def read_all(self) -> bytes:
        while self._hear(time.monotonic() + 10 * _LONGEST):
            pass
        os.close(self._pipe)
        os.waitpid(self.pid, 0)
        return self._heard

    def _hear(self, deadline: float) -> bool:
        """Whether there was anything to hear until the deadline."""
        ready, _, _ = select.select([self._pipe], [], [], max(0.0, deadline - time.monotonic()))
        data = os.read(self._pipe, 1 << 20) if ready else b""
        self._heard += data
        return bool(data)
