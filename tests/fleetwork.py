"""Many hosts on one machine: real sshd, each in namespaces of its own, and a real Postgres.

A host has its own mounts (so its own accounts, HOME and /run), its own processes and host name;
the network is shared, and used on loopback alone, and so are other folders.
"""

from __future__ import annotations

import glob
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from program import environment, settings

from conftest import ENDS_WITH_US, PROJECT

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin")
needs_sshd = pytest.mark.skipif(
    SSHD is None or os.geteuid() != 0, reason="needs OpenSSH's server, and root for namespaces"
)


def postgres_folder() -> Path | None:
    """Where Postgres' own programs are; None where it is not installed."""
    places = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), reverse=True)
    found = shutil.which("initdb") or (places[0] if places else None)
    return Path(found).resolve().parent if found else None


needs_postgres = pytest.mark.skipif(
    postgres_folder() is None or (os.geteuid() == 0 and shutil.which("setpriv") is None),
    reason="needs a Postgres server",
)


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@dataclass(frozen=True)
class Postgres:
    """A server of its own. `dsn` is a connection string of libpq; it trusts whoever connects."""

    folder: Path
    port: int

    @property
    def dsn(self) -> str:
        return f"postgresql://fleet@127.0.0.1:{self.port}/postgres"

    def control(self, *words: str) -> None:
        """``pg_ctl`` (its man page): stop, start, restart."""
        data, programs = self.folder / "data", postgres_folder()
        subprocess.run(
            [*_as_ordinary_user(), f"{programs}/pg_ctl", "-D", data, "-w", "-s", *words],
            check=True, cwd=self.folder, stdout=subprocess.DEVNULL, env=_nobodys(), timeout=60,
        )  # fmt: skip

    def stop(self) -> None:
        self.control("stop", "-m", "immediate")

    def start(self) -> None:
        self.control("start", "-l", str(self.folder / "log"))


def _nobodys() -> dict[str, str]:
    """An environment that does not name the test: what is started here serves several."""
    return environment(PYTEST_CURRENT_TEST=None)


def _as_ordinary_user() -> list[str]:
    """Postgres refuses to run as root."""
    if os.geteuid():
        return []
    return [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "env",
        "HOME=/nonexistent",
    ]


@contextmanager
def postgres(*, everywhere: bool = False) -> Iterator[Postgres]:
    """A server on loopback, in a folder of its own; it is gone at the end. With `everywhere` on all
    addresses: in a network of one's own only.
    """
    folder, port = Path(tempfile.mkdtemp(prefix="fleet-store-")), free_port()
    server = Postgres(folder, port)
    try:
        if not os.geteuid():
            os.chown(folder, 65534, 65534)
        subprocess.run(
            [*_as_ordinary_user(), f"{postgres_folder()}/initdb", "-A", "trust", "-N", "-U",
             "fleet", "-D", folder / "data", "--no-locale", "-E", "UTF8"],
            check=True, cwd=folder, stdout=subprocess.DEVNULL, env=_nobodys(), timeout=60,
        )  # fmt: skip
        where = "*" if everywhere else "127.0.0.1"
        wish = f"port={port}\nlisten_addresses='{where}'\nunix_socket_directories=''\n"
        if everywhere:
            with (folder / "data/pg_hba.conf").open("a") as access:
                access.write("host all all 0.0.0.0/0 trust\n")
        with (folder / "data/postgresql.conf").open("a") as file:
            file.write(wish + "max_connections=60\nshared_buffers=32MB\n")
        server.start()
        yield server
    finally:
        if (folder / "data/postmaster.pid").exists():
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Host:
    """One host: `name` is its host name and what the inventory calls it; `folder` holds its HOME,
    its TMPDIR and the log of its sshd.
    """

    name: str
    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def home(self) -> Path:
        return self.folder / "home"


