"""A coordinator in a pane of tmux or in a unit of systemd: found, ended and started there. tmux is
a real one, with a socket of its own; systemctl is a small one of the test's.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from coordinatorwork import (
    GONE_OWNER,
    OLD,
    World,
    end_later,
    fail_over,
    now,
    task,
    with_start,
    written,
)
from gatework import carry_out, plan

from conftest import wait_for
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.gate.primitives.roots import allowed
from miyabi_healing.host import control_groups
from miyabi_healing.host.coordinators import asking, consent, place
from miyabi_healing.host.coordinators.health import CoordinatorHealth, Life, State
from miyabi_healing.host.coordinators.owners import Fate, judge
from miyabi_healing.host.process_status import read_process
from miyabi_healing.host.readings import Host
from miyabi_healing.model.actions import Outcome
from miyabi_healing.model.config import Config, PolicySettings
from miyabi_healing.model.coordinator import Coordinator
from miyabi_healing.support.command_errors import ToolError

Start = Callable[..., psutil.Popen]
needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")


@pytest.fixture
def world(home: Path, start: Start) -> Iterator[World]:
    made = World(home, start)
    written(made, task(1, GONE_OWNER))
    yield made
    end_later(made)


def config(world: World, **more: Any) -> Config:
    keys: dict[str, Any] = {
        "tasks": str(world.tasks),
        "list": "/tasks",
        "owned_by": "host boot pid start",
        "heartbeat": str(world.home / "beat"),
        "heartbeat_limit": 0.3,
        "look": 0.2,
        **more,
    }
    settings = Coordinator(**keys)
    return Config(coordinators={"builder": settings}, policy=PolicySettings(cooldown=0))


def look(given: Config) -> State:
    return CoordinatorHealth("builder", given).look()


def failed_over(world: World, given: Config, **options: Any) -> list[Outcome]:
    made = fail_over(given, "coordinator_down", **{"within": 0, "seen_for": 0, **options})
    where = Context(Host(given), "run", world.home.parent / "state", allowed(given, ()))
    return carry_out(plan(*made.steps), where)


@dataclass(frozen=True)
class Tmux:
    """A server of its own, with one pane."""

    socket: Path

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self.socket), "-f", "/dev/null", *words],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout.strip()

    def begin(self, *argv: str) -> None:
        self("new-session", "-d", "-s", "work", "-x", "80", "-y", "24", *argv)
        self("set-option", "-g", "remain-on-exit", "on")

    def pane(self) -> int:
        return int(self("list-panes", "-t", "work", "-F", "#{pane_pid}"))


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    made = Tmux(tmp_path / "socket")
    yield made
    subprocess.run(["tmux", "-S", str(made.socket), "kill-server"], capture_output=True)


def in_pane(world: World, tmux: Tmux, **more: Any) -> Config:
    return config(world, pane="work:0.0", tmux=str(tmux.socket), **more)


@needs_tmux
def test_program_of_a_pane_that_was_killed_is_started_there_again(world: World, tmux: Tmux) -> None:
    tmux.begin(*world.argv())
    given = in_pane(world, tmux)
    wait_for(lambda: world.pid() and look(given).life == Life.WELL)
    os.kill(world.pid(), signal.SIGKILL)
    wait_for(lambda: look(given).life == Life.GONE)
    assert [each.status for each in failed_over(world, given)] == ["applied", "applied"]
    wait_for(lambda: world.starts() == 2)
    assert look(given).down == 0
    assert now(world) == {"t1": ("pending", None)}


@needs_tmux
def test_grandchild_of_a_pane_that_is_stopped_is_ended_and_its_pane_stays(
    world: World, tmux: Tmux
) -> None:
    """tmux itself lets a pane's own process go on."""
    line = " ".join(world.argv()) + "; exit 3"
    tmux.begin(f"sh -c '{line}'")
    tmux("set-option", "-g", "remain-on-exit", "off")
    given = in_pane(world, tmux)
    wait_for(lambda: world.pid() and look(given).life == Life.WELL)
    old = world.pid()
    assert old != tmux.pane()
    os.kill(old, signal.SIGSTOP)
    wait_for(lambda: look(given).life == Life.STOPPED)
    outcomes = failed_over(world, given)
    assert [(each.step.kind, each.status) for each in outcomes] == [
        ("run", "applied"),  # remain-on-exit
        ("signal", "applied"),
        ("signal", "applied"),
        ("give back", "applied"),
        ("run", "applied"),
    ]
    wait_for(lambda: world.starts() == 2)
    assert (psutil.pid_exists(old), now(world)) == (False, {"t1": ("pending", None)})


