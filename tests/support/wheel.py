"""Builds the wheel and looks at what is in it: `make check` runs this module."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def expected() -> set[str]:
    """Every module and data file of the import packages, as they are in the work tree."""
    packages = [ROOT / "cas", *sorted((ROOT / "adapters").glob("cas_*"))]
    kinds = ("*.py", "*.md", "py.typed")
    return {
        str(file.relative_to(package.parent))
        for package in packages
        for kind in kinds
        for file in package.rglob(kind)
    }


def contents() -> set[str]:
    """What a wheel built from here would install."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", directory, str(ROOT)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (wheel,) = Path(directory).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return {name for name in archive.namelist() if ".dist-info/" not in name}


def main() -> None:
    want, have = expected(), contents()
    if want != have:
        sys.exit(f"the wheel lacks {sorted(want - have)} and should not hold {sorted(have - want)}")
    print(f"wheel: {len(have)} files, as in the work tree")


if __name__ == "__main__":
    main()
