"""A real S3 server on loopback: Ceph's RADOS gateway from Debian's packages. One node, no root, nothing left.

python -m tests.support.s3_server start DIR [--port 9100] [--store bluestore]    prints endpoint and keys
python -m tests.support.s3_server stop DIR                                       ends it, and removes its data
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

ACCESS_KEY, SECRET_KEY = "testkey", "testsecret"
PACKAGES = "ceph-mon ceph-osd radosgw ceph-common"
_COMMANDS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "monmaptool", "ceph-authtool")
_DAEMONS = (("client.rgw", "radosgw"), ("osd.0", "ceph-osd"), ("mon.a", "ceph-mon"))
_GIGABYTES = 40  # sparse, or memory that is used only when something is stored

_CONF = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon2}/0,v1:127.0.0.1:{mon1}/0]
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data avail crit = 1
mon data avail warn = 2
auth allow insecure global id reclaim = false
# It waits a second for company before each decision; there is none, and starting takes seventeen.
paxos propose interval = 0.05
paxos min wait = 0.01
run dir = {directory}/run
admin socket = {directory}/run/$name.$pid.asok
pid file = {directory}/run/$name.pid
log file = {directory}/log/$name.log
mon cluster log file = {directory}/log/cluster.log
crash dir = {directory}/run
keyring = {directory}/keyring
mon data = {directory}/mon
osd data = {directory}/osd
[osd]
osd objectstore = {store}
bluestore block size = {size}
bluestore block create = true
memstore device bytes = {size}
osd memory target = 1073741824
[client.rgw]
# Without tcp_nodelay every small answer takes 40 ms.
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw thread pool size = 64
rgw gc obj min wait = 5
rgw gc processor period = 10
rgw gc processor max time = 10
"""


def why_not() -> str | None:
    """Why no server can be started here; None if one can."""
    missing = [command for command in _COMMANDS if shutil.which(command) is None]
    if not missing:
        return None
    install = f"apt-get install -y --no-install-recommends {PACKAGES}"
    return f"no S3 server here: {', '.join(missing)} missing; as root: {install}"


