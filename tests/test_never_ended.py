"""Live work is never ended, whatever a healer wants: real programs, each with zombies, against each
way to end one.

A row of VICTIMS is a kind of program; a column of WAYS is who would end it. One more of either is
one line: a row makes the process and returns its pid, a column tries to end it and returns what it
planned or sent.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import psutil
import pytest

from conftest import wait_for
from miyabi_healing.gate.handlers.table import apply, recheck
from miyabi_healing.gate.primitives.context import Context, Refused
from miyabi_healing.host import control_groups, memory, memory_rows, process_ending, process_status
from miyabi_healing.host.context import HealerContext
from miyabi_healing.host.orphan_groups import Family, Group
from miyabi_healing.host.orphans import Orphans
from miyabi_healing.host.process_status import Process, read_process
from miyabi_healing.host.processes import Processes
from miyabi_healing.host.readings import Host
from miyabi_healing.model.config import Config, ProcessSettings
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.plan import Plan
from miyabi_healing.model.steps import Signal
from miyabi_healing.runner import registry

ZOMBIES = 3
SCRIPT = f"#!{sys.executable} -IS\n"
CARELESS = "import os, signal\n" + (
    f"for _ in range({ZOMBIES}):\n    if os.fork() == 0: os._exit(0)\nsignal.pause()\n"
)
_OTHER = [sys.executable, "-IS", "-c", CARELESS]
BELOW = (
    f"import os, signal\nif os.fork() == 0: os.execv({_OTHER[0]!r}, {_OTHER!r})\nsignal.pause()\n"
)
LEADER_BELOW = BELOW.replace("os.execv(", "os.setsid(); os.execv(")
GROUPS = Path("/sys/fs/cgroup")
USERS_OWN = "own-thing*"


class World:
    """Where victims are made, and what has to be undone afterwards."""

    def __init__(self, folder: Path, start: Callable[..., psutil.Popen]) -> None:
        self.folder, self.start = folder, start
        self.undo = contextlib.ExitStack()

    def program(self, path: str, *, code: str = "") -> int:
        """A program below the folder: a copy of sleep(1), or a script with `code`; which has
        zombies.
        """
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if code:
            file.write_text(SCRIPT + code)
            file.chmod(0o755)
            return self.start(str(file)).pid
        shutil.copy(shutil.which("sleep") or "", file)
        forks = "true & " * ZOMBIES
        pid = self.start("sh", "-c", f'{forks}exec "$0" 600', str(file)).pid
        wait_for(lambda: os.readlink(f"/proc/{pid}/exe") == str(file))  # no shell any more
        return pid

    def careless(self) -> int:
        """An ordinary program that may be ended."""
        return self.program("negligent", code=CARELESS)

    def below(self, pid: int) -> int:
        """The first child of a process."""
        wait_for(lambda: psutil.Process(pid).children())
        return psutil.Process(pid).children()[0].pid

    def group(self, controller: str, name: str) -> Path:
        """A control group of its own, version 1, or version 2 where that is all there is."""
        top = GROUPS / controller if (GROUPS / controller).is_dir() else GROUPS
        if not os.access(top, os.W_OK) or not (top / "cgroup.procs").exists():
            pytest.skip("needs a hierarchy of control groups that can be written")
        folder = top / f"never-ended-{os.getpid()}" / name
        folder.mkdir(parents=True)
        self.undo.callback(self.remove, folder, top)
        return folder

    def remove(self, folder: Path, top: Path) -> None:
        for pid in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        wait_for(lambda: not (folder / "cgroup.procs").read_text().split())
        each = [folder, *folder.parents]
        subprocess.run(["rmdir", *each[: each.index(top)]], check=True)


def stopped(world: World) -> int:
    pid = world.careless()
    wait_for(lambda: zombies_of(pid) == ZOMBIES)
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    return pid


def traced(world: World) -> int:
    pid = world.careless()
    wait_for(lambda: zombies_of(pid) == ZOMBIES)
    seize = 0x4206  # PTRACE_SEIZE in ptrace(2): it goes on
    if ctypes.CDLL(None, use_errno=True).ptrace(seize, pid, None, None):
        pytest.skip("needs ptrace(2)")
    return pid


def frozen(world: World) -> int:
    pid, group = world.careless(), world.group("freezer", "frozen")
    wait_for(lambda: zombies_of(pid) == ZOMBIES)
    (group / "cgroup.procs").write_text(str(pid))
    old = (group / "freezer.state").exists()
    file, words = (
        (group / "freezer.state", ("FROZEN", "THAWED"))
        if old
        else (group / "cgroup.freeze", ("1", "0"))
    )
    file.write_text(words[0])
    world.undo.callback(file.write_text, words[1])
    wait_for(lambda: control_groups.frozen(pid, control_groups.paths_of(pid)))
    return pid


def in_a_container(world: World) -> int:
    pid = world.careless()
    group = world.group("freezer", f"docker/{'0a' * 32}")
    (group / "cgroup.procs").write_text(str(pid))
    return pid


def main_process_of_a_service(world: World) -> int:
    """What the kernel shows of one: its parent is PID 1, its group ends in .service."""
    group, note = world.group("systemd", "some-app.service"), world.folder / "pid"
    daemon = f"import os\nif os.fork(): os._exit(0)\nos.setsid()\nopen({str(note)!r}, 'w').write("
    world.program("app", code=f"{daemon}str(os.getpid()))\n{CARELESS}")
    wait_for(lambda: note.exists() and note.read_text())
    pid = int(note.read_text())
    (group / "cgroup.procs").write_text(str(pid))
    if psutil.Process(pid).ppid() != 1:
        pytest.skip("orphans become the children of somebody else here")
    return pid


def left_behind(world: World, main_lives: bool = True) -> int:
    """An orphan in a service's group, beside the main process that started it, or alone."""
    group, note = world.group("systemd", "some-app.service"), world.folder / "pid"
    both = f"""
import os, signal, sys, time
def note(): open({str(note)!r}, 'w').write(str(os.getpid()))
if 'SYSTEMD_EXEC_PID' not in os.environ:
    if os.fork(): os._exit(0)
    os.setsid()
    env = {{**os.environ, 'SYSTEMD_EXEC_PID': str(os.getpid())}}
    os.execve(sys.argv[0], sys.argv, env)
open({str(group / "cgroup.procs")!r}, 'w').write(str(os.getpid()))
middle = os.fork()
if middle == 0:
    if os.fork(): os._exit(0)
    os.setsid(); note(); os.execve({_OTHER[0]!r}, {_OTHER!r}, os.environ)
os.waitpid(middle, 0)
if {main_lives}: signal.pause()
"""
    world.program("app", code=both)
    wait_for(lambda: note.exists() and note.read_text() and zombies_of(int(note.read_text())))
    orphan = int(note.read_text())
    if psutil.Process(orphan).ppid() != 1:
        pytest.skip("orphans become the children of somebody else here")
    return orphan


