"""Tables for people, JSON with every sample for later."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import dvc
from benchmarks.harness import Options, Result, Sample
from benchmarks.stats import Spread, durable, paired_ratio, spread, wall

_PACKAGES = ("mlflow-cas", "mlflow", "blake3", "xxhash")
_TIMES = ("time", "incl. sync", "GB/s", "÷ cas", "synced ÷", "CPU s")
_COLUMNS = ("", *_TIMES, "to disk", "grown", "stored", "peak memory")
_WATCHED = "in TMPDIR"
_SIZES = ("disk_written", "grown", "stored")
_NOTES = """\
Times: median (least - most), each of a process of its own; imports and set-up are not in them. Ratios are medians
over the rounds: `÷ cas` of the times, `synced ÷` of the times until all is durable, by a final sync where the
contender itself syncs nothing. GB/s are bytes logged or loaded, moved or not. Sources are in the page cache.
`to disk` is write_bytes of /proc/self/io: pages made dirty, without the file system's own records. `grown` is what
st_blocks (on the private XFS: used blocks) say the operation took; `stored` what the store holds after it, each
inode once, shared extents as often as they are shared. Peak memory is VmHWM, in brackets before the operation:
Python with what the contender imports. For cp it is that of the Python that starts it, more than its own.
`in TMPDIR` is the most that st_blocks said was there at once, looked at fifty times a second.
Writing to fresh memory costs several times more on some virtual machines until the host has given them all of
theirs: compare contenders of one run, and distrust one with a wide spread."""


class Report:
    def __init__(self, options: Options) -> None:
        # A log file is not 80 columns wide.
        self._console = Console(width=None if sys.stdout.isatty() else 170, highlight=False, soft_wrap=False)
        self._results: list[dict[str, Any]] = []
        self._document = {"environment": environment(), "options": asdict(options), "results": self._results}

    def header(self) -> None:
        self._console.print("  ".join(f"{key}: {value}" for key, value in environment().items()), markup=False)

    def line(self, text: str) -> None:
        self._console.print(text, markup=False)

    def result(self, result: Result) -> None:
        self._results.append(asdict(result))
        self._console.print(f"\n[bold]{result.question}[/]\non {result.place}")
        watched = any(each.temporary is not None for each in result.samples)
        table = Table(*_COLUMNS, *((_WATCHED,) if watched else ()), box=None, pad_edge=False)
        for column in table.columns[1:]:
            column.justify, column.no_wrap = "right", True
        for step in dict.fromkeys(each.step for each in result.samples):
            table.add_row(f"[bold]{step}")
            taken = [each for each in result.samples if each.step == step]
            for contender in dict.fromkeys(each.contender for each in sorted(taken, key=_order(result))):
                table.add_row(*_row(result, taken, contender))
        self._console.print(table)
        for aim in result.aims:
            sign, relation = ("[green]met[/]" if aim.met else "[red]missed[/]"), ("≥" if aim.at_least else "≤")
            self._console.print(f"aim {sign}: {aim.text}: {aim.value:.3g} ({relation} {aim.limit:g})")
        for note in result.notes:
            self.line(note)

    def footer(self) -> None:
        self.line("\n" + _NOTES)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self._document, indent=1) + "\n")


def environment() -> dict[str, str]:
    """The machine and the versions of everything that takes part."""
    found = {
        "when": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
        "machine": f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {_memory() / 2**30:.0f} GiB",
        "load": f"{os.getloadavg()[0]:.2f}",
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    found["dvc"] = dvc.version()
    if shutil.which("cp"):
        said = subprocess.run(["cp", "--version"], capture_output=True, text=True, check=False).stdout
        found["cp"] = said.partition("\n")[0]
    return found


def _order(result: Result) -> Callable[[Sample], tuple[bool, int]]:
    """The reference first, then as they came in the first round."""
    return lambda each: (each.contender != result.reference, each.round)


def _row(result: Result, taken: Sequence[Sample], contender: str) -> list[str]:
    own = [each for each in taken if each.contender == contender]
    others = any(each.contender == result.reference for each in taken)
    peer = others and contender != result.reference
    sizes = {each.logical for each in own}
    time, synced = spread(map(wall, own)), spread(map(durable, own))
    size = sizes.pop() if len(sizes) == 1 else None
    step, memory = own[0].step, spread(each.memory for each in own).median
    return [
        f"  {contender}",
        _times(time, len(own)),
        _times(synced, len(own)) if own[0].synced is not None else "",
        f"{size / time.median / 1e9:.2f}" if size else "",
        f"{paired_ratio(taken, step, contender, result.reference):.2f}" if peer else "",
        f"{paired_ratio(taken, step, contender, result.reference, durable):.2f}" if peer else "",
        f"{spread(each.cpu for each in own).median:.2f}",
        *(_bytes(spread(getattr(each, name) for each in own).median) for name in _SIZES),
        f"{_bytes(memory)} ({_bytes(spread(each.memory_before for each in own).median)})",
        *(
            (_bytes(spread(watched).median),)
            if (watched := [e.temporary for e in own if e.temporary is not None])
            else ()
        ),
    ]


def _times(times: Spread, count: int) -> str:
    if count == 1:
        return _seconds(times.median)
    return f"{_seconds(times.median)} ({_seconds(times.low)} - {_seconds(times.high)})"


def _seconds(value: float) -> str:
    if value >= 0.1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.2f} ms" if value >= 1e-3 else f"{value * 1e6:.1f} µs"


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB"):
        if abs(value) < 1000:
            return f"{value:.3g} {unit}" if unit != "B" else f"{value:.0f} B"
        value /= 1000
    return f"{value:.2f} GB"


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = (line.partition(": ")[2].strip() for line in file if line.startswith("model name"))
        return next(names, platform.machine())


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