class S3Server:
    """One server, whose files are all in ``directory``. ``store`` is memstore (quick) or bluestore (on disk)."""

    def __init__(self, directory: Path, *, port: int | None = None, store: str = "memstore") -> None:
        self._directory = directory.absolute()
        self._store = store
        self._port = port or _free_port()
        self._log = self._directory / "log" / "start.log"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def environment(self) -> dict[str, str]:
        """What users of AWS's tools set."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
            "MLFLOW_S3_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self) -> None:
        """Make a cluster from nothing, and wait until it answers: about three seconds."""
        reason = why_not()
        if reason is not None:
            raise RuntimeError(reason)
        for name in ("mon", "osd", "log", "run"):
            (self._directory / name).mkdir(parents=True)
        fsid = str(uuid.uuid4())
        values = {"fsid": fsid, "directory": self._directory, "store": self._store, "port": self._port}
        conf = _CONF.format(**values, mon1=_free_port(), mon2=_free_port(), size=_GIGABYTES << 30)
        self._conf.write_text(conf)
        self._make_monitor(fsid)
        self._run("ceph-mon", "-i", "a")
        self._run("ceph", "mon", "stat")
        identity = str(uuid.uuid4())
        self._run("ceph", "osd", "new", identity)
        self._run("ceph", "auth", "import", "-i", str(self._directory / "keyring"))
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", identity)
        self._run("ceph-osd", "-i", "0")
        self._run("radosgw", "-n", "client.rgw")
        self._wait()
        keys = f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}"
        self._administer("user", "create", "--uid=test", "--display-name=test", *keys, "--max-buckets=0")

    def stop(self) -> None:
        """End what :meth:`start` started, and remove the data."""
        for name, command in _DAEMONS:
            _end(self._directory / "run" / f"{name}.pid", command)
        shutil.rmtree(self._directory, ignore_errors=True)

    def make_bucket(self, name: str) -> str:
        import botocore.session

        client = botocore.session.Session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
        )
        client.create_bucket(Bucket=name)
        return name

    def make_key(self) -> tuple[str, str]:
        """Another access key and secret key of the same user."""
        access, secret = f"key{uuid.uuid4().hex[:12]}", f"secret{uuid.uuid4().hex}"
        keys = f"--access-key={access}", f"--secret-key={secret}"
        self._administer("key", "create", "--uid=test", "--key-type=s3", *keys)
        return access, secret

    def remove_key(self, access: str) -> None:
        """From now on, nobody is let in with it."""
        self._administer("key", "rm", "--uid=test", "--key-type=s3", f"--access-key={access}")

    @property
    def _conf(self) -> Path:
        return self._directory / "ceph.conf"

    def _make_monitor(self, fsid: str) -> None:
        ring, map_ = self._directory / "keyring", self._directory / "monmap"
        address = self._conf.read_text().partition("mon host = ")[2].partition("\n")[0].replace("/0", "")
        for name, capabilities, options in (
            ("mon.", ("mon", "allow *"), ("--create-keyring",)),
            ("client.admin", ("mon", "allow *", "osd", "allow *"), ()),
            ("client.rgw", ("mon", "allow rw", "osd", "allow rwx"), ()),
            ("osd.0", ("mon", "allow profile osd", "osd", "allow *"), ()),
        ):
            pairs = zip(capabilities[::2], capabilities[1::2], strict=True)
            caps = [word for service, allowed in pairs for word in ("--cap", service, allowed)]
            self._run("ceph-authtool", *options, str(ring), "--gen-key", "-n", name, *caps)
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, str(map_))
        self._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", str(map_), "--keyring", str(ring))

    def _run(self, *command: str) -> None:
        environment = {**os.environ, "CEPH_CONF": str(self._conf), "CEPH_ARGS": ""}
        with self._log.open("ab") as log:
            done = subprocess.run(command, env=environment, stdout=log, stderr=log, timeout=60, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[:4])} failed:\n{self._log.read_text()[-2000:]}")

    def _administer(self, *command: str) -> None:
        log = str(self._directory / "log/admin.log")
        self._run("radosgw-admin", "-n", "client.rgw", "--log-file", log, "--admin-socket", "", *command)

    def _wait(self) -> None:
        for _ in range(300):
            with suppress(URLError, ConnectionError, TimeoutError), urlopen(self.endpoint, timeout=2):
                return
            time.sleep(0.1)
        raise RuntimeError(f"the S3 server at {self.endpoint} does not answer; see {self._directory}/log")


@contextmanager
def s3_server(directory: Path, store: str = "memstore") -> Iterator[S3Server]:
    server = S3Server(directory, store=store)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _end(pid_file: Path, command: str) -> None:
    """End a daemon of ours: the file's process, if it is still that program."""
    with suppress(FileNotFoundError, ProcessLookupError, ValueError):
        pid = int(pid_file.read_text())
        for number in (signal.SIGTERM, signal.SIGKILL):
            for _ in range(100):
                if Path(f"/proc/{pid}/comm").read_text().strip() != command:
                    return
                os.kill(pid, number)
                time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probing:
        probing.bind(("127.0.0.1", 0))
        return int(probing.getsockname()[1])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.s3_server", description=__doc__)
    parser.add_argument("command", choices=["start", "stop"])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--port", type=int)
    parser.add_argument("--store", choices=["memstore", "bluestore"], default="bluestore")
    arguments = parser.parse_args()
    server = S3Server(arguments.directory, port=arguments.port, store=arguments.store)
    if arguments.command == "stop":
        server.stop()
        return 0
    reason = why_not()
    if reason is not None:
        print(reason, file=sys.stderr)
        return 3
    server.start()
    for name, value in server.environment().items():
        print(f"{name}={value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
