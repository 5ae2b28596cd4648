"""The source `hf`: resolves revisions, lists files, and opens origins, as huggingface_hub is configured.

Endpoint, token, offline mode and cache directory are huggingface_hub's own, read when they are needed. It does the
talking about repositories; file contents come through our own reader, which verifies them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cas.digest import Digest, Hasher
from cas.errors import InvalidInput, OriginChanged, OriginGated, OriginGone, OriginMoved, SourceError
from cas.sources import OriginStatus, Progress, RemoteFile, Snapshot
from cas.streaming.http import HttpRemote
from cas_hub.origin import HubOrigin, check_repo
from cas_hub.refusals import explain, hub_errors, offline, persistently

_LARGEST_READ = 64 << 20
_MAIN = "main"


class HubSource:
    """See :class:`cas.sources.Source`."""

    def snapshot(self, name: str, revision: str | None = None) -> Snapshot:
        what = f"hf://models/{check_repo(name)}@{revision or _MAIN}"
        self._check_online(what)

        def ask() -> Snapshot:
            with hub_errors(what, self._endpoint, name):
                info = self._api.model_info(name, revision=revision)
                if info.id != name:
                    raise OriginMoved(f"{what}: {name} is called {info.id} now; use that name")
                return Snapshot(info.id, info.sha, [file for file, _ in self._tree(info.id, info.sha)])

        return persistently(ask)

    def read(self, file: RemoteFile) -> bytes:
        if file.size > _LARGEST_READ:
            raise InvalidInput(f"{file.origin} has {file.size} bytes, too many to be read whole")
        origin = HubOrigin.parse(file.origin)
        oid = None if file.digest else self._git_oid(origin)
        data = persistently(lambda: self._whole(origin, file.size, file.digest)) if file.size else b""
        if file.digest is not None:
            hasher = Hasher((file.digest.algorithm,))
            hasher.update(data)
            expected, found = str(file.digest), str(hasher.digest(file.digest.algorithm))
        else:
            blob = b"blob %d\0" % len(data) + data
            expected, found = f"git:{oid}", f"git:{hashlib.sha1(blob, usedforsecurity=False).hexdigest()}"
        if expected != found:
            raise OriginChanged(f"{file.origin}: expected {expected}, found {found}. Nothing was stored")
        return data

    def open(self, origin: str, digest: Digest, size: int) -> HttpRemote:
        parsed = HubOrigin.parse(origin)
        return self._remote(parsed, size, digest.hex if digest.algorithm == "sha256" else None)

    def local_copies(self, origin: str, digest: Digest) -> Sequence[Path]:
        from huggingface_hub import constants

        parsed = HubOrigin.parse(origin)
        repository = Path(constants.HF_HUB_CACHE) / f"models--{parsed.repo.replace('/', '--')}"
        claims = [repository / "blobs" / digest.hex, repository / "snapshots" / parsed.commit / parsed.path]
        found: dict[Path, None] = {}
        for each in claims:
            path = each.resolve()
            if path.is_file() and repository.resolve() in path.parents:
                found[path] = None
        return list(found)

    def check(self, origin: str, digest: Digest, size: int) -> OriginStatus:
        """By the listing of the commit, and by asking for the file itself: a gated repository may be listed."""
        parsed = HubOrigin.parse(origin)

        def ask() -> OriginStatus:
            if size:
                with closing(self.open(origin, digest, size).open_range(0, 1)):
                    pass
            return OriginStatus.OK

        try:
            self._check_online(origin)
            promised = {file.path: file for file, _ in self._listing(parsed.repo, parsed.commit)}.get(parsed.path)
            if promised is None:
                return OriginStatus.GONE
            if promised.size != size or (promised.digest is not None and promised.digest != digest):
                return OriginStatus.CHANGED
            return persistently(ask)
        except OriginGone:
            return OriginStatus.GONE
        except OriginGated:
            return OriginStatus.GATED
        except OriginChanged:
            return OriginStatus.CHANGED

    def progress(self, name: str, size: int) -> Progress:
        from huggingface_hub.utils.tqdm import tqdm

        bar: Progress = tqdm(total=size, unit="B", unit_scale=True, desc=name)  # type: ignore[no-untyped-call]
        return bar

    @property
    def _endpoint(self) -> str:
        from huggingface_hub import constants

        return str(constants.ENDPOINT).rstrip("/")

    @property
    def _api(self) -> Any:
        from huggingface_hub import HfApi

        return HfApi(endpoint=self._endpoint, library_name="mlflow-cas")

    def _check_online(self, what: str) -> None:
        from huggingface_hub import constants

        if constants.is_offline_mode():
            raise offline(what)

    def _tree(self, repo: str, commit: str) -> list[tuple[RemoteFile, str]]:
        """Every file of a commit, and its id in git."""
        found = []
        for each in self._api.list_repo_tree(repo, revision=commit, recursive=True):
            if not hasattr(each, "blob_id"):
                continue  # a directory
            digest = Digest("sha256", each.lfs.sha256) if each.lfs else None
            size = each.lfs.size if each.lfs else each.size
            origin = str(HubOrigin(repo, commit, each.path))
            found.append((RemoteFile(each.path, size, digest, origin), each.blob_id))
        return found

    def _listing(self, repo: str, commit: str) -> tuple[tuple[RemoteFile, str], ...]:
        return _listing_of(self, self._endpoint, repo, commit)

    def _git_oid(self, origin: HubOrigin) -> str:
        for file, oid in self._listing(origin.repo, origin.commit):
            if file.path == origin.path:
                return oid
        raise OriginGone(f"{origin}: the Hub does not list this file")

    def _whole(self, origin: HubOrigin, size: int, digest: Digest | None) -> bytes:
        remote, data = self._remote(origin, size, digest.hex if digest else None), bytearray()
        with closing(remote.open_range(0, size)) as body:
            while chunk := body.read(1 << 20):
                data += chunk
        return bytes(data)

    def _remote(self, origin: HubOrigin, size: int, linked_etag: str | None) -> HttpRemote:
        from huggingface_hub import get_token

        self._check_online(str(origin))
        endpoint, token = self._endpoint, get_token()

        def refusal(status: int, headers: Mapping[str, str]) -> SourceError | None:
            return explain(str(origin), endpoint, origin.repo, status, headers)

        return HttpRemote(
            f"{endpoint}/{origin.repo}/resolve/{origin.commit}/{quote(origin.path)}",
            name=str(origin),
            size=size,
            linked_etag=linked_etag,
            authorization=f"Bearer {token}" if token else None,
            explain=refusal,
            timeout=_timeout(),
        )


def _timeout() -> float:
    from huggingface_hub import constants

    return float(constants.HF_HUB_DOWNLOAD_TIMEOUT)


@lru_cache(maxsize=16)
def _listing_of(source: HubSource, endpoint: str, repo: str, commit: str) -> tuple[tuple[RemoteFile, str], ...]:
    """Commits never change, so a listing is asked for once; ``endpoint`` only tells Hubs apart."""

    def ask() -> tuple[tuple[RemoteFile, str], ...]:
        with hub_errors(f"hf://models/{repo}@{commit}", endpoint, repo):
            return tuple(source._tree(repo, commit))

    return persistently(ask)
