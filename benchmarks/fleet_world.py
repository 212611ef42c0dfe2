"""What coordinators need to meet and to be disturbed: Postgres, stand-in hosts, and a network of
their own, in which one of them can be cut off.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import MEMORY, PROJECT, Skipped, needs

NETWORK = "10.213.7"  # in a network namespace of our own
# Every answer that a store keeps, with the token that the slice had then: the store's own word is
# not believed.
_AUDIT = """
create table audit (label text, host text, token bigint, slice bigint);
create function note() returns trigger language plpgsql as $$ begin
    insert into audit select new.label, new.host, new.token, s.token from fleet_slice s
    where s.label = new.label and s.number = new.slice;
    return null; end $$;
create trigger note after update on fleet_host for each row
    when (new.answered is distinct from old.answered) execute function note();
"""


def helpers() -> Any:
    """What the tests start servers with."""
    if (tests := str(PROJECT / "tests")) not in sys.path:
        sys.path.insert(0, tests)
    return importlib.import_module("fleetwork")


@dataclass(frozen=True)
class World:
    """`network` is the process whose network it has, 0 for this one's. `server` is Postgres'
    folder, `hosts` those of the stand-ins, `address` where they are asked.
    """

    network: int
    dsn: str
    server: str
    port: int
    hosts: str
    address: str

    def inside(self, argv: tuple[str, ...], of: int = 0) -> tuple[str, ...]:
        """A command in its network, or in that of the process `of`."""
        where = of or self.network
        return (needs("nsenter"), f"--net=/proc/{where}/ns/net", *argv) if where else argv


@contextlib.contextmanager
def world(folder: Path, *, on_disk: bool = False) -> Iterator[World]:
    """All of it in memory where that is possible: a disk has moods, and others use it. With
    `on_disk`, below `folder`: a commit is a write then. Raises Skipped.
    """
    for each in ("fleetwork", "psycopg"):
        try:
            helpers() if each == "fleetwork" else importlib.import_module(each)
        except ImportError as error:
            raise Skipped(f"{error.name} is not installed") from None
    if helpers().postgres_folder() is None:
        raise Skipped("Postgres is not installed")
    memory = MEMORY if MEMORY.is_dir() and not on_disk else folder
    if memory == folder:
        for top in (folder, folder.parent):
            top.chmod(0o711)  # both were made for this; Postgres is another user
    alone = (needs("unshare"), "--net") if os.geteuid() == 0 else ()
    argv = (*alone, sys.executable, "-m", "benchmarks.fleet_world")
    with (
        tempfile.TemporaryDirectory(dir=memory) as place,
        subprocess.Popen(
            (*argv, place),
            cwd=PROJECT,
            env={**os.environ, "TMPDIR": place},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        try:
            if not process.stdout or not (line := process.stdout.readline()):
                raise Skipped("Postgres could not be started")
            yield World(**json.loads(line))
        finally:
            process.communicate()  # the end of its standard input is its end


def serve(place: Path) -> None:
    """Be a world until standard input ends."""
    from benchmarks import fleet_hosts

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    own = os.geteuid() == 0
    place.chmod(0o711)  # Postgres is another user
    if own:
        subprocess.run([needs("ip"), "link", "set", "lo", "up"], check=True)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(helpers().postgres(everywhere=own))
        hosts, address = place / "hosts", place / "address"
        hosts.mkdir()
        make_store(server.dsn)
        farm = os.fork()
        if not farm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it ends with this one
            fleet_hosts.serve(address, hosts)
        stack.callback(os.waitpid, farm, 0)
        stack.callback(os.kill, farm, signal.SIGKILL)
        network = os.getpid() if own else 0
        found = World(
            network, server.dsn, str(server.folder), server.port, str(hosts), str(address)
        )
        print(json.dumps(asdict(found)), flush=True)
        sys.stdin.read()


def make_store(dsn: str) -> None:
    """Its tables, and what watches over it."""
    import psycopg

    from miyabi_healing.fleet.open_store import open_store

    store = open_store(dsn, Path(os.devnull))
    store.standings()
    store.close()
    with psycopg.connect(dsn, autocommit=True) as to:
        to.execute(_AUDIT)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
