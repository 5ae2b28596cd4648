"""Checkouts: links where they are safe, files of one's own elsewhere, and never outside the destination."""

import os
from pathlib import Path

import pytest

import cas
from cas import Mode
from cas.checkout import link_modes
from cas.errors import DestinationExists, InvalidInput, PathNotFound
from tests.support.reading import read

BIG = os.urandom(2 << 20)


@pytest.fixture
def root(store: cas.Store) -> cas.ArtifactRoot:
    root = store.artifact_root("7/" + "a" * 32 + "/artifacts")
    root.ingest_bytes(BIG, "model/weights.bin")
    root.ingest_bytes(b"flavors: {}", "model/MLmodel")
    root.ingest_bytes(os.urandom(100_000), "model/sub/tokenizer.json")
    return root


def blob_inode(root: cas.ArtifactRoot, path: str) -> int:
    file = root.local_path(root.entry(path))
    assert file is not None
    return file.stat().st_ino


def test_a_disposable_place_gets_links_to_large_files(root: cas.ArtifactRoot, tmp_path: Path):
    report = root.checkout("model", tmp_path / "out", disposable=True)
    assert report.files == {Mode.HARDLINK: 1, Mode.COPY: 2}
    assert report.bytes[Mode.HARDLINK] == len(BIG)
    assert (tmp_path / "out/model/weights.bin").stat().st_ino == blob_inode(root, "model/weights.bin")


def test_small_files_are_copied_wherever_they_go(root: cas.ArtifactRoot, tmp_path: Path):
    root.checkout("model", tmp_path / "out", disposable=True)
    small = tmp_path / "out/model/sub/tokenizer.json"
    assert small.stat().st_nlink == 1
    small.write_bytes(b"rewritten in place")
    assert read(root, "model/sub/tokenizer.json") != b"rewritten in place"


def test_a_place_the_user_named_gets_files_of_its_own(root: cas.ArtifactRoot, tmp_path: Path):
    report = root.checkout("model", tmp_path / "out")
    assert set(report.files) == {Mode.COPY}
    mine = tmp_path / "out/model/weights.bin"
    mine.write_bytes(b"my own")
    assert read(root, "model/weights.bin") == BIG


def test_another_file_system_gets_symlinks_if_disposable(root: cas.ArtifactRoot, tmp_path: Path):
    elsewhere = Path("/dev/shm") / f"cas-test-{os.getpid()}"
    elsewhere.mkdir()
    try:
        report = root.checkout("model", elsewhere, disposable=True)
        assert report.files[Mode.SYMLINK] == 1
        assert (elsewhere / "model/weights.bin").read_bytes() == BIG
    finally:
        import shutil

        shutil.rmtree(elsewhere)


@pytest.mark.root
@pytest.mark.parametrize("disposable", [True, False])
def test_reflinks_are_used_where_they_work(xfs: Path, disposable: bool):
    root = cas.Store.create(xfs / f"store-{disposable}").artifact_root("")
    root.ingest_bytes(BIG, "weights.bin")
    report = root.checkout("", xfs / f"out-{disposable}", disposable=disposable)
    assert report.files == {Mode.REFLINK: 1}
    out = xfs / f"out-{disposable}" / "weights.bin"
    assert out.stat().st_ino != blob_inode(root, "weights.bin")
    with open(out, "r+b") as file:
        file.write(b"changed")
    assert read(root, "weights.bin") == BIG


def test_the_environment_overrides_the_choice(
    root: cas.ArtifactRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CAS_LINK", "symlink")
    assert root.checkout("model", tmp_path / "out").files[Mode.SYMLINK] == 1


def test_an_unknown_mode_is_refused_with_those_that_exist():
    with pytest.raises(InvalidInput, match="hardlink"):
        link_modes(disposable=True, override="magic")


def test_an_existing_file_is_replaced_and_never_written_through(root: cas.ArtifactRoot, tmp_path: Path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    out = tmp_path / "out" / "model"
    out.mkdir(parents=True)
    (out / "MLmodel").symlink_to(victim)
    os.link(victim, out / "weights.bin")
    root.checkout("model", tmp_path / "out")
    assert victim.read_bytes() == b"precious"
    assert (out / "MLmodel").read_bytes() == b"flavors: {}"
    assert (out / "weights.bin").read_bytes() == BIG


def test_a_directory_that_is_a_link_is_not_followed(root: cas.ArtifactRoot, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model").symlink_to(elsewhere)
    with pytest.raises(DestinationExists, match="model"):
        root.checkout("model", tmp_path / "out")
    assert list(elsewhere.iterdir()) == []


def test_a_file_is_not_put_where_a_directory_is(root: cas.ArtifactRoot, tmp_path: Path):
    (tmp_path / "out/model/MLmodel").mkdir(parents=True)
    with pytest.raises(DestinationExists, match="MLmodel"):
        root.checkout("model", tmp_path / "out")


def test_twice_into_one_place_is_fine(root: cas.ArtifactRoot, tmp_path: Path):
    for _ in range(2):
        root.checkout("model", tmp_path / "out", disposable=True)
    assert sorted(each.name for each in (tmp_path / "out/model").iterdir()) == ["MLmodel", "sub", "weights.bin"]


def test_many_directories_need_few_descriptors(store: cas.Store, tmp_path: Path):
    import resource

    root = store.artifact_root("")
    tree = tmp_path / "tree"
    for number in range(300):
        (tree / f"{number}" / "deep").mkdir(parents=True)
        (tree / f"{number}" / "deep" / "file").write_bytes(b"x")
    root.ingest_tree(tree)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = max(int(each) for each in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 80, hard))
    try:
        assert root.checkout("", tmp_path / "out").files == {Mode.COPY: 300}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_is_not_there_is_said(root: cas.ArtifactRoot, tmp_path: Path):
    with pytest.raises(PathNotFound, match="nowhere"):
        root.checkout("nowhere", tmp_path / "out")
