"""The machine's kernel, and the memory disk it boots from: this Python, `cas`, and nothing else.

The kernel is Debian's, fetched once by apt; nothing of it is installed. There is no other program in the machine
than Python, which is its first process, and the makers of file systems.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tests.powercut.disk import MAKERS
from tests.support.origin import METADATA

INSTALL = "apt-get install qemu-system-x86 e2fsprogs xfsprogs btrfs-progs"
_KERNEL = "linux-image-cloud-amd64"
_MODULES = ("virtio_pci", "virtio_blk", "dm-mod", "dm-flakey", "xfs", "btrfs")
_PACKAGES = ("blake3", "xxhash", "tenacity", "urllib3")
_PROJECT = Path(__file__).parents[2]
_LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "site-packages"}
_INIT = """#!{python} -B
import sys
sys.path[:0] = ["/project", "/packages"]
from tests.powercut.guest import main
main(sys.argv[1:])
"""


class Image(NamedTuple):
    """What QEMU boots."""

    kernel: Path
    initrd: Path


def make_image(directory: Path) -> Image:
    """Fetch the kernel unless it is there, and pack what is here now."""
    kernel = _fetch_kernel(directory / "kernel")
    initrd = directory / "initrd"
    with initrd.open("wb") as file:
        archive = Archive(file)
        for path, data in _texts().items():
            archive.add(path, data, executable=True)
        files = dict(_files(kernel))
        for path, source in {**files, **_libraries(files.values())}.items():
            archive.add(path, source.read_bytes(), executable=True, modified=int(source.stat().st_mtime))
        archive.finish()
    return Image(kernel / "vmlinuz", initrd)


def _fetch_kernel(directory: Path) -> Path:
    """A directory with `vmlinuz` and the modules that are needed, named in the order they are loaded in."""
    if directory.exists():
        return directory
    said = subprocess.run(["apt-cache", "depends", _KERNEL], check=True, capture_output=True, text=True).stdout
    match = re.search(r"Depends: (linux-image-\S+)", said)
    if match is None:
        sys.exit(f"powercut: apt knows no {_KERNEL}; run `apt-get update`, on Debian for x86-64")
    unpacked = directory.with_name("unpacked")
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir(parents=True)
    as_is = ("-o", "APT::Sandbox::User=root")  # another user may not write here
    subprocess.run(["apt-get", "download", "-qq", *as_is, match[1]], check=True, cwd=unpacked)
    (package,) = unpacked.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", package, unpacked], check=True)
    (modules := unpacked / "done" / "modules").mkdir(parents=True)
    for number, module in enumerate(_in_order({each.stem: each for each in unpacked.rglob("*.ko")})):
        shutil.copyfile(module, modules / f"{number:02}-{module.name}")
    (kernel,) = unpacked.glob("boot/vmlinuz-*")
    shutil.copyfile(kernel, unpacked / "done" / "vmlinuz")
    (unpacked / "done").rename(directory)
    shutil.rmtree(unpacked)
    return directory


def _in_order(modules: dict[str, Path]) -> Iterable[Path]:
    """What is needed, each after what it needs itself. What is not there is built into the kernel."""
    ordered: dict[str, Path] = {}

    def visit(name: str) -> None:
        path = modules.get(name) or modules.get(name.replace("_", "-"))
        if path is None or path.stem in ordered:
            return
        needs = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
        for each in needs[1].decode().split(",") if needs else ():
            visit(each)
        ordered[path.stem] = path

    for name in _MODULES:
        visit(name)
    return ordered.values()


def _texts() -> dict[str, bytes]:
    return {
        "init": _INIT.format(python=os.path.realpath(sys.executable)).encode(),
        **{f"packages/{path}": text.encode() for path, text in METADATA.items()},
        "etc/mke2fs.conf": Path("/etc/mke2fs.conf").read_bytes(),
    }


def _files(kernel: Path) -> Iterator[tuple[str, Path]]:
    """By path in the machine, files of this one."""
    for module in (kernel / "modules").iterdir():
        yield f"modules/{module.name}", module
    for program in (os.path.realpath(sys.executable), *_makers()):
        yield program.lstrip("/"), Path(program)
    for directory in {Path(sysconfig.get_path(each)) for each in ("stdlib", "platstdlib")}:
        yield from _below(directory, str(directory).lstrip("/"))
    for package in _PACKAGES:
        found = importlib.util.find_spec(package)
        if found is None or not found.submodule_search_locations:
            sys.exit(f"powercut: {package} is not installed here")
        yield from _below(Path(found.submodule_search_locations[0]), f"packages/{package}")
    yield from _below(_PROJECT / "cas", "project/cas")
    yield from _below(_PROJECT / "tests" / "powercut", "project/tests/powercut")
    for path in ("__init__.py", "support/__init__.py", "support/origin.py"):
        yield f"project/tests/{path}", _PROJECT / "tests" / path


def _makers() -> Iterator[str]:
    for program, *_ in MAKERS.values():
        found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if found is None:
            sys.exit(f"powercut: {program} is not installed; as root: {INSTALL}")
        yield found


def _below(directory: Path, name: str) -> Iterator[tuple[str, Path]]:
    for path, directories, files in os.walk(directory):
        directories[:] = [each for each in directories if each not in _LEFT_OUT and not each.startswith("config-")]
        for each in files:
            if each.endswith((".py", ".pyc", ".so")) and ".opt-" not in each:
                yield f"{name}/{(Path(path) / each).relative_to(directory)}", Path(path, each)


def _libraries(files: Iterable[Path]) -> dict[str, Path]:
    """What programs and extension modules are linked with, where the loader of this machine finds it."""
    linked = [each for each in files if each.suffix == ".so" or not each.suffix or os.access(each, os.X_OK)]
    said = subprocess.run(["ldd", *linked], check=False, capture_output=True, text=True).stdout
    found = re.findall(r"^\t(?:\S+ => )?(/\S+) \(0x", said, re.MULTILINE)
    return {each.lstrip("/"): Path(each) for each in found}


class Archive:
    """An archive of files in the format the kernel unpacks: cpio, "newc"."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._directories: set[Path] = {Path(".")}
        self._count = 0

    def add(self, path: str, data: bytes, *, executable: bool = False, modified: int = 0) -> None:
        """A file, and the directories it needs. Their times tell Python that its compiled files are fresh."""
        for directory in reversed(Path(path).parents):
            if directory not in self._directories:
                self._directories.add(directory)
                self._put(str(directory), 0o040755, b"", modified)
        self._put(path, 0o100755 if executable else 0o100644, data, modified)

    def finish(self) -> None:
        self._put("TRAILER!!!", 0, b"", 0)

    def _put(self, path: str, mode: int, data: bytes, modified: int) -> None:
        self._count += 1
        name = path.encode() + b"\0"
        numbers = (self._count, mode, 0, 0, 1, modified, len(data), 0, 0, 0, 0, len(name), 0)
        header = b"070701" + b"".join(b"%08X" % each for each in numbers) + name
        self._file.write(header + b"\0" * (-len(header) % 4) + data + b"\0" * (-len(data) % 4))
