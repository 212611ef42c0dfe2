"""Processes: read right, protected right, and zombies reaped by the gentlest means that works."""

from __future__ import annotations

import math
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import gatework
import psutil
import pytest

from conftest import PROJECT, wait_for
from miyabi_healing.gate.handlers import signal as signal_handler
from miyabi_healing.gate.handlers.table import apply, recheck
from miyabi_healing.gate.primitives.context import Context, Refused
from miyabi_healing.host import memory_users, process_status, processes
from miyabi_healing.host.context import HealerContext
from miyabi_healing.host.open_files import scan_open_files
from miyabi_healing.host.process_status import Process, parse_stat, read_process, read_psutil
from miyabi_healing.host.processes import Processes
from miyabi_healing.host.readings import Host
from miyabi_healing.model.actions import ActionResult, Outcome
from miyabi_healing.model.config import Budgets, Config
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.plan import Goal, Plan
from miyabi_healing.model.steps import Signal
from miyabi_healing.runner import registry

CARELESS = (
    "import os, time\nfor _ in range({n}):\n    if os.fork() == 0:\n        os._exit(0)\n"
    "time.sleep(600)\n"
)
COALESCING = """
import os, signal, sys, time
def reap(*_):
    if not ready: return
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0: return
        except ChildProcessError: return
ready = False
signal.signal(signal.SIGCHLD, reap)
for _ in range(6):
    if os.fork() == 0:
        os._exit(0)
time.sleep(0.2)
ready = True
open(sys.argv[1], "w").close()
while True: time.sleep(1)
"""
BUSY_LEADER = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
ctypes.CDLL(None).syscall(60, 0)  # exit(2) of the first thread alone
"""
ONE_EACH = """
import os, signal, time
wait = False
signal.signal(signal.SIGCHLD, lambda *_: wait and os.waitpid(-1, os.WNOHANG))
for _ in range(5):
    if os.fork() == 0:
        os._exit(0)
time.sleep(0.2)
wait = True
while True: time.sleep(1)
"""
DEAF = "import signal\nsignal.signal(signal.SIGCHLD, lambda *_: None)\n"
REAPS_LATER = """
import os, time
while True:
    for _ in range(3):
        if os.fork() == 0:
            os._exit(0)
    time.sleep(0.5)
    for _ in range(3):
        os.wait()
    time.sleep(0.2)