def in_a_terminal(world: World) -> int:
    """Not the leader of the session, which is a shell's."""
    file = world.folder / "in-a-terminal"
    file.write_text(SCRIPT + CARELESS)
    file.chmod(0o755)
    shell, terminal = pty.fork()
    if shell == 0:
        os.execvp("sh", ["sh", "-c", f"{file}; :"])
    world.undo.callback(os.waitpid, shell, 0)
    world.undo.callback(os.close, terminal)
    world.undo.callback(os.kill, shell, signal.SIGKILL)
    return world.below(shell)


def namespace(world: World, code: str) -> int:
    if os.geteuid() != 0:
        pytest.skip("needs root: namespaces")
    (world.folder / "inner").write_text(code)
    argv = ("unshare", "--pid", "--fork", sys.executable, "-IS", str(world.folder / "inner"))
    return world.below(world.start(*argv).pid)


# what must live: why, in the words of the reason, and how it is made
VICTIMS: dict[str, tuple[str, Callable[[World], int]]] = {
    "an agent": ("coding agents", lambda w: w.program("claude")),
    "an agent that is a script": (
        "coding agents",
        lambda w: w.program("node_modules/@openai/codex/bin/codex.js", code=CARELESS),
    ),
    "an agent that named itself": (
        "coding agents",
        lambda w: w.program(
            "main", code=f"import ctypes\nctypes.CDLL(None).prctl(15, b'opencode')\n{CARELESS}"
        ),
    ),
    "an agent by its folder": (
        "coding agents",
        lambda w: w.program("cursor-agent/versions/2025.10/index.js", code=CARELESS),
    ),
    "a tool below an agent": ("coding agents", lambda w: w.below(w.program("aider", code=BELOW))),
    "an editor": ("nvim is protected", lambda w: w.program("nvim")),
    "a language server of an editor": ("editors", lambda w: w.below(w.program("zed", code=BELOW))),
    "a remote editor's server": (
        "editors' servers",
        lambda w: w.program(".vscode-server/bin/0123abcd/node"),
    ),
    "an editor's own runtime": (
        "editors' servers",
        lambda w: w.program("JetBrains/RemoteDev/dist/0/jbr/bin/java"),
    ),
    "a CI runner": ("CI runners", lambda w: w.program("actions-runner/bin/Runner.Worker")),
    "a job of a CI runner": (
        "CI runners",
        lambda w: w.below(w.program("gitlab-runner", code=BELOW)),
    ),
    "a container's shim": ("is protected", lambda w: w.program("containerd-shim-runc-v2")),
    "a shell": ("zsh is protected", lambda w: w.program("zsh")),
    "a multiplexer": ("tmux is protected", lambda w: w.program("tmux")),
    "a database": ("postgres is protected", lambda w: w.program("postgres")),
    "sshd": ("sshd is protected", lambda w: w.program("sshd")),
    "what a login runs": ("opened", lambda w: w.below(w.program("sshd", code=LEADER_BELOW))),
    "what a user protects": ("own-thing-2 is protected", lambda w: w.program("own-thing-2")),
    "a job that Ctrl-Z stopped": ("it is stopped", stopped),
    "a debuggee": ("debugger", traced),
    "a program in a terminal": ("it has a terminal", in_a_terminal),
    "a frozen program": ("it is frozen", frozen),
    "a service's main process": ("systemd runs it as some-app.service", main_process_of_a_service),
    "a service that forks itself": (
        "systemd runs it as some-app.service",
        lambda w: left_behind(w, main_lives=False),
    ),
    "a container's program": ("in the container docker/0a0a", in_a_container),
    "a PID namespace's init": ("init of a container", lambda w: namespace(w, CARELESS)),
    "a PID namespace's program": ("PID namespace", lambda w: w.below(namespace(w, BELOW))),
}