@dataclass(frozen=True)
class Hosts:
    """Hosts, and what it takes to reach them."""

    folder: Path
    hosts: tuple[Host, ...]

    @property
    def key(self) -> Path:
        return self.folder / "key"

    @property
    def known(self) -> Path:
        return self.folder / "known_hosts"

    def ssh(self, host: Host, *words: str) -> list[str]:
        return ["ssh", *self.options(), "-p", str(host.port), "root@127.0.0.1", *words]

    def options(self) -> list[str]:
        """Nothing of this user's own configuration; host keys are checked."""
        return [
            "-F", "none", "-i", str(self.key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
            "-o", f"UserKnownHostsFile={self.known}", "-o", "GlobalKnownHostsFile=/dev/null",
            "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=10",
        ]  # fmt: skip

    def inventory(self, more: Sequence[str] = ()) -> Path:
        """Ansible's inventory of them, as a file; `more` are names of hosts that do not answer."""
        common = " ".join(self.options())
        lines = [
            f"{each.name} ansible_host=127.0.0.1 ansible_port={each.port}" for each in self.hosts
        ]
        lines += [f"{name} ansible_host=127.0.0.1 ansible_port=1" for name in more]
        lines += [
            "[all:vars]",
            "ansible_user=root",
            f"ansible_python_interpreter={sys.executable}",
            "ansible_ssh_args=-C",  # no connection is kept open: it would outlive a test
            f"ansible_ssh_common_args={common}",
        ]
        file = self.folder / "inventory.ini"
        file.write_text("\n".join(lines) + "\n")
        return file


# Of one host, in namespaces that end with it. $1 its folder, $2 its name, $3 sshd.
_HOST = r"""
set -eu
hostname "$2"
mount --bind "$1/passwd" /etc/passwd
mkdir -p "$1/run/sshd"
mount --bind "$1/run" /run
exec "$3" -D -e -f "$1/sshd_config" 2>"$1/sshd.log"
"""

_SSHD = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 200
PrintMotd no
Subsystem sftp internal-sftp
SetEnv {environment}
"""


@contextmanager
def ssh_hosts(folder: Path, count: int, config: str = "") -> Iterator[Hosts]:
    """`count` hosts named host1, host2, …, each with the program as ``miyabi-healing`` on its PATH,
    and with a configuration that looks at nothing of this machine but what `config` adds.
    """
    keys = Hosts(folder, ())
    _make_key(keys.key)
    with ExitStack() as stack:
        hosts = [
            stack.enter_context(_ssh_host(keys, f"host{number}", config))
            for number in range(1, count + 1)
        ]
        keys.known.write_text(
            "".join(
                f"[127.0.0.1]:{each.port} {(each.folder / 'host_key.pub').read_text()}"
                for each in hosts
            )
        )
        for each in hosts:
            _wait_for_answer(each)
        yield Hosts(folder, tuple(hosts))


def _make_key(file: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)


@contextmanager
def _ssh_host(fleet: Hosts, name: str, config: str) -> Iterator[Host]:
    folder, port = fleet.folder / name, free_port()
    for each in ("home", "tmp", "bin", "run"):
        (folder / each).mkdir(parents=True)
    program = folder / "bin/miyabi-healing"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {PROJECT}/self_healer.py "$@"\n')
    program.chmod(0o755)
    _make_key(folder / "host_key")
    (folder / "authorized_keys").write_text(fleet.key.with_suffix(".pub").read_text())
    (folder / "passwd").write_text(
        f"root:x:0:0:root:{folder}/home:/bin/sh\n"
        "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    )
    wanted = {
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "MIYABI_HEALING_CONFIG": settings(folder, config),
        "TMPDIR": f"{folder}/tmp",
    }
    environment = " ".join(f"{key}={value}" for key, value in wanted.items())
    (folder / "sshd_config").write_text(
        _SSHD.format(folder=folder, port=port, environment=environment)
    )
    process = subprocess.Popen(
        [*ENDS_WITH_US, "unshare", "--mount", "--uts", "--pid", "--fork", "--mount-proc",
         "--kill-child", "sh", "-c", _HOST, "sh", folder, name, str(SSHD)],
        env=_nobodys(),
    )  # fmt: skip
    try:
        yield Host(name, port, folder, process)
    finally:
        process.kill()
        process.wait()


def _wait_for_answer(host: Host) -> None:
    for _ in range(500):
        if host.process.poll() is not None:
            raise RuntimeError(f"{host.name}: {(host.folder / 'sshd.log').read_text()}")
        try:
            with closing(socket.create_connection(("127.0.0.1", host.port), 1)) as peer:
                if peer.recv(4) == b"SSH-":
                    return
        except OSError:
            pass
        time.sleep(0.02)
    raise TimeoutError(f"{host.name} does not answer")