@needs_tmux
def test_shell_that_somebody_may_type_into_is_no_coordinator_and_is_not_ended(
    world: World, tmux: Tmux
) -> None:
    tmux.begin("sh")
    given = in_pane(world, tmux)
    wait_for(lambda: look(given).life == Life.GONE)
    shell = tmux.pane()
    assert [each.step.kind for each in failed_over(world, given)] == ["give back"]
    assert tmux.pane() == shell
    process = read_process(shell)
    assert process
    assert consent.reason_not_to_end(process, "builder", given)
    mine = in_pane(world, tmux, kill_pane=True, start=tuple(world.argv()))
    assert [each.status for each in failed_over(world, mine)] == ["applied"]
    wait_for(lambda: look(mine).life == Life.WELL)


@needs_tmux
def test_program_that_was_typed_into_a_shell_is_the_coordinator(world: World, tmux: Tmux) -> None:
    tmux.begin("sh")
    tmux("send-keys", "-t", "work", " ".join(world.argv()), "Enter")
    wait_for(lambda: world.pid())
    given = in_pane(world, tmux)
    found = look(given).place.process
    assert found
    assert found.pid == world.pid()
    assert "typed it into a shell" in str(consent.reason_not_to_end(found, "builder", given))
    given = in_pane(world, tmux, program="coordinator*", **LATE)
    assert consent.reason_not_to_end(found, "builder", given) is None


@needs_tmux
def test_pane_that_is_not_there_is_never_another_one(world: World, tmux: Tmux) -> None:
    tmux.begin("sleep", "100")
    for name in ("work:0.7", "work:3", "wor", "%9", "other"):
        assert asking.pane(name, str(tmux.socket)) is None
    found = [asking.pane(name, str(tmux.socket)) for name in ("work", "work:0", "work:0.0", "%0")]
    assert {each and each.pid for each in found} == {tmux.pane()}
    tmux("split-window", "-t", "work", "sleep", "100")
    with pytest.raises(ToolError, match="has 2 panes"):
        asking.pane("work", str(tmux.socket))
    assert asking.pane("work", str(tmux.socket) + "-none") is None


@needs_tmux
def test_owner_that_is_a_pane_is_gone_with_its_program(world: World, tmux: Tmux) -> None:
    tmux.begin("sleep", "100")
    settings = in_pane(world, tmux, owned_by="pane").coordinators["builder"]
    assert judge("%0", None, settings).fate == Fate.LIVES
    assert judge("%0", time.time() - 3600, settings).fate == Fate.GONE
    assert judge("%1", None, settings).fate == Fate.GONE
    elsewhere = replace(settings, tmux=f"{tmux.socket}-none")  # as of another user's server
    assert judge("%0", None, elsewhere).fate == Fate.UNKNOWN
    os.kill(tmux.pane(), signal.SIGKILL)
    wait_for(lambda: judge("%0", None, settings).fate == Fate.GONE)


# Who may be ended

LATE = {"heartbeat_limit": 1e-6}  # every heartbeat is


def by_pid_file(world: World, **more: Any) -> Config:
    given = {"pid_file": str(world.home / "coordinator.pid"), "start": ("true",), **LATE, **more}
    return config(world, **given)


def test_only_the_process_that_the_configuration_names_may_be_ended(world: World) -> None:
    process = world.begin()
    found, other = read_process(process.pid), read_process(world.start("sleep", "100").pid)
    assert found
    assert other
    given = by_pid_file(world)
    assert consent.reason_not_to_end(found, "builder", given) is None
    assert "is not the coordinator" in str(consent.reason_not_to_end(other, "builder", given))
    assert "no coordinator 'x'" in str(consent.reason_not_to_end(found, "x", given))
    for well in ({"heartbeat": ""}, {"heartbeat_limit": 100}):
        reason = consent.reason_not_to_end(found, "builder", by_pid_file(world, **well))
        assert reason == "its heartbeat is not late"
    again = replace(found, start=found.start - 1)
    assert "is not the coordinator" in str(consent.reason_not_to_end(again, "builder", given))
    (world.home / "mine.pid").write_text(str(os.getpid()))
    mine, given = read_process(os.getpid()), by_pid_file(world, pid_file=f"{world.home}/mine.pid")
    assert mine
    assert consent.reason_not_to_end(mine, "builder", given) == "this program runs below it"


def test_shell_that_a_pid_file_names_is_not_ended(world: World) -> None:
    shell = world.start("sh", stdin=subprocess.PIPE)
    wait_for(lambda: shell.cmdline() == ["sh"])
    (world.home / "coordinator.pid").write_text(str(shell.pid))
    found = read_process(shell.pid)
    assert found
    reason = consent.reason_not_to_end(found, "builder", by_pid_file(world))
    assert reason == "it is a shell that somebody may type into"


