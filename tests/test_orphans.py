"""Orphans: told from what is meant to stay and from what somebody uses, named, and ended only by a
pattern.
"""

from __future__ import annotations

import json
import os
import pty
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gatework
import psutil
import pytest
from orphanwork import Nursery, host, nursery
from program import environment, settings

from conftest import PROJECT, wait_for
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.host import catalogue, clients, deliberate, orphan_families, reparented
from miyabi_healing.host.context import HealerContext
from miyabi_healing.host.explain import orphans as orphan_explainer
from miyabi_healing.host.explain.question import Question
from miyabi_healing.host.orphan_families import look_again
from miyabi_healing.host.orphan_groups import Family
from miyabi_healing.host.orphans import Orphans
from miyabi_healing.host.process_status import Process, read_process
from miyabi_healing.model.actions import Outcome
from miyabi_healing.model.config import Budgets
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.plan import Plan
from miyabi_healing.model.steps import Signal
from miyabi_healing.runner import registry
from miyabi_healing.state import run_clock

assert nursery
Start = Callable[..., psutil.Popen]
LISTEN = """
import socket
there = socket.socket({family})
there.bind({address})
there.listen()
"""


def found(minutes: float = 0, *protected: str) -> Orphans:
    return host(minutes, *protected).orphans()


def pids(orphans: Orphans) -> set[int]:
    return {family.root.pid for family in orphans.families}


def in_use(orphans: Orphans) -> dict[int, str]:
    groups = orphans.in_use
    return {each.root.pid: each.client for group in groups for each in group.families}


def why(process: Process) -> str:
    said = look_again(process)
    return said if isinstance(said, str) else said.client


# What is an orphan


def test_helpers_of_an_agent_that_is_gone_are_named(nursery: Nursery) -> None:
    (nursery.folder / "app").mkdir()
    many = [
        nursery.orphan("playwright-mcp", 30, cwd=nursery.folder / "app",
                       streams="stdin=subprocess.PIPE, stdout=subprocess.PIPE")
        for _ in range(3)
    ]  # fmt: skip
    orphans = found()
    (group,) = orphans.groups
    assert pids(orphans) == {each.pid for each in many}
    assert 90 < orphans.megabytes < 150
    assert group.name == "playwright-mcp"
    assert str(orphans).startswith("3 orphaned process(es) take ")
    assert "3 × playwright-mcp (" in str(orphans)
    assert f"in {nursery.folder}/app)" in str(orphans)
    assert len(orphans.notes) == 1
    os.rmdir(nursery.folder / "app")
    assert f"in {nursery.folder}/app, which is gone)" in str(found())


def test_young_ones_do_not_count_but_many_are_a_note(nursery: Nursery) -> None:
    for _ in range(3):
        nursery.orphan()
    orphans = found(60)
    assert orphans.megabytes == 0
    (note,) = orphans.notes
    assert note.startswith("3 × some-mcp (")
    assert note.endswith("too young to count")


