"""What is printed of the cuts, and whether they went well."""

from __future__ import annotations

from collections import Counter

from tests.powercut.outcome import CONTROLS, Outcome

_SHOWN = 6


class Report:
    """Prints outcomes as they come, and a table at the end."""

    def __init__(self, cuts: int, seed: int, file_system: str, *, controls: bool) -> None:
        self.finished = False
        self._wanted = cuts
        self._seed = seed
        self._file_system = file_system
        self._controls = controls
        self._cuts: list[Outcome] = []
        self._control: dict[str, list[Outcome]] = {each: [] for each in CONTROLS}

    def add(self, outcome: Outcome) -> None:
        (self._control[outcome.control] if outcome.control else self._cuts).append(outcome)
        title = f"control, {CONTROLS[outcome.control]}" if outcome.control else "cut"
        found = f"{len(outcome.problems)} PROBLEMS" if outcome.problems else "all there"
        print(
            f"{title} {outcome.number}: {outcome.acknowledged} log calls acknowledged ({outcome.files} files), "
            f"{found}; under way {outcome.whole} whole, {outcome.absent} absent; {outcome.seconds:.1f} s",
            flush=True,
        )
        for problem in outcome.problems[: 2 if outcome.control else _SHOWN]:
            print(f"    {problem}", flush=True)

    @property
    def missed(self) -> list[str]:
        """Controls that showed nothing."""
        if not self._controls:
            return []
        return [each for each, outcomes in self._control.items() if not any(one.problems for one in outcomes)]

    @property
    def is_good(self) -> bool:
        whole = self.finished and len(self._cuts) == self._wanted
        return whole and not any(each.problems for each in self._cuts) and not self.missed

    def conclude(self, seconds: float) -> None:
        cuts, kinds = self._cuts, Counter[str]()
        for each in cuts:
            kinds.update(each.kinds)
        bad = [each for each in cuts if each.problems]
        rows = {
            "cuts": len(cuts),
            "log calls acknowledged": sum(kinds.values()),
            "of these": ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()),
            "files looked for": sum(each.files for each in cuts),
            "under way, found whole": sum(each.whole for each in cuts),
            "under way, found absent": sum(each.absent for each in cuts),
            "bytes verified": f"{sum(each.read for each in cuts):,}",
            "lost, damaged or torn": sum(len(each.problems) for each in cuts),
            "cuts with any of these": len(bad),
            "intents left empty": sum(each.empty_intents for each in cuts),
            "file system": self._file_system,
            "seed": self._seed,
            "seconds": round(seconds),
        }
        print()
        for title, value in rows.items():
            print(f"{title:26}{value}")
        for control, outcomes in self._control.items():
            shown = next((number for number, each in enumerate(outcomes, 1) if each.problems), None)
            if self._controls:
                print(f"{f'control: {CONTROLS[control]}':40}{f'found at cut {shown}' if shown else 'NOT FOUND'}")
        print(f"\npowercut: {'good' if self.is_good else 'NOT GOOD'}", flush=True)
