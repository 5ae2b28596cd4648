"""Digests are values that carry their algorithm."""

import hashlib
import os
import signal

import pytest
from blake3 import blake3

from cas import Digest
from cas.digest import Hasher, digest_of
from cas.errors import InvalidDigest

HEX = "ab" * 32


def test_is_printed_as_it_is_parsed():
    assert str(Digest.parse(f"blake3:{HEX}")) == f"blake3:{HEX}"


def test_two_algorithms_are_never_equal():
    assert Digest("blake3", HEX) != Digest("sha256", HEX)


def test_is_hashable_and_ordered():
    digests = {Digest("sha256", HEX), Digest("blake3", HEX), Digest("blake3", HEX)}
    assert sorted(digests) == [Digest("blake3", HEX), Digest("sha256", HEX)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEX,
        f"md5:{HEX}",
        "blake3:",
        f"blake3:{HEX.upper()}",
        f"blake3:{HEX}0",
        f"blake3:{HEX[:-1]}",
        f"blake3:{HEX}\n",
    ],
)
def test_refuses_what_is_not_a_digest(text: str):
    with pytest.raises(InvalidDigest) as caught:
        Digest.parse(text)
    assert "digest" in str(caught.value)


def test_a_hasher_computes_every_algorithm_over_the_same_bytes():
    hasher = Hasher(("blake3", "sha256"))
    for chunk in (b"one", b"", b"two"):
        hasher.update(chunk)
    assert hasher.size == 6
    assert hasher.digest("blake3").hex == blake3(b"onetwo").hexdigest() == digest_of(b"onetwo").hex
    assert hasher.digests()["sha256"].hex == hashlib.sha256(b"onetwo").hexdigest()


def test_a_hasher_refuses_an_unknown_algorithm():
    with pytest.raises(InvalidDigest, match="md5"):
        Hasher(("md5",))


def test_a_forked_child_hashes_though_its_parents_threads_stay_behind() -> None:
    data = b"x" * (8 << 20)

    def digest() -> Digest:
        hasher = Hasher(threads=-1)  # all cores
        hasher.update(data)
        return hasher.digest()

    expected = digest()
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        os._exit(digest() != expected)
    assert os.waitpid(child, 0)[1] == 0
