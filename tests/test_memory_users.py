"""Who uses the memory: summed by program, never by the name of a thread, and each page once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import wait_for
from miyabi_healing.host import memory_users
from miyabi_healing.host.process_status import Process, read_process

MEGABYTE = 1 << 20
# a program that holds so many megabytes, shares them with a child, and has renamed its main thread
HOLDS = (
    "import ctypes, os, sys, time\n"
    "ctypes.CDLL(None).prctl(15, b'MainThread', 0, 0, 0)\n"
    "x = b'x' * (int(sys.argv[1]) << 20)\n"
    "child = os.fork() if sys.argv[2:] else 1\n"
    "print(child, flush=True) if child else None\n"
    "time.sleep(600)\n"
)
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's /proc")
Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a script of this name and wait until it has its memory."""
    started: list[subprocess.Popen[str]] = []

    def begin(name: str, *arguments: object) -> Process:
        script = tmp_path / name
        script.write_text(HOLDS)
        command = [sys.executable, "-S", str(script), *map(str, arguments)]
        started.append(
            subprocess.Popen(
                command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True
            )
        )
        assert started[-1].stdout
        assert started[-1].stdout.readline()
        process = read_process(started[-1].pid)
        assert process
        return process

    yield begin
    for each in started:
        os.killpg(each.pid, 9)
        each.communicate()


def children(parent: Process) -> list[Process]:
    names = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    return [process for name in names if (process := read_process(int(name)))]


def test_processes_are_summed_by_program_and_not_by_the_name_of_a_thread(start: Start) -> None:
    servers = [start("bundler-server.py", 30), start("bundler-server.py", 20)]
    one = start("watcher", 40)
    found = memory_users.group_by_program([one, *servers])
    assert [(each.program, len(each.processes)) for each in found] == [
        ("bundler-server", 2),
        ("watcher", 1),
    ]
    assert 50 * MEGABYTE < found[0].bytes < 80 * MEGABYTE
    assert found[0].processes[0] == servers[0]
    assert found[0].seconds < 60


def test_a_page_that_is_shared_counts_once(start: Start) -> None:
    parent = start("forking", 60, "fork")
    (found,) = memory_users.group_by_program([parent, *children(parent)])
    assert len(found.processes) == 2
    assert found.exact
    assert found.bytes < 90 * MEGABYTE


def test_only_the_largest_are_measured_closely_and_nobody_is_left_out(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = start("small", 20), start("large", 40)
    monkeypatch.setattr(memory_users, "_MOST_MEASURED", 1)
    found = memory_users.group_by_program([small, large])
    assert [(each.program, each.exact) for each in found] == [("large", True), ("small", False)]
    assert "about" in found[1].text
    assert 20 * MEGABYTE < found[1].bytes < 32 * MEGABYTE


def test_row_names_program_count_size_age_and_folder(start: Start, tmp_path: Path) -> None:
    (found,) = memory_users.located(memory_users.group_by_program([start("bundler-server", 30)]))
    assert found.row["name"] == "bundler-server"
    assert found.text.startswith("bundler-server, ")
    assert str(tmp_path) in found.text
    assert f"for {found.seconds:.0f} s" in found.text


@pytest.fixture
def container() -> Iterator[Path]:
    """A real control group that is called like a container's, where this machine lets us make
    one.
    """
    top = Path("/sys/fs/cgroup/memory")
    own = (top if top.is_dir() else top.parent) / f"miyabi-test-{os.getpid()}"
    folder = own / "docker" / ("0123456789abcdef" * 4)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield folder
    for each in (folder, folder.parent, own):
        wait_for(lambda each=each: not (each / "cgroup.procs").read_text())
        subprocess.run(["rmdir", each], check=True)


@pytest.mark.root
def test_program_in_a_container_is_apart_and_its_container_is_summed(
    container: Path, start: Start
) -> None:
    inside, other = start("server-of-a-test", 30), start("worker-of-a-test", 50)
    outside = start("server-of-a-test", 20)
    for each in (inside, other):
        (container / "cgroup.procs").write_text(str(each.pid))
    found = memory_users.group_by_program([inside, other, outside])
    assert [(each.program, each.place) for each in found] == [
        ("worker-of-a-test", "container 0123456789ab"),
        ("server-of-a-test", "container 0123456789ab"),
        ("server-of-a-test", memory_users.place_of(outside.pid)),
    ]
    assert found[0].place_bytes == found[0].bytes + found[1].bytes
    assert "container 0123456789ab (" in found[1].text


def test_who_has_gone_is_nobody() -> None:
    gone = Process(2**22 + 1, 1, 1, "gone", "S", 1, 0, 0, 1)
    assert memory_users.group_by_program([gone]) == ()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/system.slice/nginx.service", "nginx.service"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/mcp.service", "mcp.service"),
        (f"/system.slice/docker-{'0123456789abcdef' * 4}.scope", "container 0123456789ab"),
        (f"/docker/{'0123456789abcdef' * 4}/init.scope", "container 0123456789ab"),
        ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
        ("/", ""),
        ("/user.slice/made-by-hand", ""),
    ],
)
def test_unit_or_container_is_read_off_the_group(path: str, name: str) -> None:
    for hierarchy in ("", "name=systemd"):
        assert memory_users.place_name({hierarchy: path}) == name