def test_one_alone_counts_only_where_it_is_large_and_idle(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = nursery.orphan("one-mcp", 30)
    busy = nursery.orphan("train", 30, after="while True: pass")
    assert pids(found()) == set()
    for module in (reparented, orphan_families):
        monkeypatch.setattr(module, "LARGE", 20 << 20)
    assert pids(found()) == {idle.pid}
    os.kill(busy.pid, 9)


def test_several_at_work_are_named_as_such(nursery: Nursery) -> None:
    for _ in range(2):
        nursery.orphan("spins", after="while True: pass")
    assert ", 2 at work)" in str(found())


def test_family_is_named_after_what_a_package_runner_started(nursery: Nursery) -> None:
    for _ in range(2):
        nursery.orphan("context7-mcp", by=("sh", "-c", '"$@"; true', "sh"))
    (group,) = found().groups
    assert (group.name, [len(each.members) for each in group.families]) == ("context7-mcp", [2, 2])
    below = group.families[0].members[1]
    assert isinstance(said := look_again(below), Family)
    assert said.root == group.families[0].root


# What is none


def test_process_whose_parent_or_session_lives_is_none(nursery: Nursery, start: Start) -> None:
    ours = [nursery.orphan(session=False) for _ in range(2)]
    assert found().groups == ()
    # whoever began this test run, and with it its session, can be gone
    assert why(ours[0]) in ("the leader of its session lives", "it is this program's own")
    with nursery.session_that_lives() as process:
        assert why(process) == "the leader of its session lives"
    child = subprocess.Popen(["sh", "-c", "sleep 600 & wait"], start_new_session=True)
    wait_for(lambda: len(psutil.Process(child.pid).children()) == 1)
    below = read_process(psutil.Process(child.pid).children()[0].pid)
    assert below is not None
    try:
        assert why(below) in ("its parent lives", "")
        assert all(each.pid != below.pid for each in reparented.reparented_processes())
    finally:
        os.killpg(child.pid, 9)
        child.wait()


def test_process_with_a_terminal_is_none(nursery: Nursery) -> None:
    master, slave = pty.openpty()
    take = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
    held = nursery.orphan(before=take, streams="stdout=-3, stderr=-3", stdin=slave)
    assert held.tty
    assert why(held) == "it has a terminal"
    os.close(slave)
    os.close(master)


def test_process_that_shows_something_on_a_terminal_is_in_use(nursery: Nursery) -> None:
    master, slave = pty.openpty()
    shows = [nursery.orphan(streams="stdin=-3, stderr=-3", stdout=slave) for _ in range(2)]
    os.close(slave)
    assert pids(found()) == set()
    assert why(shows[0]).startswith("it has the terminal /dev/pts/")
    os.close(master)
    assert pids(found()) == {each.pid for each in shows}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"by": ("nohup",)}, "it ignores SIGHUP, as by nohup"),
        ({"name": "gpg-agent"}, "gpg-agent is a program that is meant to stay"),
        ({"name": "server-main.js"}, "server-main is a program that is meant to stay"),
        ({"name": "postgres"}, "postgres is protected"),
        ({"name": "my-daemon"}, "my-daemon is protected"),
    ],
)
def test_what_is_meant_to_stay_is_none(
    nursery: Nursery, options: dict[str, Any], said: str
) -> None:
    twice = [nursery.orphan(**options) for _ in range(2)]
    assert found(0, "my-daemon") == Orphans()
    assert said in str(look_again(twice[0], ("my-daemon",)))


def test_daemon_with_a_pid_file_is_none(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliberate, "_RUN", str(nursery.folder / "run"))
    (nursery.folder / "run" / "deeper").mkdir(parents=True)
    twice = [nursery.orphan() for _ in range(2)]
    assert len(pids(found())) == 2
    (nursery.folder / "run" / "deeper" / "some.pid").write_text(f"{twice[0].pid}\n")
    os.mkfifo(nursery.folder / "run" / "other.pid")
    assert pids(found()) == set()  # the other one is alone, and small
    assert why(twice[0]) == f"it is a daemon: {nursery.folder}/run/deeper/some.pid names it"


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/", ""),
        ("/init.scope", ""),
        ("/user.slice/user-1000.slice/session-3.scope", ""),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice", ""),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-code-1.scope", ""),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-code-42.scope",
         "app-gnome-code-42.scope"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/mine.service", "mine.service"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/run-u5.scope", "run-u5.scope"),
        ("/system.slice/nginx.service", "nginx.service"),
        ("/system.slice/docker-0123.scope", "docker-0123.scope"),
        ("/docker/0123456789ab", "/docker/0123456789ab"),
    ],
)  # fmt: skip
def test_unit_of_its_own_is_told_from_a_login_and_an_app(
    path: str, unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reparented, "cgroup_of", lambda pid: path)
    assert reparented.own_unit(42, "/init.scope") == unit


@pytest.mark.root
def test_what_a_service_has_left_is_the_services(nursery: Nursery) -> None:
    top = Path("/sys/fs/cgroup/systemd")
    folder = (top if top.is_dir() else Path("/sys/fs/cgroup")) / f"miyabi-{os.getpid()}.service"
    twice = [nursery.orphan() for _ in range(2)]
    try:
        folder.mkdir()
        for each in twice:
            (folder / "cgroup.procs").write_text(str(each.pid))
    except OSError:
        pytest.skip("cannot make a control group here")
    try:
        assert found().groups == ()
        assert why(twice[0]) == f"it is in {folder.name}"
    finally:
        nursery.end()
        subprocess.run(["rmdir", str(folder)], check=True)