"""
Start = Callable[..., psutil.Popen]


def python(start: Start, script: str) -> psutil.Popen:
    return start(sys.executable, "-S", "-c", script)


def seen(pid: int) -> Process:
    found = read_process(pid)
    assert found
    return found


def zombies_of(pid: int) -> int:
    return sum(each.ppid == pid for each in Processes().zombies(0.05))


def careless(start: Start, number: int = 4) -> psutil.Popen:
    parent = python(start, CARELESS.format(n=number))
    wait_for(lambda: zombies_of(parent.pid) == number)
    return parent


def plan(
    protected: tuple[str, ...] = (), age: float | None = 1000, clear: float = 4, **options: object
) -> Plan:
    """What the healer plans about the zombies that there are, had they been seen `age` seconds ago
    (None: never).
    """
    healer, kind = registry.load_healer(
        "kill_zombies", registry.builtin("healers") / "kill_zombies.py"
    )
    assert kind is not None
    old = [each for each in Processes().zombies(0) if each.ppid != 1 and age is not None]
    view = HealerContext(
        Host(Config()),
        {"processes": Processes(protected)},
        seen_for=lambda: {f"{each.pid} {each.start}": age or 0 for each in old},
    )
    issue = Issue("zombie_processes", "", "", 9, Limit(5, clear_at=clear))
    return healer(view, issue, kind(**options))


def only(found: Plan, pid: int) -> Plan:
    """The part of a plan that is about one parent: other zombies of the machine are none of a
    test's business.
    """
    steps = tuple(step for step in found.steps if isinstance(step, Signal) and step.pid == pid)
    goal = Goal("its zombies are reaped", lambda: zombies_of(pid) == 0)
    return Plan(steps, goal, done=found.done)


def signals(found: Plan) -> list[int]:
    return [step.signal for step in found.steps if isinstance(step, Signal)]


def kept(found: Plan, process: psutil.Popen) -> tuple[str, str]:
    """Why a plan leaves a parent alone: the short reason, and the whole one."""
    (each,) = (each for each in found.kept if each.target.endswith(f"(pid {process.pid})"))
    return each.reason, each.detail


def carry_out(found: Plan, state: Path, budget: int = 5) -> list[Outcome]:
    return gatework.carry_out(
        found, Context(Host(Config()), "run", state), budgets=Budgets(processes=budget)
    )


# Reading


def test_both_ways_of_reading_agree(start: Start) -> None:
    process = start("sleep", "100")
    ours, theirs = read_process(process.pid), read_psutil(process.pid)
    assert ours is not None
    assert theirs is not None
    for name in ("pid", "ppid", "name", "session", "uid", "threads"):
        assert getattr(ours, name) == getattr(theirs, name), name


def test_both_ways_of_finding_zombies_agree(start: Start, only_zombies: None) -> None:
    parent, leader = careless(start, 3), python(start, BUSY_LEADER)
    wait_for(lambda: (found := read_process(leader.pid)) is not None and found.state == "Z")
    ours = {each.pid for each in Processes().zombies(0.05)}
    theirs = {
        each.pid
        for each in psutil.process_iter(["status"])
        if each.info["status"] == psutil.STATUS_ZOMBIE
    }
    children = {each.pid for each in parent.children()}
    assert len(children) == 3
    assert children <= ours <= theirs
    assert leader.pid in theirs - ours  # its other threads live on


def test_both_ways_of_naming_programs_agree(start: Start, tmp_path: Path) -> None:
    script = tmp_path / "npm-cli.js"
    script.write_text("import sys, time; print(flush=True); time.sleep(100)")
    silent, end = os.pipe()
    retitled = start("npm ci", executable=shutil.which("cat"), stdin=silent)
    for process in (start("sleep", "100"), start(sys.executable, str(script), "", "ci"), retitled):
        ours, theirs = (
            process_status.command_line(process.pid),
            process_status.command_psutil(process.pid),
        )
        assert ours[0] == theirs[0]
        assert [each for each in ours[1] if each] == [each for each in theirs[1] if each]
    assert process_status.command_line(retitled.pid)[1] == ["npm", "ci"]
    os.close(silent)
    os.close(end)


def test_all_processes_are_those_that_ps_lists() -> None:
    listed = subprocess.run(
        ["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    theirs = {tuple(map(int, line.split())) for line in listed}
    ours = {(each.pid, each.ppid) for each in Processes().all()}
    assert len(ours ^ theirs) <= 12  # some come and go in between


def test_hostile_names_are_read_right() -> None:
    text = "7 (evil) R 1 (\n x) S 3 7 9 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 2 0 99 0 0"
    process = parse_stat(text, 5)
    assert (process.name, process.state, process.ppid, process.threads, process.start) == (
        "evil) R 1 (\n x",
        "S",
        3,
        2,
        99,
    )


def test_vanished_process_is_none() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert read_process(process.pid) is None


def test_open_files_tell_appenders_from_others(tmp_path: Path, start: Start) -> None:
    log = tmp_path / "a log"
    with log.open("ab") as appending, log.open("r+b") as writing, log.open("rb") as reading:
        for file in (appending, writing, reading):
            start("sleep", "100", stdin=file, cwd=tmp_path)
    status = log.stat()
    held = scan_open_files().of(status.st_dev, status.st_ino)
    assert sorted((each.writable, each.append) for each in held) == [
        (False, False),
        (True, False),
        (True, True),
    ]
    assert {each.path for each in scan_open_files().beneath(tmp_path)} == {str(tmp_path), str(log)}


def test_deleted_and_mapped_files_are_seen(tmp_path: Path, start: Start) -> None:
    file = tmp_path / "mapped"
    file.write_bytes(b"x" * 4096)
    status = file.stat()
    script = (
        f"import mmap, time; f = open({str(file)!r}, 'r+b'); m = mmap.mmap(f.fileno(), 0); "
        "f.close(); time.sleep(100)"
    )
    python(start, script)
    wait_for(lambda: scan_open_files().of(status.st_dev, status.st_ino))
    assert any(each.mapped for each in scan_open_files().of(status.st_dev, status.st_ino))
    file.unlink()
    assert scan_open_files().of(status.st_dev, status.st_ino)


# Zombies


@pytest.mark.usefixtures("only_zombies")
def test_lasting_zombies_count_and_passing_ones_do_not(start: Start) -> None:
    parent = careless(start, 3)
    quick = python(start, "import subprocess\nwhile True: subprocess.run(['true'])")
    assert all(zombies_of(quick.pid) == 0 for _ in range(5))
    assert zombies_of(parent.pid) == 3


def test_leader_whose_threads_live_on_is_no_zombie(start: Start) -> None:
    process = python(start, BUSY_LEADER)
    wait_for(lambda: (found := read_process(process.pid)) is not None and found.state == "Z")
    found = read_process(process.pid)
    assert found is not None
    assert not found.is_zombie


# Protection


def fake(**changes: object) -> Process:
    usual = {
        "pid": 999_999,
        "ppid": 1,
        "start": 1,
        "name": "x",
        "state": "S",
        "session": 999_999,
        "tty": 0,
        "uid": os.geteuid(),
    }
    return Process(**{**usual, "threads": 1, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pid": 1}, "it is init"),
        ({"pid": 0}, "it is init"),
        ({"kernel": True}, "it is a kernel thread"),
        ({"pid": os.getpid()}, "this program runs below it"),
        ({"pid": os.getppid()}, "this program runs below it"),
        ({"session": os.getsid(0)}, "it belongs to this program's own session"),
        ({"tty": 5}, "it leads a terminal session"),
    ],
)
def test_nobody_signals_these(changes: dict[str, object], reason: str) -> None:
    assert Processes().protection(fake(**changes)) == reason


def test_protected_by_name_of_the_list_and_of_the_configuration(
    start: Start, tmp_path: Path
) -> None:
    process = start("sleep", "100")
    found = read_process(process.pid)
    assert found is not None
    assert Processes().protection(found) is None
    assert Processes(("sleep",)).protection(found) == "sleep is protected"
    shutil.copy(shutil.which("sleep") or "", tmp_path / "sshd")
    daemon = start(str(tmp_path / "sshd"), "100")
    found = read_process(daemon.pid)
    assert found is not None
    assert Processes().protection(found) == "sshd is protected"


def test_renaming_itself_does_not_unprotect_a_program(start: Start) -> None:
    renamed = python(
        start, "import time; open('/proc/self/comm', 'w').write('harmless'); time.sleep(100)"
    )
    wait_for(lambda: psutil.Process(renamed.pid).name() == "harmless")
    found = read_process(renamed.pid)
    assert found is not None
    program = os.path.basename(psutil.Process(renamed.pid).exe())
    assert Processes((program,)).protection(found) == f"{program} is protected"


def test_leader_of_a_terminal_session_is_protected() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp("sleep", ["sleep", "100"])
    try:
        wait_for(lambda: psutil.Process(pid).name() == "sleep")
        found = read_process(pid)
        assert found is not None
        assert Processes().protection(found) == "it leads a terminal session"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


@pytest.mark.root
def test_init_of_a_container_is_protected(start: Start) -> None:
    process = start("unshare", "--pid", "--fork", "sleep", "100")
    wait_for(lambda: process.children())
    found = read_process(process.children()[0].pid)
    assert found is not None
    assert Processes().protection(found) == "it is the init of a container"


@pytest.mark.root
def test_ordinary_user_does_not_signal_others(start: Start) -> None:
    process = start("sleep", "100")
    script = (
        f"import os, sys; sys.path.insert(0, {str(PROJECT)!r})\n"
        "from miyabi_healing.host import catalogue\n"
        "from miyabi_healing.host.open_files import scan_open_files\n"
        "from miyabi_healing.host.processes import Processes\n"
        "from miyabi_healing.host.process_status import read_process\n"
        f"os.setuid(65534); print(Processes().protection(read_process({process.pid})), "
        "len(scan_open_files().unseen) > 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "it belongs to another user True", done.stderr


# The ladder


@pytest.mark.usefixtures("only_zombies")
def test_one_signal_cures_a_parent_that_missed_some(start: Start, tmp_path: Path) -> None:
    parent = start(sys.executable, "-S", "-c", COALESCING, str(tmp_path / "ready"))
    wait_for((tmp_path / "ready").exists)
    assert zombies_of(parent.pid) == 6
    found = only(plan(), parent.pid)
    assert signals(found) == [signal.SIGCHLD, signal.SIGTERM]
    outcomes = carry_out(found, tmp_path)
    assert [each.status for each in outcomes] == ["applied", "not needed"]
    assert parent.is_running()


@pytest.mark.usefixtures("only_zombies")
def test_parent_is_asked_again_as_long_as_that_helps(start: Start, tmp_path: Path) -> None:
    parent = python(start, ONE_EACH)
    wait_for(lambda: zombies_of(parent.pid) == 5)
    found = only(plan(age=None), parent.pid)
    assert signals(found) == [signal.SIGCHLD]
    (outcome,) = carry_out(found, tmp_path)
    assert outcome.details["times"] == 5
    assert outcome.measured == {"zombies_reaped": 5}
    assert found.done
    assert found.done(done_by(outcome)) == "5 zombie(s) reaped: asked 1 parent(s)"


@pytest.mark.usefixtures("only_zombies")
def test_parent_that_reaps_none_when_asked_is_asked_once(start: Start, tmp_path: Path) -> None:
    parent = python(start, DEAF + CARELESS.format(n=3))
    wait_for(lambda: zombies_of(parent.pid) == 3)
    first = plan(age=None)
    (outcome,) = carry_out(only(first, parent.pid), tmp_path)
    assert outcome.message == "it was asked, and reaped none"
    assert first.done
    assert first.done(done_by(outcome)) == "Asked 1 parent(s); no zombie was reaped"
    healer, kind = registry.load_healer(
        "kill_zombies", registry.builtin("healers") / "kill_zombies.py"
    )
    assert kind
    known = dict.fromkeys((*first.sightings, *first.tried()), 30.0)
    view = HealerContext(Host(Config()), {"": Processes()}, seen_for=lambda: known)
    later = healer(view, Issue("zombie_processes", "", "", 9, Limit(5)), kind())
    assert signals(only(later, parent.pid)) == []
    assert set(first.tried()) <= {*later.sightings}


@pytest.mark.usefixtures("only_zombies")
def test_parent_that_the_run_did_not_come_to_counts_as_not_asked(start: Start) -> None:
    parent = python(start, DEAF + CARELESS.format(n=3))
    wait_for(lambda: zombies_of(parent.pid) == 3)
    found = plan(age=None)
    (step,) = only(found, parent.pid).steps
    assert found.tried() == ()
    assert step.guard() is None
    assert len(found.tried()) == 3


@pytest.mark.usefixtures("only_zombies")
def test_zombie_whose_parent_is_outside_of_the_container_is_said_to_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dead = Process(7, 0, 1, "true", "Z", 7, 0, 0, 1)
    monkeypatch.setattr(Processes, "zombies", lambda *_: (dead,))
    (kept,) = plan().kept
    assert (kept.target, kept.reason) == ("pid 0", "out of sight")
    assert kept.detail == "1 zombie; their parent is outside of this container"


@pytest.mark.usefixtures("only_zombies")
def test_careless_parent_is_ended_and_its_zombies_are_reaped(start: Start, tmp_path: Path) -> None:
    parent = careless(start, 8)
    whole = plan()
    found = only(whole, parent.pid)
    assert signals(found) == [signal.SIGTERM], whole.kept
    (outcome,) = carry_out(found, tmp_path)
    assert outcome.status == "applied"
    assert parent.wait(5) == -signal.SIGTERM
    wait_for(lambda: zombies_of(parent.pid) == 0)
    assert outcome.details["ended"] is True


@pytest.mark.usefixtures("only_zombies")
def test_parent_whose_zombies_are_not_known_for_long_enough_is_kept(start: Start) -> None:
    parent = careless(start, 8)
    for age, words in ((None, "first seen now"), (59, "seen for 59 s")):
        found = plan(age=age)
        assert signals(only(found, parent.pid)) == []
        reason, detail = kept(found, parent)
        assert reason == "seen too shortly"
        assert detail.startswith("8 zombies (python")
        assert words in detail
        assert "the same ones for 1 min" in detail
    assert signals(only(plan(age=59, seen_for=59), parent.pid)) == [signal.SIGTERM]
    assert signals(only(plan(age=None, seen_for=0), parent.pid)) == [signal.SIGTERM]


@pytest.mark.usefixtures("only_zombies")
def test_worker_that_reaps_later_has_other_zombies_each_time(start: Start) -> None:
    worker = python(start, REAPS_LATER)
    wait_for(lambda: zombies_of(worker.pid) == 3)
    first = set(plan().sightings)
    wait_for(lambda: zombies_of(worker.pid) == 0)
    wait_for(lambda: zombies_of(worker.pid) == 3)
    now = [each for each in Processes().zombies(0) if each.ppid == worker.pid]
    assert len(now) == 3
    assert not {f"{each.pid} {each.start}" for each in now} & first


@pytest.mark.usefixtures("only_zombies")
def test_bystanders_with_one_zombie_each_are_kept(start: Start) -> None:
    parents = [careless(start, 1) for _ in range(5)]
    found = plan()
    for each in parents:
        assert signals(only(found, each.pid)) == []
        assert kept(found, each)[0] == "too few zombies"
    assert signals(only(plan(several=1), parents[0].pid)) == [signal.SIGTERM]


@pytest.mark.usefixtures("only_zombies")
def test_parent_with_living_children_is_kept_unless_asked_for(start: Start) -> None:
    script = "import subprocess\np = subprocess.Popen(['sleep', '600'])\n" + CARELESS.format(n=2)
    parent = python(start, script)
    wait_for(lambda: zombies_of(parent.pid) == 2)
    found = plan()
    assert signals(only(found, parent.pid)) == []
    assert kept(found, parent)[0] == "living children"
    assert signals(only(plan(with_children=True), parent.pid)) == [signal.SIGTERM]


@pytest.mark.usefixtures("only_zombies")
def test_protected_parent_is_kept_with_the_reason(start: Start) -> None:
    parent = careless(start, 2)
    found = plan(protected=(psutil.Process(parent.pid).name(),))
    assert signals(only(found, parent.pid)) == []
    reason, detail = kept(found, parent)
    assert reason == "protected"
    assert "2 zombies" in detail


@pytest.mark.usefixtures("only_zombies")
def test_sigkill_only_if_asked_for_and_last(start: Start, tmp_path: Path) -> None:
    parent = stubborn(start, 2)
    assert signals(only(plan(), parent.pid)) == [signal.SIGTERM]
    found = only(plan(kill=True, patience=0.1), parent.pid)
    assert signals(found) == [signal.SIGTERM, signal.SIGKILL]
    first, last = carry_out(found, tmp_path)
    assert first.message == "it has not ended within 0.1 s"
    assert first.measured == {"zombies_reaped": 0}
    assert (last.status, last.details["ended"]) == ("applied", True)


@pytest.mark.usefixtures("only_zombies")
def test_no_other_parent_is_ended_where_that_did_not_help(start: Start, tmp_path: Path) -> None:
    first, second = stubborn(start, 3), careless(start, 2)
    found = plan(patience=0.1)
    mine = tuple(
        each
        for each in found.steps
        if isinstance(each, Signal) and each.pid in (first.pid, second.pid)
    )
    one, other = carry_out(Plan(mine, Goal("never", lambda: False)), tmp_path)
    assert (one.status, other.status) == ("applied", "skipped")
    assert other.message.startswith("ending python")
    assert other.message.endswith("reaped none of its zombies: no other is ended")
    assert second.is_running()
    assert found.done
    assert found.done(done_by(one)) == "Sent 1 signal(s) to end one; no zombie was reaped"


@pytest.mark.usefixtures("only_zombies")
def test_nothing_more_is_ended_once_there_are_few_enough(start: Start, tmp_path: Path) -> None:
    first, second = careless(start, 6), careless(start, 2)
    others = len(Processes().zombies()) - 8
    found = plan(clear=others + 2.5)
    mine = [
        each
        for each in found.steps
        if isinstance(each, Signal) and each.pid in (first.pid, second.pid)
    ]
    assert [each.pid for each in mine] == [first.pid, second.pid]
    assert found.goal.text == f"no more than {others + 2} zombies are left"
    few = Goal("few are left", lambda: zombies_of(first.pid) + zombies_of(second.pid) <= 2)
    outcomes = carry_out(Plan(tuple(mine), few), tmp_path)
    assert [each.status for each in outcomes] == ["applied", "not needed"]
    assert second.is_running()


def test_nothing_is_ended_where_init_does_not_reap() -> None:
    """Then init would only have them instead."""
    lazy = fakes(1, 1, 2) + fakes(77, 9, 3)
    healer, kind = registry.load_healer(
        "kill_zombies", registry.builtin("healers") / "kill_zombies.py"
    )
    assert kind

    class Fake(Processes):
        def zombies(self, pause: float = 0) -> tuple[Process, ...]:
            return tuple(each for each in lazy if each.is_zombie)

        def all(self) -> tuple[Process, ...]:
            return lazy

        def protection(self, process: Process) -> str | None:
            return "it is init" if process.pid == 1 else None

    known = {f"{each.pid} {each.start}": 99.0 for each in lazy}
    view = HealerContext(Host(Config()), {"": Fake()}, seen_for=lambda: known)
    module = sys.modules[healer.__module__]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.process_ending, "objection", lambda process: None)
        patch.setattr(module, "container", lambda: "a container")
        found = healer(view, Issue("zombie_processes", "", "", 9, Limit(5)), kind())
    assert found.steps == ()
    reasons = {each.reason: each.detail for each in found.kept}
    assert "docker run --init" in reasons["protected"]
    assert "init, which would have them then, leaves 2 itself" in reasons["init does not reap"]


def fakes(parent: int, first: int, number: int) -> tuple[Process, ...]:
    """A parent with zombies."""
    dead = {"ppid": parent, "state": "Z"}
    above = fake(pid=parent, ppid=0)
    return (above, *(fake(pid=100 * first + each, **dead) for each in range(number)))


def stubborn(start: Start, number: int) -> psutil.Popen:
    ignore = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    parent = python(start, ignore + CARELESS.format(n=number))
    wait_for(lambda: zombies_of(parent.pid) == number)
    return parent


def done_by(*outcomes: Outcome) -> Counter[str]:
    issue = Issue("zombie_processes", "", "", 9, Limit(5))
    return ActionResult("kill_zombies", issue, outcomes=list(outcomes)).counts


# The gate


def step_for(process: psutil.Popen, signum: int = signal.SIGTERM, **changes: int) -> Signal:
    found = read_process(process.pid)
    assert found is not None
    return Signal(
        target="",
        reason="",
        **{"pid": process.pid, "start": found.start, "signal": signum, **changes},
    )  # type: ignore[arg-type]


def test_gate_refuses_what_a_careless_healer_plans(start: Start, tmp_path: Path) -> None:
    where = Context(Host(Config()), "run", tmp_path)
    process = start("sleep", "100")
    assert recheck(step_for(process), where) is None
    assert (
        recheck(step_for(process, signal.SIGSTOP), where)
        == "signal 19 is not one a healer may send"
    )
    assert recheck(step_for(process, start=1), where) == "its pid belongs to another process now"
    mine = read_process(os.getppid())
    assert mine is not None
    assert (
        recheck(Signal(target="", reason="", pid=mine.pid, start=mine.start, signal=15), where)
        == "this program runs below it"
    )
    init = read_process(1)
    assert init is not None
    assert (
        recheck(Signal(target="", reason="", pid=1, start=init.start, signal=15), where)
        == "it is init"
    )


def test_reused_pid_is_not_hit(start: Start, tmp_path: Path) -> None:
    where = Context(Host(Config()), "run", tmp_path)
    process = start("sleep", "100")
    with pytest.raises(Refused, match="another process"):
        apply(step_for(process, start=1), where)
    assert process.is_running()
    step = step_for(process)
    process.kill()
    process.wait()
    assert recheck(step, where) == "it has ended already"
    with pytest.raises(Refused):
        apply(step, where)


@pytest.mark.usefixtures("only_zombies")
def test_budget_of_processes_is_the_gates(start: Start, tmp_path: Path) -> None:
    parent = careless(start, 2)
    outcomes = carry_out(only(plan(), parent.pid), tmp_path, budget=0)
    assert [(each.status, each.message) for each in outcomes] == [
        ("vetoed", "budget: 0 processes a run")
    ]
    assert parent.is_running()
    assert (
        ActionResult(
            "kill_zombies", Issue("zombie_processes", "", "", 2, Limit(1)), outcomes=outcomes
        ).status
        == "skipped"
    )


def test_namespace_that_cannot_be_read_is_protected(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(process_status, "PROC", tmp_path)
    assert process_status.is_namespace_init(5) == "its namespaces cannot be read"
    assert not process_status.catches(5, signal.SIGCHLD)


def test_name_with_control_characters_forges_no_row_and_breaks_nothing(start: Start) -> None:
    renamed = "import ctypes, time; ctypes.CDLL(None).prctl(15, {!r}, 0, 0, 0); time.sleep(600)"
    for name in (b"a\rSigCgt:", b"a\rVmSwap:", b"a\x1cNSpid: 1"):
        process = python(start, renamed.format(name))
        wait_for(lambda: Path(f"/proc/{process.pid}/comm").read_bytes() == name + b"\n")  # noqa: B023
        assert not process_status.catches(process.pid, signal.SIGUSR1)
        assert process_status.is_namespace_init(process.pid) is None
        assert not list(memory_users.swap_by_program([seen(process.pid)]))


def test_process_that_is_listed_and_not_told_of_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As an ordinary user sees all others' with hidepid=1 (proc(5))."""

    def hidden(pid: int) -> Process | None:
        if pid != os.getpid():
            raise PermissionError(1, "Operation not permitted", f"/proc/{pid}/stat")
        return read_process(pid)

    monkeypatch.setattr(processes, "read_process", hidden)
    assert Processes().zombies(0) == ()
    assert [each.pid for each in Processes().all()] == [os.getpid()]
    assert Processes().running(["no-such-program"]) == ()
    assert Processes().protection(seen(os.getpid())) == "this program runs below it"


def test_many_zombies_of_one_that_reaps_one_a_signal_are_not_all_looked_at_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    zombies = [Process(pid, 9, 1, "true", "Z", 9, 0, 0, 1) for pid in range(100, 400)]
    left, looks = [each.pid for each in zombies[1:]], 0

    def look(pid: int) -> Process | None:
        nonlocal looks
        looks += 1
        return next((each for each in zombies if each.pid == pid and pid in left), None)

    monkeypatch.setattr(signal_handler, "read_process", look)
    monkeypatch.setattr(signal_handler, "_send", lambda *_: left.pop(0))
    step = Signal(target="", reason="", pid=9, start=1, signal=signal.SIGCHLD, wait=1)
    assert signal_handler._while_it_helps(step, None, zombies, math.inf) == 299
    assert looks < 5 * len(zombies)