def test_script_of_a_shell_may_be_a_coordinator_and_a_database_never(
    world: World, start: Start
) -> None:
    script = world.home / "hands-out.sh"
    script.write_text("#!/bin/sh\nwhile :; do sleep 100; done\n")
    script.chmod(0o755)
    database = world.home / "postgres"
    shutil.copy(str(shutil.which("sleep")), database)
    for argv, words in (([str(script)], "None"), ([str(database), "100"], "postgres is protected")):
        process = start(*argv)
        wait_for(lambda process=process: process.cmdline() and "pytest" not in process.name())  # type: ignore[misc]
        (world.home / "coordinator.pid").write_text(str(process.pid))
        found = read_process(process.pid)
        assert found
        assert str(consent.reason_not_to_end(found, "builder", by_pid_file(world))) == words


def test_agent_is_ended_only_where_it_is_said_that_it_is_the_coordinator(
    world: World, start: Start
) -> None:
    (world.home / "claude").symlink_to(str(shutil.which("sleep")))
    process = start(str(world.home / "claude"), "100")
    (world.home / "coordinator.pid").write_text(str(process.pid))
    found = read_process(process.pid)
    assert found
    reason = str(consent.reason_not_to_end(found, "builder", by_pid_file(world)))
    assert "coding agents" in reason
    given = by_pid_file(world, program="claude")
    assert consent.reason_not_to_end(found, "builder", given) is None


@pytest.mark.root
def test_pid_file_of_a_user_makes_root_end_nobody_elses_process(world: World) -> None:
    process = world.begin()
    found = read_process(process.pid)
    assert found
    os.chown(world.home / "coordinator.pid", 65534, 65534)
    reason = str(consent.reason_not_to_end(found, "builder", by_pid_file(world)))
    assert "could name any process" in reason
    theirs = replace(found, uid=65534)
    assert "could name" not in str(consent.reason_not_to_end(theirs, "builder", by_pid_file(world)))