def zombies_of(pid: int) -> int:
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(pid).children()
        return sum(each.status() == psutil.STATUS_ZOMBIE for each in children)
    return 0


def seen(pid: int) -> Process:
    found = read_process(pid)
    assert found
    return found


def processes() -> Processes:
    return Processes((USERS_OWN,))


@pytest.fixture
def world(tmp_path: Path, start: Callable[..., psutil.Popen]) -> Iterator[World]:
    made = World(tmp_path, start)
    with made.undo:
        yield made


def by_the_gate(pid: int, folder: Path) -> list[str]:
    """A careless healer's own steps: the gate looks again, before it and while it holds it."""
    config = Config(processes=ProcessSettings(protected=(USERS_OWN,)))
    context, sent = Context(Host(config), "run", folder), []
    for number in (signal.SIGTERM, signal.SIGKILL):
        step = Signal(target="", reason="", pid=pid, start=seen(pid).start, signal=number)
        sent += [] if recheck(step, context) else [f"{number.name} passes the re-check"]
        with contextlib.suppress(Refused):
            apply(step, context)
            sent.append(f"{number.name} was sent")
    return sent


def by_zombies(pid: int, folder: Path) -> list[str]:
    """The healer of zombies, allowed everything, for zombies that have been there for long."""
    healer, kind = registry.load_healer(
        "kill_zombies", registry.builtin("healers") / "kill_zombies.py"
    )
    assert kind
    old = {f"{each.pid} {each.start}": 1e6 for each in Processes().zombies(0) if each.ppid == pid}
    assert len(old) == ZOMBIES
    config = Config(processes=ProcessSettings(protected=(USERS_OWN,)))
    view = HealerContext(Host(config), {"": processes()}, seen_for=lambda: old)
    issue = Issue("zombie_processes", "", "", 9, Limit(0))
    options = kind(kill=True, with_children=True, restart=True, several=1, patience=0.1)
    plan = healer(view, issue, options)
    named = [each.target for each in plan.kept if each.target.endswith(f"(pid {pid})")]
    ends = [each for each in plan.steps if getattr(each, "signal", None) != signal.SIGCHLD]
    wanted = [each.target for each in ends if getattr(each, "pid", pid) == pid]
    return wanted + ([] if named else ["it is not named"])