# Who has a client


def test_pipe_counts_while_anybody_has_its_other_end(nursery: Nursery) -> None:
    read, write = os.pipe()
    twice = [nursery.orphan(streams="stdout=-3", stdin=read) for _ in range(2)]
    os.close(read)
    assert pids(found()) == set()
    assert set(in_use(found())) == {each.pid for each in twice}
    assert f"(pid {os.getpid()})" in why(twice[0]) or "somebody" in why(twice[0])
    os.close(write)
    assert pids(found()) == {each.pid for each in twice}
    read, write = os.pipe()
    writes = nursery.orphan(streams="stdin=-3", stdout=write)
    os.close(write)
    assert why(writes)
    os.close(read)
    assert why(writes) == ""


def test_named_pipe_counts_as_well(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "_sees_everybody", lambda: True)
    fifo = nursery.folder / "fifo"
    os.mkfifo(fifo)
    mine = os.open(fifo, os.O_RDWR)
    theirs = os.open(fifo, os.O_RDONLY)
    reads = nursery.orphan(streams="stdout=-3", stdin=theirs)
    os.close(theirs)
    assert why(reads)
    os.close(mine)
    assert why(reads) == ""
    monkeypatch.setattr(clients, "_sees_everybody", lambda: False)
    assert why(reads) == "somebody may write to its FIFO"


def test_socket_counts_while_its_peer_is_there(nursery: Nursery) -> None:
    ours, theirs = socket.socketpair()
    helper = nursery.orphan(streams="stdout=-3", stdin=theirs)
    theirs.close()
    assert "is at the other end of its socket" in why(helper)
    ours.close()
    assert why(helper) == ""


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_server_has_a_client_as_long_as_one_is_connected(nursery: Nursery, kind: str) -> None:
    if kind == "unix":
        family, address = "socket.AF_UNIX", str(nursery.folder / "s")
    else:
        family = "socket.AF_INET"
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = free.getsockname()
    accept = LISTEN.format(family=family, address=repr(address))
    server = nursery.orphan(before=accept, after="mine, _ = there.accept()")
    assert why(server) == ""
    client = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
    client.connect(address)
    wait_for(lambda: why(server).startswith(f"{name_of_us()} (pid {os.getpid()}) is at the other"))
    client.close()
    wait_for(lambda: why(server) == "")


def name_of_us() -> str:
    from miyabi_healing.host.programs import program_name

    us = read_process(os.getpid())
    assert us is not None
    return program_name(us)


def test_who_waits_to_be_let_in_is_a_client(nursery: Nursery) -> None:
    address = str(nursery.folder / "s")
    listen = LISTEN.format(family="socket.AF_UNIX", address=repr(address))
    server = nursery.orphan(before=listen)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        assert why(server) == f"somebody waits at its socket {address}"
    nursery.end()


