"""The command line: data on stdout, errors on stderr, exit codes as documented."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cas
from cas.scratch import own_name

RUN = "7/" + "a" * 32 + "/artifacts"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("cas")), *map(str, arguments)]
    return subprocess.run(command, text=True, capture_output=True, check=False)


@pytest.fixture
def filled(store: cas.Store) -> cas.Store:
    root = store.artifact_root(RUN)
    weights = os.urandom(100_000)
    for name in ("one", "two"):
        root.ingest_bytes(weights, f"{name}/weights.bin")
        root.ingest_bytes(b"flavors: {}", f"{name}/MLmodel")
    return store


def damage(store: cas.Store) -> None:
    ((key, _),) = store.blobs.listing()
    blob = Path(store.name) / key
    blob.chmod(0o644)
    with open(blob, "r+b") as file:
        file.write(b"damage")


def test_init_makes_a_store_and_says_how_to_use_it(tmp_path: Path):
    done = run("init", tmp_path / "store")
    assert done.returncode == 0
    assert f"--artifacts-destination cas://{tmp_path}/store" in done.stdout
    assert cas.Store.open(tmp_path / "store")


def test_init_twice_is_refused(store: cas.Store):
    done = run("init", store.name)
    assert (done.returncode, done.stdout) == (1, "")
    assert store.name in done.stderr


def test_init_into_a_directory_with_other_things_is_refused_and_changes_nothing(tmp_path: Path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    assert run("init", tmp_path / "full").returncode == 1
    assert os.listdir(tmp_path / "full") == ["thesis.tex"]


def test_ls_lists_a_directory_of_a_run(filled: cas.Store):
    done = run("ls", "--json", f"cas://{filled.name}/{RUN}/one")
    assert [(each["path"], each["size"]) for each in json.loads(done.stdout)] == [
        (f"{RUN}/one/MLmodel", 11),
        (f"{RUN}/one/weights.bin", 100_000),
    ]


def test_ls_recursive_lists_every_file(filled: cas.Store):
    assert len(json.loads(run("ls", "-r", "--json", filled.name).stdout)) == 4


def test_ls_of_what_is_not_there_fails(filled: cas.Store):
    done = run("ls", f"{filled.name}/{RUN}/nowhere")
    assert (done.returncode, done.stdout) == (1, "")
    assert "nowhere" in done.stderr


@pytest.mark.parametrize(
    "path", ["../secret", "a/../../secret", "..", "a//b", "a\\b", "new\nline", "//[", "\x1b[2J"]
)
@pytest.mark.parametrize("command", ["ls", "verify", "stats"])
def test_a_hostile_path_is_one_line_and_no_traceback(filled: cas.Store, command: str, path: str):
    done = run(command, f"cas://{filled.name}/{path}")
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert done.stderr.startswith("cas: ")
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr


def test_stats_counts_logical_and_stored_bytes(filled: cas.Store):
    found = json.loads(run("stats", "--json", filled.name).stdout)
    assert found["total"]["logical"] == 200_022
    assert found["blob_bytes"] == 100_000
    assert found["experiments"]["7"]["stored"] == 100_022
    assert found["largest"][0]["uses"] == 2


def test_verify_of_a_sound_store_succeeds(filled: cas.Store):
    done = run("verify", filled.name)
    assert done.returncode == 0
    assert "nothing is damaged" in done.stdout
    assert done.stderr == ""


def test_verify_names_every_model_that_damage_reaches_and_exits_with_20(filled: cas.Store):
    damage(filled)
    done = run("verify", filled.name)
    assert done.returncode == 20
    assert f"{RUN}/one/weights.bin" in done.stdout
    assert f"{RUN}/two/weights.bin" in done.stdout


def test_verify_still_says_so_the_second_time(filled: cas.Store):
    """Quarantine must not make a store look sound."""
    damage(filled)
    run("verify", filled.name)
    done = run("verify", "--json", filled.name)
    assert done.returncode == 20
    (problem,) = json.loads(done.stdout)["problems"]
    assert problem["kind"] == "damaged"
    assert sorted(problem["models"]) == [f"{RUN}/one/weights.bin", f"{RUN}/two/weights.bin"]


def test_doctor_tells_file_system_link_modes_and_versions(filled: cas.Store):
    done = run("doctor", "--json", filled.name)
    found = {each["what"]: each for each in json.loads(done.stdout)}
    assert done.returncode == 0
    assert found["plugin"]["found"] == "cas_mlflow.repository:CasArtifactRepository"
    assert "hardlink" in found["links for loads through models:/"]["found"]
    assert os.listdir(Path(filled.name) / "tmp") == [own_name()]


def test_doctor_of_no_store_says_what_to_do(tmp_path: Path):
    done = run("doctor", tmp_path)
    assert done.returncode == 10
    assert "cas init" in done.stdout


def test_a_newer_store_is_refused_by_every_command(store: cas.Store):
    (Path(store.name) / "cas.json").chmod(0o644)
    (Path(store.name) / "cas.json").write_text('{"format": 99, "id": "x", "inline_limit": 1, "aliases": []}')
    for command in ("ls", "stats", "verify"):
        done = run(command, store.name)
        assert (done.returncode, done.stdout) == (1, "")
        assert "Upgrade mlflow-cas" in done.stderr


def test_a_wrong_command_line_exits_with_2():
    assert run("ls").returncode == 2
    assert run("frobnicate").returncode == 2


def test_help_documents_the_exit_codes():
    assert "20  `cas verify` found damage" in run("--help").stdout