def test_pid_file_that_others_write_or_that_is_none_says_nothing_of_a_process(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("miyabi_healing.host.users.container", lambda: "this is a container")
    monkeypatch.setattr("miyabi_healing.host.users.Witness.is_our_own_root", lambda *_: False)
    found = look(by_pid_file(world))
    assert (found.life, found.down) == (Life.WAITING, 0)
    assert "this is a container" in found.notes[0]
    os.mkfifo(world.home / "coordinator.pid")
    with pytest.raises(OSError, match="no regular file"):
        look(by_pid_file(world))
    (world.home / "coordinator.pid").unlink()


def test_coordinator_whose_unit_or_terminal_living_workers_share_is_not_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, worker = world.begin(), world.start("sleep", "100")
    written(world, task(1, with_start(worker)))
    given = by_pid_file(world, owned_by="pid start")
    found = read_process(process.pid)
    assert found
    assert CoordinatorHealth("builder", given).ends_with(found) == ""
    unit = control_groups.Unit("work.service", None)
    monkeypatch.setattr(control_groups, "unit_of", lambda _: unit)
    in_unit = config(world, user_unit="work.service", owned_by="pid start")
    assert f"(pid {worker.pid})" in CoordinatorHealth("builder", in_unit).ends_with(found)
    os.kill(process.pid, signal.SIGSTOP)
    wait_for(lambda: look(given).life == Life.STOPPED)
    monkeypatch.setattr(CoordinatorHealth, "ends_with", lambda *_: "a worker")
    made = fail_over(given, "coordinator_down")
    assert (made.steps, [each.reason for each in made.kept]) == ((), ["somebody would end with it"])


def test_one_that_gets_on_again_is_not_ended(world: World) -> None:
    process = world.begin()
    os.kill(process.pid, signal.SIGSTOP)
    given = by_pid_file(world, heartbeat_limit=0.2)
    os.utime(world.home / "beat", (OLD, OLD))
    wait_for(lambda: look(given).life == Life.STOPPED)
    made = fail_over(given, "coordinator_down", within=0)
    os.kill(process.pid, signal.SIGCONT)
    wait_for(lambda: look(given).life == Life.WELL)
    where = Context(Host(given), "run", world.home.parent / "state", allowed(given, ()))
    outcomes = carry_out(plan(*made.steps), where)
    assert [each.status for each in outcomes[:2]] == ["skipped", "skipped"]
    assert process.is_running()


def test_coordinator_under_a_debugger_is_left_alone(world: World) -> None:
    process = world.begin()
    found = read_process(process.pid)
    assert found
    given = by_pid_file(world)
    status = {"TracerPid": "7", "NSpid": "1"}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(consent, "read_status", lambda pid: status)
        assert "debugger" in str(consent.reason_not_to_end(found, "builder", given))


def test_pid_file_of_a_program_that_has_ended_names_no_other(world: World) -> None:
    process = world.begin()
    file = world.home / "coordinator.pid"
    assert isinstance(place.by_pid_file(file), type(read_process(1)))
    os.utime(file, (process.create_time() - 60,) * 2)
    assert "now" in str(place.by_pid_file(file))
    with pytest.raises(ValueError, match="began after the file was written"):
        place.by_pid_file(file, "coordinator*")  # one of that name, or the same
    assert "now" in str(place.by_pid_file(file, "other"))


# systemd, by a systemctl of the test's

SYSTEMCTL = """
import os, pathlib, signal, subprocess, sys, time
home = pathlib.Path(os.environ["HOME"])
words = [each for each in sys.argv[1:] if each not in ("--user", "--")]
(home / "asked").open("a").write(" ".join(sys.argv[1:]) + "\\n")
file, forced = home / "unit.pid", home / "state"
pid = int(file.read_text()) if file.exists() else 0
def lives():
    try:
        return pid and open(f"/proc/{pid}/stat").read().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False
if words[0] == "show":
    active, sub = ("active", "running") if lives() else ("failed", "failed")
    if forced.exists():
        active, sub = forced.read_text().split()
    print(f"LoadState={'loaded' if words[-1] == 'work.service' else 'not-found'}")
    print(f"MainPID={pid if lives() else 0}\\nActiveState={active}\\nSubState={sub}")
elif words[0] == "stop" and lives():
    os.kill(pid, signal.SIGKILL)
    while lives():
        time.sleep(0.01)
elif words[0] == "start":
    child = subprocess.Popen((home / "command").read_text().split("\\n"), start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    file.write_text(str(child.pid))
"""


@pytest.fixture
def systemctl(world: World, monkeypatch: pytest.MonkeyPatch) -> Config:
    tool = world.home / "bin" / "systemctl"
    tool.parent.mkdir()
    tool.write_text(f"#!{sys.executable} -S\n{SYSTEMCTL}")
    tool.chmod(0o755)
    (world.home / "command").write_text("\n".join(world.argv()))
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    return config(world, user_unit="work.service")


def asked(world: World) -> list[str]:
    lines = (world.home / "asked").read_text().splitlines()
    return [each for each in lines if " show " not in each]


def test_unit_that_has_failed_is_started_once_its_claims_are_back(
    world: World, systemctl: Config
) -> None:
    assert look(systemctl).life == Life.GONE
    assert [each.step.kind for each in failed_over(world, systemctl)] == ["give back", "run"]
    assert asked(world) == ["--user start -- work.service"]
    wait_for(lambda: look(systemctl).life == Life.WELL)


def test_unit_that_hangs_is_stopped_by_systemd_first(world: World, systemctl: Config) -> None:
    """By a signal alone, systemd would start it again before its claims are back."""
    subprocess.run([str(world.home / "bin" / "systemctl"), "start"], check=True)
    wait_for(lambda: look(systemctl).life == Life.WELL)
    os.kill(int((world.home / "unit.pid").read_text()), signal.SIGSTOP)
    wait_for(lambda: look(systemctl).life == Life.STOPPED)
    found = [(each.step.kind, each.status) for each in failed_over(world, systemctl)]
    assert found == [
        ("run", "applied"),
        ("signal", "skipped"),
        ("signal", "skipped"),
        ("give back", "applied"),
        ("run", "applied"),
    ]
    assert asked(world)[1:] == ["--user stop -- work.service", "--user start -- work.service"]
    wait_for(lambda: world.starts() == 2 and world.pid() == look(systemctl).place.process.pid)  # type: ignore[union-attr]


@pytest.mark.parametrize("state", ["activating auto-restart", "deactivating stop-sigterm"])
def test_unit_that_systemd_is_at_work_with_is_left_to_it(
    world: World, systemctl: Config, state: str
) -> None:
    (world.home / "state").write_text(state)
    found = look(systemctl)
    assert (found.life, found.down, bool(found.notes)) == (Life.WAITING, 0, True)


def test_unit_that_is_not_there_is_unknown(world: World, systemctl: Config) -> None:
    settings = systemctl.coordinators["builder"]
    with pytest.raises(ToolError, match="no unit other"):
        place.find(replace(settings, user_unit="other.service"))
    assert judge("other.service", None, replace(settings, owned_by="user unit")).fate == (
        Fate.UNKNOWN
    )
    assert judge("work.service", None, replace(settings, owned_by="user unit")).fate == Fate.GONE