def test_being_connected_to_what_takes_from_everybody_is_no_client(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(nursery.folder / "journal")
    with socket.socket(socket.AF_UNIX) as log:
        log.bind(address)
        log.listen()
        connect = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({address!r})"
        helper = nursery.orphan(before=connect)
        served, _ = log.accept()
        assert why(helper)
        monkeypatch.setattr(catalogue, "words", lambda *_: frozenset({address}))
        assert orphan_client(helper) == ""
        served.close()


def orphan_client(process: Process) -> str:
    from miyabi_healing.host.clients import clients_of

    (found,) = clients_of([[process]])
    return found


def test_connection_that_was_reset_is_none(nursery: Nursery) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect = (
            "import socket; s = socket.create_connection"
            f"({server.getsockname()!r}); s.send(b'x' * 100)"
        )
        helper = nursery.orphan(before=connect)
        served, _ = server.accept()
        assert why(helper)
        served.close()  # with what was sent unread: it is reset
    assert why(helper) == ""


def test_orphans_are_no_clients_of_each_other_but_lead_to_one(nursery: Nursery) -> None:
    one, two = socket.socketpair()
    read, write = os.pipe()
    first = nursery.orphan("a-mcp", streams="stdout=-3", stdin=one)
    second = nursery.orphan("b-mcp", streams=f"stdin=sys.stdin, stdout={write}, pass_fds=()",
                            stdin=two, pass_fds=(write,))  # fmt: skip
    for each in (one, two):
        each.close()
    os.close(write)
    assert why(second)
    assert why(first).startswith("it is connected with another one, of which: ")
    os.close(read)
    assert (why(first), why(second)) == ("", "")


def test_what_cannot_be_looked_into_may_have_a_client(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = nursery.orphan()
    listdir = os.listdir

    def refuse(path: str) -> list[str]:
        if path == f"/proc/{helper.pid}/fd":
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    assert orphan_client(helper) == "what it has open cannot be seen: Permission denied"


@pytest.mark.root
def test_connection_in_another_network_namespace_may_be_one(nursery: Nursery) -> None:
    if not shutil.which("unshare"):
        pytest.skip("needs unshare")
    listen = LISTEN.format(family="socket.AF_INET", address="('127.0.0.1', 0)")
    helper = nursery.orphan(by=("unshare", "--net"), before=listen)
    assert why(helper) == "its connections are in another network namespace"


# The healer


def plan(orphans: Orphans, *may_end: str, patience: float = 5) -> Plan:
    healer, options = registry.load_healer(
        "end_orphans", registry.builtin("healers") / "end_orphans.py"
    )
    assert options is not None
    context = HealerContext(host(), {"orphans": orphans})
    issue = Issue("orphaned_processes", "", "", orphans.megabytes, Limit(0))
    made = healer(context, issue, options(may_end, patience))
    assert isinstance(made, Plan)
    return made


def carry_out(made: Plan, folder: Path) -> list[Outcome]:
    context = Context(host(), "run", folder / "state")
    return gatework.carry_out(made, context, budgets=Budgets(processes=100))


def lives(process: Process) -> bool:
    now = read_process(process.pid)
    return now is not None and now.start == process.start and now.state not in "ZX"


def test_named_ones_are_ended_and_their_memory_is_back(nursery: Nursery, tmp_path: Path) -> None:
    go = [nursery.orphan("playwright-mcp", 30) for _ in range(3)]
    stay = [nursery.orphan("other-server", 1) for _ in range(2)]
    made = plan(found(), "*-mcp")
    assert {each.reason for each in made.kept} == {"not asked for"}
    outcomes = carry_out(made, tmp_path)
    assert [each.status for each in outcomes] == ["applied"] * 3 + ["not needed"] * 3
    assert not any(map(lives, go))
    assert all(map(lives, stay))
    assert pids(found()) == {each.pid for each in stay}
    assert found().megabytes < 30


def test_nothing_is_ended_that_was_not_named(nursery: Nursery) -> None:
    for _ in range(2):
        nursery.orphan("playwright-mcp")
    made = plan(found())
    assert made.steps == ()
    (row,) = made.details["orphans"]  # type: ignore[misc]
    assert (row["program"], row["count"]) == ("playwright-mcp", 2)


def test_what_ignores_the_first_signal_is_killed_after_its_time(
    nursery: Nursery, tmp_path: Path
) -> None:
    deaf = [
        nursery.orphan("deaf-mcp", before="signal.signal(signal.SIGTERM, signal.SIG_IGN)")
        for _ in range(2)
    ]
    outcomes = carry_out(plan(found(), "deaf-mcp", patience=0.3), tmp_path)
    sent = [each.step.signal for each in outcomes if isinstance(each.step, Signal)]
    assert sent == [15, 15, 9, 9]
    assert not any(map(lives, deaf))
    assert [each.status for each in outcomes] == ["applied"] * 4


def test_nobody_is_killed_whom_the_budget_let_nobody_ask(nursery: Nursery, tmp_path: Path) -> None:
    twice = [nursery.orphan() for _ in range(2)]
    context = Context(host(), "run", tmp_path / "state")
    made = plan(found(), "*")
    outcomes = gatework.carry_out(made, context, budgets=Budgets(processes=1))
    assert sum(map(lives, twice)) == 1
    assert "budget: 1 processes a run" in {each.message for each in outcomes}


def test_each_has_its_time_to_end_also_where_the_budget_stops_the_rest(
    nursery: Nursery, tmp_path: Path
) -> None:
    slow = f"""
def end(*_):
    time.sleep(0.3)
    open({str(tmp_path / "tidied up")!r} + str(os.getpid()), "w")
    os._exit(0)
signal.signal(signal.SIGTERM, end)
"""
    for _ in range(2):
        nursery.orphan(before=slow)
    context = Context(host(), "run", tmp_path / "state")
    gatework.carry_out(plan(found(), "*"), context, budgets=Budgets(processes=1))
    assert len(list(tmp_path.glob("tidied up*"))) == 1


def test_nobody_is_killed_who_was_not_asked(nursery: Nursery) -> None:
    read, write = os.pipe()
    twice = [nursery.orphan(streams="stdout=-3", stdin=read) for _ in range(2)]
    os.close(read)
    made = plan(Orphans(groups=found().in_use), "*")
    assert "it is in use" in str(made.steps[0].guard())
    os.close(write)
    assert pids(found()) == {each.pid for each in twice}
    assert made.steps[2].guard() == "it was not asked to end"
    assert made.steps[0].guard() is None


def test_client_that_has_come_meanwhile_keeps_it(nursery: Nursery, tmp_path: Path) -> None:
    address = str(nursery.folder / "s")
    listen = LISTEN.format(family="socket.AF_UNIX", address=repr(address))
    server = nursery.orphan("a-mcp", before=listen, after="mine, _ = there.accept()")
    other = nursery.orphan("a-mcp")
    made = plan(found(), "*-mcp", patience=0.2)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        said = {each.step.target: each.message for each in carry_out(made, tmp_path)}
    assert (lives(server), lives(other)) == (True, False)
    assert any(text.startswith("it is in use: ") for text in said.values())


def test_whole_family_ends_and_a_shell_by_itself(nursery: Nursery, tmp_path: Path) -> None:
    twice = [nursery.orphan(by=("sh", "-c", '"$@"; true', "sh")) for _ in range(2)]
    shells = [family.root for family in found().families]
    assert [each.name for each in shells] == ["sh", "sh"]
    carry_out(plan(found(), "some-mcp"), tmp_path)
    assert not any(map(lives, twice))
    wait_for(lambda: not any(map(lives, shells)))


def test_program_below_which_an_agent_lives_is_none(nursery: Nursery) -> None:
    sleep = shutil.which("sleep")
    assert sleep
    shutil.copy(sleep, nursery.folder / "claude")
    start = "import subprocess; subprocess.Popen([{!r}, '600'])"
    for _ in range(2):
        nursery.orphan(after=start.format(str(nursery.folder / "claude")))
        nursery.orphan("other-mcp", after=start.format(sleep))
    wait_for(lambda: [each.name for each in found().groups] == ["other-mcp"])
    nursery.known += [each.pid for each in reparented.below(os.getpid())]


@pytest.mark.parametrize("device", ["/dev/fuse", "/dev/net/tun"])
def test_what_the_kernel_asks_on_behalf_of_others_is_in_use(nursery: Nursery, device: str) -> None:
    if not os.access(device, os.W_OK):
        pytest.skip(f"needs {device}")
    for _ in range(2):
        nursery.orphan(before=f"os.open({device!r}, os.O_RDWR)")
    (group,) = found().in_use
    assert device in group.families[0].client
    assert not found().groups


NEVER = (
    "claude codex aider cursor-agent code nvim emacs tmux screen postgres mysqld redis-server "
    "dockerd containerd sshd gitlab-runner Runner.Listener gpg-agent ssh-agent dbus-daemon bazel "
    "syncthing"
).split()


def test_none_of_these_is_ever_ended_even_where_all_may_be(nursery: Nursery) -> None:
    sleep = shutil.which("sleep")
    assert sleep
    for name in (*NEVER, "some-mcp"):
        shutil.copy(sleep, nursery.folder / name)
        for _ in range(2):
            subprocess.run(
                ["sh", "-c", f"setsid ./{name} 600 >/dev/null 2>&1 </dev/null & echo $!"],
                cwd=nursery.folder, check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip

    def names() -> list[str]:
        mine = reparented.below(os.getpid(), deep=False)
        return [each.name for each in mine if each.name[:6] in str(NEVER) + "some-mcp"]

    wait_for(lambda: len(names()) >= 2 * len(NEVER) + 2)
    nursery.known += [each.pid for each in reparented.below(os.getpid(), deep=False)]
    made = plan(found(), "*")
    ended = {each.pid for each in made.steps if isinstance(each, Signal)}
    assert {read.name for pid in ended if (read := read_process(pid))} == {"some-mcp"}


def test_how_much_it_looks_at_where_nobody_is_orphaned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run asks: what it does not need is not even loaded."""
    code = (
        "import sys; from miyabi_healing.host.readings import Host;"
        "from miyabi_healing.host import reparented;"
        "from miyabi_healing.model.config import Config;"
        "import os; reparented.INIT = os.getpid();"
        "assert Host(Config()).orphans().megabytes == 0;"
        "print(*[each for each in sys.modules if each.startswith('miyabi_healing.host')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {each.removeprefix("miyabi_healing.host.") for each in done.stdout.split()[1:]}
    assert loaded == {"readings", "orphans", "process_status", "reparented"}


def test_question_about_one_is_answered(nursery: Nursery) -> None:
    read, write = os.pipe()
    served = nursery.orphan(streams="stdout=-3", stdin=read)
    os.close(read)
    assert answer(served) == "it is left alone: it is in use, or could be: " + why(served)
    os.close(write)
    nursery.orphan()
    said = answer(served)
    assert said == "it is left alone: not asked for: its program is not named in may_end"
    daemon = nursery.orphan("gpg-agent")
    assert answer(daemon) == (
        "its parent is gone, but it is no orphan: gpg-agent is a program that is meant to stay"
    )
    us = read_process(os.getpid())
    assert us is not None
    assert answer(us) == ""


def answer(process: Process) -> str:
    question = Question(
        word=str(process.pid),
        path=Path("/"),
        pid=process.pid,
        config=host().config,
        state=Path("/nowhere"),
        now=run_clock.unknown_moment(),
        program="healing",
        options=lambda healer: None,
        plan=lambda healer, reading: plan(reading),  # type: ignore[arg-type]
    )
    found = orphan_explainer.explain(question)
    return found.verdict if found else ""


WORLD = """
import os, subprocess, sys
subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
script = os.fork()
if script == 0:
    os.setsid()
    os.execv("/bin/sh", ["sh", "-c", sys.argv[1]])
while os.wait()[0] != script:
    pass
"""


@pytest.mark.root
def test_whole_program_names_them_in_every_format_and_ends_them_where_asked(home: Path) -> None:
    if not shutil.which("unshare"):
        pytest.skip("needs unshare")
    script = Nursery(home).script("playwright-mcp", 10)
    text = (
        "[processes]\norphan_minutes = 0\n[checks.orphaned_processes]\nthreshold = 20\n"
        "[healers.end_orphans]\nmay_end = {}\n"
    )
    (home / "asked").mkdir()
    kept, asked = (
        settings(home, text.format("[]")),
        settings(home / "asked", text.format('["*-mcp"]')),
    )
    healer = f"{sys.executable} {PROJECT}/self_healer.py"
    commands = f"""
for each in 1 2 3; do
  (setsid {sys.executable} -S {script} {home}/ready$each </dev/null >/dev/null 2>&1 &)
done
until [ -e {home}/ready1 ] && [ -e {home}/ready2 ] && [ -e {home}/ready3 ]; do sleep 0.02; done
cd {home}
{healer} --config {kept} --nagios >{home}/nagios
{healer} --config {kept} >{home}/text
{healer} --config {asked} --json >{home}/json
for each in {home}/ready?; do kill -0 $(cat $each) 2>/dev/null && echo $each >>{home}/left; done
exit 0
"""
    unshare = ["unshare", "--pid", "--mount", "--fork", "--kill-child", "--propagation", "private"]
    subprocess.run(
        [*unshare, sys.executable, "-S", "-c", WORLD, commands],
        env=environment(), check=True, timeout=100, cwd=home,
    )  # fmt: skip
    assert "3 × playwright-mcp (" in (home / "nagios").read_text()
    said = " ".join((home / "text").read_text().split())
    assert "3 × playwright-mcp (" in said
    assert "its program is not named in may_end" in said
    document = json.loads((home / "json").read_text())
    (action,) = document["actions_taken"]
    assert (action["action"], action["status"]) == ("end_orphans", "success")
    assert action["details"]["orphans"][0]["program"] == "playwright-mcp"
    assert action["details"]["processes_signalled"] == 3
    assert not (home / "left").exists()
