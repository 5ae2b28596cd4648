"""Runs the questions and prints their tables."""

from __future__ import annotations

import argparse
import re
import signal
import sys
import time
import traceback
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from benchmarks.harness import Options
from benchmarks.places import Place, given_directory, loop_xfs, why_no_xfs
from benchmarks.report import Report

_ON_S3 = ("objects", "object_parts", "bucket_models")
QUESTIONS = ("log", "ingest", "checkout", "small_files", "startup", "persist", "checkpoint", "verify", *_ON_S3)
_ANYWHERE = {"startup", *_ON_S3}  # no question of the file system
_RESULTS = Path(__file__).parent / "results"
_XFS_SIZES = 14  # the image holds so many times --size: all that one question has there at once


def main() -> int:
    arguments = _arguments()
    options = Options(arguments.size, arguments.shards, arguments.rounds)
    report = Report(options)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else what is mounted would stay
    report.header()
    names = arguments.only or QUESTIONS
    failed = False
    try:
        with given_directory(arguments.directory) as place:
            for name in names:
                failed |= not _ask(name, options, place, report)
                xfs_size = _XFS_SIZES * options.size
                if name in _ANYWHERE or arguments.xfs is False:
                    continue
                if reason := why_no_xfs(place.directory, xfs_size):
                    report.line(f"{name} not run on XFS: {reason}")
                    failed |= arguments.xfs is True
                    continue
                with loop_xfs(place.directory, xfs_size) as xfs:
                    failed |= not _ask(name, options, xfs, report)
    finally:
        report.save(arguments.json)
        report.footer()
        report.line(f"every sample: {arguments.json}")
    return int(failed)


def _ask(name: str, options: Options, place: Place, report: Report) -> bool:
    start = time.monotonic()
    try:
        result = import_module(f"benchmarks.{name}").run(options, place)
    except Exception:  # the other questions are still worth asking
        report.line(f"{name} on {place.name} failed:\n{traceback.format_exc()}")
        return False
    report.result(result)
    report.line(f"took {time.monotonic() - start:.0f} s")
    return True


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--size", type=_size, default=2_000_000_000, help="bytes of a model, as 2GB or 64MB")
    parser.add_argument("--shards", type=int, default=8, help="files of a model")
    parser.add_argument("--rounds", type=int, default=3, help="times each contender has its turn")
    parser.add_argument("--directory", type=Path, default=_RESULTS / "work", help="where to work")
    parser.add_argument("--only", action="append", choices=QUESTIONS, metavar="NAME", help=", ".join(QUESTIONS))
    parser.add_argument("--xfs", action=argparse.BooleanOptionalAction, help="on an XFS, too (needs root)")
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    parser.add_argument("--json", type=Path, default=_RESULTS / f"{stamp}.json", help="where every sample goes")
    arguments = parser.parse_args()
    arguments.directory, arguments.json = arguments.directory.absolute(), arguments.json.absolute()
    return arguments


def _size(text: str) -> int:
    match = re.fullmatch(r"([\d.]+) *([KMGT]?)(i?)B?", text, re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f"not a size: {text}")
    power = " KMGT".index(match[2].upper() or " ")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


if __name__ == "__main__":
    sys.exit(main())
