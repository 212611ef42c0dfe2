"""Zombies of services, and what runs have seen of zombies before anybody is ended for them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from program import environment, settings
from test_zombies import CARELESS, Start, careless, carry_out, done_by, kept, plan, zombies_of

from conftest import PROJECT
from miyabi_healing.gate.handlers.table import recheck
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.host import control_groups, process_ending
from miyabi_healing.host.process_status import Process, read_process
from miyabi_healing.host.readings import Host
from miyabi_healing.model.config import Config
from miyabi_healing.model.plan import Goal, Plan
from miyabi_healing.model.steps import Run
from miyabi_healing.state import sightings
from miyabi_healing.state.journal import Journal

RUNS = """
import os, subprocess, sys, time
def reaping(pid):
    while True:
        found, status = os.wait()
        if found == pid:
            return status
careless = os.fork()
if careless == 0:
    os.setsid()
    os.execv(sys.executable, [sys.executable, "-S", "-c", sys.argv[1]])
time.sleep(0.5)
for dry in ("--dry-run", "", "--dry-run", ""):
    case = os.fork()
    if case == 0:
        os.setsid()
        argv = [*sys.argv[2:], *([dry] if dry else [])]
        out = subprocess.run(argv, capture_output=True, text=True)
        sys.stderr.write(out.stderr)
        import json
        print(json.dumps(json.loads(out.stdout)), flush=True)
        os._exit(0)
    reaping(case)
    time.sleep(0.2)