def by_memory(pid: int, folder: Path) -> list[str]:
    """The healer of memory, allowed to stop every program, whatever little is taken."""
    healer, kind = registry.load_healer(
        "clear_cache", registry.builtin("healers") / "clear_cache.py"
    )
    assert kind
    config = Config(processes=ProcessSettings(protected=(USERS_OWN,)))
    view = HealerContext(Host(config), {"": memory.Memory(99, 1, 0, "host")})
    issue = Issue("high_memory_usage", "", "", 99, Limit(0))
    # the machine's other processes are not to be in any plan, not even in one that stays a plan
    with mock.patch.object(memory_rows, "inside", return_value=(seen(pid),)):
        plan = healer(view, issue, kind(may_stop=("*",), kill_above=0))
    return _planned(plan, pid)


def by_orphans(pid: int, folder: Path) -> list[str]:
    """The healer of orphans, allowed to end every program, told that this is one."""
    healer, kind = registry.load_healer(
        "end_orphans", registry.builtin("healers") / "end_orphans.py"
    )
    assert kind
    process = seen(pid)
    family = Family((process,), process, process.name, 1e6, bytes=1 << 30)
    config = Config(processes=ProcessSettings(protected=(USERS_OWN,)))
    view = HealerContext(Host(config), {"": Orphans((Group((family,)),))})
    issue = Issue("orphaned_processes", "", "", 9e9, Limit(0))
    plan = healer(view, issue, kind(may_end=("*",), patience=0))
    return _planned(plan, pid)


def _planned(plan: Plan, pid: int) -> list[str]:
    """What a plan would send to a process, and that it does not say why it sends nothing."""
    wanted = [each.target for each in plan.steps if getattr(each, "pid", None) == pid]
    named = [each for each in plan.kept if f"(pid {pid})" in each.target]
    return wanted + ([] if named else ["it is not named"])


# who would end a process: what it planned or sent, given its pid and a folder of the test's own
WAYS: dict[str, Callable[[int, Path], list[str]]] = {
    "the gate": by_the_gate,
    "zombies": by_zombies,
    "memory": by_memory,
    "orphans": by_orphans,
}


@pytest.mark.usefixtures("only_zombies")
@pytest.mark.parametrize("name", VICTIMS)
def test_live_work_is_never_ended(name: str, world: World, tmp_path: Path) -> None:
    reason, make = VICTIMS[name]
    pid = make(world)
    wait_for(lambda: zombies_of(pid) == ZOMBIES)
    said = processes().reason_not_to_end(seen(pid))
    assert reason in str(said), [
        (each.pid, each.name(), each.status()) for each in psutil.Process(pid).parents()
    ]
    for way, tries in WAYS.items():
        assert tries(pid, tmp_path) == [], way
        assert psutil.Process(pid).status() != psutil.STATUS_ZOMBIE, way


@pytest.mark.usefixtures("only_zombies")
@pytest.mark.parametrize("name", ["memory", "orphans", "zombies", "the gate"])
def test_ordinary_program_is_ended_by_each_who_is_allowed_to(
    name: str, world: World, tmp_path: Path
) -> None:
    pid = world.careless()
    wait_for(lambda: zombies_of(pid) == ZOMBIES)
    assert [each for each in WAYS[name](pid, tmp_path) if each != "it is not named"]


