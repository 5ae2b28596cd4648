"""Targets: the records of a store, as somebody else may have written them."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from pathlib import Path
from random import Random
from typing import Any

from click.testing import CliRunner

import cas
from cas import pointer
from cas.backends import MemoryBackend
from cas.bundle import create, take
from cas.cache import Cache
from cas.condemned import CondemnedList, condemned_key
from cas.digest import digest_of
from cas.errors import CasError, MalformedRecord, UnsupportedFormat
from cas.fragment import Fragment, Record, encode
from cas.intent import Intent
from cas.keys import blob_key, fragment_key, intent_key
from cas.manifest import Entry
from cas.settings import Settings
from cas.streaming.journal import PIECE, mark_of
from cas.ulid import new_ulid
from cas.verify import verify
from cas_cli.main import main
from tests.fuzz.mutation import NUMBERS, TEXTS, dumped, mutated, mutated_json
from tests.fuzz.running import Example, Outside

ORIGIN = f"none://models/o/n@{'c' * 40}/f"
WEIGHTS = bytes(range(256)) * 80
SMALL = b"small file"


def _store(directory: Path) -> cas.Store:
    """A store in a directory with other things, and a sound model in it."""
    store = cas.Store.create(directory / "around" / "store")
    root = store.artifact_root("sound/models/m/artifacts")
    root.ingest_bytes(WEIGHTS, "weights")
    root.ingest_bytes(SMALL, "small")
    return store


def _put(store: cas.Store, key: str, data: bytes) -> Path:
    """As whoever may write to the directory would."""
    path = Path(store.name, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def fragments(directory: Path) -> Example:
    """Fragments put into a store: read, verified, listed, written out, added to and removed."""
    store = _store(directory)
    outside = Outside(directory / "around", Path(store.name))
    sound = store.artifact_root("sound/models/m/artifacts").entry("weights")

    def example(random: Random) -> None:
        intent, place = new_ulid(), f"{uuid.uuid4().hex}/artifacts"
        entries = [
            Entry("model/weights", sound.size, sound.digest, blob=sound.blob),
            Entry("model/small", len(SMALL), digest_of(SMALL)),
            Entry("reference", 10, digest_of(b"elsewhere"), ORIGIN),
        ]
        fragment = Fragment(intent, {each.path: Record(intent, each.path, each) for each in entries})
        fragment.records["gone"] = Record(intent, "gone", None)
        data = b"".join(encode(fragment, {"model/small": SMALL}))
        record = _put(store, fragment_key(place, intent), _fragment(random, data))
        root = store.artifact_root(place)
        for use in (
            lambda: [root.open_entry(entry).read() for entry in root.manifest()],
            lambda: root.checkout("", directory / "around" / "store" / "tmp" / "out"),
            lambda: verify(store, place, quick=True),
            lambda: root.ingest_bytes(b"more", "more"),
            lambda: root.remove("model"),
            root.fold,
        ):
            _only_ours(use)
        command("ls", "-r", f"cas://{store.name}/{place}")
        if random.random() < 0.02:
            command("verify", "--json", store.name)
            command("stats", store.name)
            outside.check()
        for each in record.parent.iterdir():
            each.unlink()

    return example


def _fragment(random: Random, data: bytes) -> bytes:
    """Damaged anyhow, or only in what its header says, with a checksum that is right."""
    if random.random() < 0.4:
        return mutated(random, data)
    line, _, rest = data.partition(b"\n")
    length = int(line.split(b" ")[2])
    header = dumped(mutated_json(random, json.loads(rest[:length])))
    if random.random() < 0.1:
        header = mutated(random, header)
    return b"cas-fragment 1 %d %s\n" % (len(header), digest_of(header).hex.encode()) + header + rest[length:]


def settings_intents_and_condemned_lists(directory: Path) -> Example:
    """cas.json, intents and lists of what is to be deleted: read, and in the way of a writer."""
    store = _store(directory)
    sound = store.artifact_root("sound/models/m/artifacts").entry("weights")
    assert sound.blob is not None
    name = new_ulid()
    good: list[tuple[str, Any]] = [
        ("settings", json.loads(Settings(str(uuid.uuid4()), aliases=("sha256",)).encode())),
        ("intent", json.loads(Intent(name, fragment_key("7/models/m/artifacts", name), (sound.blob,)).encode())),
        ("condemned", {"keys": [sound.blob, blob_key(digest_of(b"other"), name)]}),
    ]

    def example(random: Random) -> None:
        kind, document = random.choice(good)
        if random.random() < 0.4:
            data = mutated(random, json.dumps(document).encode())
        else:
            data = dumped(mutated_json(random, document))
        try:
            if kind == "settings":
                Settings.decode(store.name, data)
            elif kind == "intent":
                Intent.decode(intent_key(name), data)
            else:
                CondemnedList.decode(condemned_key(new_ulid()), data)
        except (MalformedRecord, UnsupportedFormat):
            pass
        if kind == "settings" or random.random() > 0.1:
            return
        path = _put(store, intent_key(name) if kind == "intent" else f"condemned/{name}.json", data)
        _only_ours(lambda: store.artifact_root("7/models/n/artifacts").ingest_bytes(WEIGHTS, "weights"))
        _only_ours(lambda: verify(store, quick=True))
        path.unlink()

    return example


def pointers(directory: Path) -> Example:
    """Pointer files, logged while somebody else holds the bytes: none of them may give anybody anything."""
    store = _store(directory)
    sound = store.artifact_root("sound/models/m/artifacts").entry("weights")
    root = store.artifact_root("7/models/m/artifacts")
    hold = root.log_call()
    writer = hold.__enter__()  # for as long as this process lives
    writer.put_known("mine", digest_of(b"\0"), 1, ORIGIN)
    writer.hold()

    def example(random: Random) -> None:
        said = pointer.Pointer(sound.digest, sound.size, random.choice((None, ORIGIN)), writer.intent)
        data = mutated(random, said.encode())
        if random.random() < 0.3:
            lines = said.encode().splitlines(keepends=True)
            at = random.randrange(1, len(lines))
            name = lines[at].split(b" ")[0]
            value = str(random.choice([*NUMBERS, *TEXTS])).encode("utf-8", "surrogatepass")
            data = b"".join([*lines[:at], name + b" " + value + b"\n", *lines[at + 1 :]])
        _only_ours(lambda: root.ingest_bytes(data, "file"))
        found = root.manifest().get("file")
        if found is not None:
            assert found.digest == digest_of(data), "a digest gave somebody a file"
            root.remove("file")

    return example


def journals(directory: Path) -> Example:
    """What an unfinished download left, in the cache: the bytes that come out are right, or there are none."""
    content = b"".join(bytes([number]) * PIECE for number in range(4)) + b"rest"
    store = cas.Store.create(MemoryBackend())
    store.artifact_root("7").ingest_bytes(content, "file")
    entry = store.artifact_root("7").entry("file")
    marks = [mark_of(content[at : at + PIECE]) for at in range(0, len(content), PIECE)]
    lines = "".join(f"{index} {mark}\n" for index, mark in enumerate(marks[:3]))
    journal = f"cas-download 1 {entry.digest} {entry.size} {PIECE}\n{lines}".encode()
    data = content[: 3 * PIECE] + bytes(entry.size - 3 * PIECE)

    def example(random: Random) -> None:
        cache = Cache(directory / "cache" / str(random.random()))
        unfinished = cache.root / "tmp" / "downloads" / f"{os.geteuid()}-blake3-{entry.digest.hex}"
        unfinished.mkdir(mode=0o700, parents=True)
        for name, good in (("data", data), ("journal", journal)):
            (unfinished / name).write_bytes(good if random.random() < 0.4 else mutated(random, good))
            (unfinished / name).chmod(0o600)
        _only_ours(lambda: cache.fetch([entry], store.supply))
        found = cache.find(entry)
        assert found is not None, "a journal kept a file from being fetched"
        assert found.read_bytes() == content
        cache.prune()

    return example


def bundles(directory: Path) -> Example:
    """Bundles from somewhere else, imported into a store."""
    store = _store(directory)
    create(store, directory / "good.tar")
    good = (directory / "good.tar").read_bytes()
    target = cas.Store.create(directory / "around" / "target")
    outside = Outside(directory / "around", Path(store.name), Path(target.name))

    def example(random: Random) -> None:
        bundle = directory / "bundle.tar"
        bundle.write_bytes(_archive(random, good))
        _only_ours(lambda: take(bundle, target))
        for each in target.artifact_roots():
            for entry in each.manifest():
                _only_ours(lambda each=each, entry=entry: each.open_entry(entry).read())
        outside.check()

    return example


def _archive(random: Random, data: bytes) -> bytes:
    """Damaged in its headers, most often: they are what decides where things go."""
    if random.random() < 0.3:
        return mutated(random, data)
    at = random.randrange(len(data) // 512) * 512
    header = bytearray(data[at : at + 512])
    name = random.choice(TEXTS).encode("utf-8", "surrogatepass")[:100]
    if random.random() < 0.5:
        header[: len(name)] = name
    header[156:157] = random.choice([b"0", b"1", b"2", b"3", b"5", b"x", b"g", b"L", b"S"])
    if random.random() < 0.3:
        header[124:136] = random.choice([b"77777777777\0", b"\xff" * 12, b"\x80" + b"\xff" * 11, b"-0000000001\0"])
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:at] + bytes(header) + data[at + 512 :]


def _only_ours(use: Any) -> None:
    """Whatever else comes out is a fault."""
    with contextlib.suppress(CasError):
        use()


def command(*arguments: str) -> None:
    result = CliRunner().invoke(main, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