"""

# Services


@pytest.fixture
def service(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only_zombies: None
) -> tuple[psutil.Popen, Path]:
    """What systemd runs as a service's main process, and a systemctl that says so: what it was
    asked is in the file.
    """
    parent, log = careless(start, 3), tmp_path / "asked"
    tool = tmp_path / "bin" / "systemctl"
    tool.parent.mkdir()
    tool.write_text(
        f'#!/bin/sh\necho "$@" >> {log}\n'
        f"if [ $1 = show ]; then cat {tmp_path}/main; else kill {parent.pid}; fi\n"
    )
    tool.chmod(0o755)
    (tmp_path / "main").write_text(f"{parent.pid}\n")
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    unit = control_groups.Unit("app.service", None if os.geteuid() == 0 else os.geteuid())
    real = process_ending.objection

    def objection(process: Process) -> process_ending.Objection | None:
        kind = process_ending.Kind.SERVICE
        is_it = process.pid == parent.pid
        return process_ending.Objection(kind, "its text", unit) if is_it else real(process)

    monkeypatch.setattr(process_ending, "objection", objection)
    return parent, log


def test_service_is_left_to_a_person_unless_a_restart_is_allowed(
    service: tuple[psutil.Popen, Path],
) -> None:
    parent, log = service
    found = plan(kill=True, with_children=True)
    assert not any(isinstance(each, Run) for each in found.steps)
    reason, detail = kept(found, parent)
    assert reason == "a service"
    assert "restart app.service" in detail
    assert "restart = true" in detail
    assert not log.exists()


def test_service_is_restarted_where_that_is_allowed(
    service: tuple[psutil.Popen, Path], tmp_path: Path
) -> None:
    parent, log = service
    found = plan(restart=True)
    (step,) = (each for each in found.steps if isinstance(each, Run))
    assert step.argv[0] == "systemctl"
    assert step.argv[-2:] == ("restart", "app.service")
    assert not step.undo
    mine = Plan((step,), Goal("reaped", lambda: zombies_of(parent.pid) == 0), done=found.done)
    (over,) = carry_out(mine, tmp_path / "no", budget=0)
    assert over.message == "budget: 0 processes a run"
    assert parent.is_running()
    (outcome,) = carry_out(mine, tmp_path)
    assert outcome.status == "applied", outcome
    parent.wait(5)
    assert found.done
    assert found.done(done_by(outcome)) == "Restarted 1 service(s)"
    assert "restart app.service" in log.read_text()


def test_service_is_not_restarted_for_what_is_not_its_main_process(
    service: tuple[psutil.Popen, Path], tmp_path: Path
) -> None:
    parent, _ = service
    found = plan(restart=True)
    (step,) = (each for each in found.steps if isinstance(each, Run))
    (tmp_path / "main").write_text("0\n")
    (outcome,) = carry_out(Plan((step,), Goal("never", lambda: False)), tmp_path)
    assert outcome.message == "systemctl does not say that it is its main process"
    found = plan(restart=True)
    assert not any(isinstance(each, Run) for each in found.steps)
    assert "does not say that it is its main process" in kept(found, parent)[1]


def test_service_with_live_work_in_it_is_not_restarted(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = start("sleep", "600")
    shutil.copy(shutil.which("sleep") or "", tmp_path / "claude")
    agent = start(str(tmp_path / "claude"), "600")
    unit, real = control_groups.Unit("app.service"), control_groups.paths_of
    monkeypatch.setattr(
        control_groups,
        "paths_of",
        lambda pid: {"": f"/{unit.name}"} if pid == agent.pid else real(pid),
    )
    found = process_ending.reason_not_to_restart(seen(parent), unit)
    assert found == f"claude (pid {agent.pid}) would end, too: claude is one of the coding agents"
    assert process_ending.reason_not_to_restart(seen(agent), unit) is None


def test_restart_of_what_has_ended_is_refused(start: Start, tmp_path: Path) -> None:
    process = start("sleep", "100")
    found = seen(process)
    step = Run(target="", reason="", argv=("true",), time_limit=5, ends=((found.pid, found.start),))
    where = Context(Host(Config()), "run", tmp_path)
    assert recheck(step, where) is None
    gone = replace(step, ends=((found.pid, found.start + 1),))
    assert recheck(gone, where) == f"what would end by it has ended already (pid {found.pid})"
    init = read_process(1)
    assert init
    over = recheck(replace(step, ends=((1, init.start),)), where)
    assert over == "it would end pid 1: it is init"


def seen(process: psutil.Popen) -> Process:
    found = read_process(process.pid)
    assert found
    return found


# What runs have seen


def test_sightings_last_from_run_to_run_and_of_what_is_still_there(tmp_path: Path) -> None:
    with contextlib.closing(Journal(tmp_path / "journal")) as journal:
        assert sightings.seen_for(journal, "kill_zombies") == {}
        sightings.note(journal, "kill_zombies", ["1 5", "2 5"])
        sightings.note(journal, "other", ["1 5"])
        journal.database.execute("update sighting set first = first - 90")
        sightings.note(journal, "kill_zombies", ["2 5", "3 5"])
        found = sightings.seen_for(journal, "kill_zombies")
        assert found == {"2 5": pytest.approx(90, abs=5), "3 5": pytest.approx(0, abs=5)}
        assert sightings.seen_for(journal, "other") == {"1 5": pytest.approx(90, abs=5)}


def test_sightings_of_another_boot_or_of_the_future_say_nothing(tmp_path: Path) -> None:
    with contextlib.closing(Journal(tmp_path / "journal")) as journal:
        sightings.note(journal, "kill_zombies", ["1 5"])
        journal.database.execute("update sighting set first = first + 1000")
        assert sightings.seen_for(journal, "kill_zombies") == {}
        journal.database.execute("update sighting set first = 0, boot_id = 'another'")
        assert sightings.seen_for(journal, "kill_zombies") == {}


@pytest.mark.root
@pytest.mark.slow
def test_negligent_daemon_is_ended_by_the_second_run_and_not_by_a_dry_one(
    home: Path, tmp_path: Path
) -> None:
    """In a PID namespace of its own, whose init reaps."""
    text = "[checks.zombie_processes]\n[healers.kill_zombies]\nseen_for = 0.1\n"
    argv = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    argv += [sys.executable, "-c", RUNS]
    healer, config = str(PROJECT / "self_healer.py"), settings(tmp_path, text)
    program = [sys.executable, healer, "--json", "--config", config]
    done = subprocess.run(
        [*argv, CARELESS.format(n=8), *program],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(),
    )
    dry, first, again, last = map(json.loads, done.stdout.splitlines())
    for each in (dry, first, again):
        (action,) = each["actions_taken"]
        assert [step["target"].split()[0] for step in action["steps"]] == (
            ["SIGTERM"] if each is again else []
        ), done.stderr
        assert action["kept"] == [] or action["kept"][0]["reason"] == "seen too shortly"
    (action,) = again["actions_taken"]
    assert action["steps"][0]["status"] == "planned"
    (action,) = last["actions_taken"]
    assert action["status"] == "success"
    assert action["message"] == "8 zombie(s) reaped: sent 1 signal(s) to end one"
    assert action["details"]["zombies_reaped"] == 8
    assert last["overall_success"]