@pytest.mark.parametrize("name", ["negligent", "claude-report", "extensions/sleep", "X"])
def test_an_ordinary_program_may_be_ended_whatever_its_arguments(
    name: str, world: World, tmp_path: Path
) -> None:
    (tmp_path / "claude").write_text("")
    (tmp_path / "program").symlink_to(shutil.which("tail") or "")
    process = {
        "X": lambda: world.start("tail", "-f", str(tmp_path / "claude")).pid,
        "extensions/sleep": lambda: world.program(".vscode-server/extensions/some/server"),
    }.get(name, lambda: world.program(name))
    pid = process()
    wait_for(lambda: psutil.Process(pid).name() != "sh")
    assert processes().reason_not_to_end(seen(pid)) is None


def test_orphan_that_a_service_left_behind_is_not_its_main_process(world: World) -> None:
    assert processes().reason_not_to_end(seen(left_behind(world))) is None


def test_what_cannot_be_read_is_not_ended(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = seen(world.careless())
    monkeypatch.setattr(process_ending, "PROC", tmp_path)
    assert process_ending.reason_not_to_end(found) == (
        "its state cannot be read: No such file or directory"
    )
    monkeypatch.setattr(process_ending, "PROC", process_status.PROC)
    monkeypatch.setattr(control_groups, "PROC", tmp_path)
    said = process_ending.reason_not_to_end(found)
    assert said == "its control groups cannot be read: No such file or directory"


def test_thread_that_ends_while_it_is_looked_at_is_no_reason(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = world.careless()
    listed = os.listdir

    def more(path: str | Path) -> list[str]:
        return [*listed(path), "4194305"] if str(path).endswith(f"{pid}/task") else listed(path)

    monkeypatch.setattr(process_ending.os, "listdir", more)
    assert process_ending.objection(seen(pid)) is None


def test_whether_it_is_frozen_is_not_guessed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "7").mkdir()
    wait = tmp_path / "7" / "wchan"
    wait.write_text("0")
    monkeypatch.setattr(control_groups, "PROC", tmp_path)
    unseen = {"freezer": "/../elsewhere", "": "/../elsewhere"}
    assert control_groups.frozen(7, unseen) is None
    wait.write_text("hrtimer_nanosleep")
    assert control_groups.frozen(7, unseen) is False
    wait.write_text("__refrigerator")
    assert control_groups.frozen(7, unseen) is True


@pytest.mark.parametrize(
    ("path", "name", "cure"),
    [
        ("/system.slice/app.service", "app.service", "systemctl restart app.service"),
        ("/system.slice/app.service/worker/1", "app.service", "systemctl restart app.service"),
        (
            "/user.slice/user-5.slice/user@5.service/app.slice/mine.service",
            "mine.service",
            "systemctl --user restart mine.service",
        ),
        (
            "/user.slice/user-5.slice/user@5.service/init.scope",
            "init.scope",
            "systemctl --user restart init.scope",
        ),
        ("/user.slice/user-5.slice/session-2.scope", "session-2.scope", None),
        ("/", None, None),
    ],
)
def test_unit_of_a_process_is_the_innermost(path: str, name: str | None, cure: str | None) -> None:
    for paths in ({"": path}, {"name=systemd": path, "": "/"}):
        unit = control_groups.unit_of(paths)
        assert (unit and unit.name) == name
        assert not cure or (unit and unit.restart == cure)


@pytest.mark.parametrize(
    ("path", "container"),
    [
        ("/system.slice/docker-0123456789abcdef.scope", "docker-0123456789abcdef.scope"),
        ("/docker/0123456789abcdef", "docker/0123456789abcdef"),
        ("/kubepods.slice/kubepods-pod1.slice/cri-containerd-0123456789ab.scope", "kubepods"),
        ("/user.slice/user-5.slice/session-2.scope", ""),
        ("/system.slice/docker.service", ""),
    ],
)
def test_container_is_told_by_its_group(path: str, container: str) -> None:
    found = control_groups.container_of({"": path})
    assert found.startswith(container)
    assert bool(found) == bool(container)


def test_second_process_of_a_container_is_no_kernel_thread() -> None:
    child = Process(99999, 2, 1, "app", "S", 99999, 0, os.geteuid(), 1)
    assert "kernel thread" not in str(Processes().protection(child))


def test_the_table_does_not_shrink() -> None:
    assert (len(VICTIMS) >= 27, set(WAYS)) == (True, {"the gate", "zombies", "memory", "orphans"})
