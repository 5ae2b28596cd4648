"""Scratch directories: one owner each, swept when it is certainly dead."""

import os
import subprocess
import sys
from pathlib import Path

import cas
from cas import scratch


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], text=True, capture_output=True, check=False)


MAKE_TREE = "import sys, cas; print(cas.Store.open(sys.argv[1]).scratch.tree()); "


def trees(store: cas.Store) -> list[str]:
    """The scratch directories of a store, but for this process's own."""
    return [name for name in os.listdir(Path(store.name) / "tmp") if name != scratch.own_name()]


def test_a_tree_goes_when_its_process_ends(store: cas.Store):
    done = run(
        MAKE_TREE + "import os; print(os.path.isdir(cas.Store.open(sys.argv[1]).scratch.directory))", store.name
    )
    path, existed = done.stdout.split()
    assert existed == "True"
    assert not Path(path).exists()
    assert trees(store) == []


def test_a_killed_process_s_tree_goes_when_the_next_one_comes(store: cas.Store):
    done = run(
        MAKE_TREE + "sys.stdout.flush(); import os, signal; os.kill(os.getpid(), signal.SIGKILL)", store.name
    )
    assert Path(done.stdout.strip()).is_dir()
    run(MAKE_TREE, store.name)
    assert trees(store) == []


def test_a_living_process_s_tree_stays(store: cas.Store):
    mine = store.scratch.tree()
    run(MAKE_TREE, store.name)
    assert mine.is_dir()


def test_a_tree_survives_exec(store: cas.Store):
    """`mlflow models serve` may replace its process after it has downloaded the model."""
    look = "import sys, cas, os; cas.Store.open(sys.argv[1]).scratch.tree(); print(os.path.isdir(sys.argv[2]))"
    code = (
        "import sys, os, cas; tree = cas.Store.open(sys.argv[1]).scratch.tree(); "
        f"os.execv(sys.executable, [sys.executable, '-c', {look!r}, sys.argv[1], str(tree)])"
    )
    assert run(code, store.name).stdout.strip() == "True"


def test_a_forked_child_takes_nothing_with_it(store: cas.Store):
    code = (
        "import sys, os, cas; tree = cas.Store.open(sys.argv[1]).scratch.tree(); pid = os.fork()\n"
        "if pid == 0: sys.exit(0)\n"
        "os.waitpid(pid, 0); print(tree.is_dir())"
    )
    assert run(code, store.name).stdout.strip() == "True"


def test_owners_that_cannot_be_judged_are_left_alone(store: cas.Store):
    boot, namespace, pid, start = scratch.own_name().split("-")
    parent = Path(store.name) / "tmp"
    for name in (f"{'0' * 16}-{namespace}-{pid}-{start}", f"{boot}-1-{pid}-{start}", "something else"):
        (parent / name).mkdir()
    assert scratch.sweep(parent) == []


def test_a_pid_given_to_somebody_else_is_not_the_owner(store: cas.Store):
    boot, namespace, pid, _ = scratch.own_name().split("-")
    name = f"{boot}-{namespace}-{pid}-1"
    (Path(store.name) / "tmp" / name).mkdir()
    assert scratch.sweep(Path(store.name) / "tmp") == [name]
