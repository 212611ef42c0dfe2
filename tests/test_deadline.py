"""A healer's time limit: looking, planning and doing, with whatever is started for it, stay within
it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from gitworld import git, merged_worktree, repository
from program import environment, report, settings

from conftest import PROJECT, wait_for
from miyabi_healing.host.git.repositories import open_repository as look_at
from miyabi_healing.host.git.worktrees import WorktreeInspector
from miyabi_healing.model.config import Config
from miyabi_healing.support import command_errors, commands, deadline, interrupts

CHECK = """
import pytest

@pytest.mark.heal("slow")
@pytest.mark.limit(0)
def test_things(measure, limit):
    assert measure(1, "Found a thing") <= limit
"""
HEALER = """
import pathlib, sys, time
from miyabi_healing.model.plan import Goal, Plan
from miyabi_healing.model.steps import Run

def slow(context, issue, options):
    PLANNING
    steps = [Run(target="sleep", reason="slow", argv=("sleep", "30"), time_limit=100)]
    return Plan(tuple(steps), Goal("never", lambda: False))
"""


@contextmanager
def between(least: float, most: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert least <= time.monotonic() - began <= most


def slow_filter(repo: Path, seconds: float) -> None:
    """Whoever asks git about the content of a worktree waits for a program."""
    git(repo, "config", "filter.slow.clean", f"sleep {seconds}; cat")
    (repo / ".git" / "info").mkdir(exist_ok=True)
    (repo / ".git" / "info" / "attributes").write_text("readme filter=slow\n")
    for tree in (repo.parent / "trees").iterdir():
        os.utime(tree / "readme", (1, 1))


def run_healer(home: Path, planning: str, limit: float, *arguments: str) -> dict[str, object]:
    folder = home / "mine"
    (folder / "healers").mkdir(parents=True)
    (folder / "test_things.py").write_text(CHECK)
    (folder / "healers" / "slow.py").write_text(HEALER.replace("PLANNING", planning))
    text = f"[healers.slow]\ntime_limit = {limit}\n"
    _, document = report("--config", settings(home, text), "--checks", str(folder), *arguments)
    (action,) = document["actions_taken"]
    found: dict[str, object] = action
    return found


# What is started


def test_program_gets_what_is_left_and_is_told_apart_from_a_slow_one() -> None:
    with deadline.time_limit("some_healer", 0.3), between(0.2, 2):
        with pytest.raises(
            command_errors.OutOfTime, match=r"^the time limit of some_healer, 0\.3 s, is over$"
        ):
            commands.run_program(["sleep", "30"], time_limit=60)
        with between(0, 0.1), pytest.raises(command_errors.OutOfTime):
            commands.run_program(["true"], time_limit=60)
    assert commands.run_program(["true"], time_limit=60).code == 0
    with (
        deadline.time_limit("some_healer", 60),
        pytest.raises(command_errors.ToolError, match=r"sleep took longer than 0\.2 s") as caught,
    ):
        commands.run_program(["sleep", "30"], time_limit=0.2)
    assert not isinstance(caught.value, command_errors.OutOfTime)


def test_what_was_begun_is_taken_back_without_a_limit() -> None:
    with deadline.time_limit("some_healer", 0):
        with pytest.raises(command_errors.OutOfTime):
            commands.run_program(["true"], time_limit=60)
        with deadline.lifted():
            assert commands.run_program(["true"], time_limit=60).code == 0


def test_worktrees_that_nobody_had_time_for_stay_with_that_reason(home: Path) -> None:
    repo = repository(home / "src" / "app")
    for number in range(5):
        merged_worktree(repo, f"tree {number}".replace(" ", "-"))
    place = look_at(str(repo), Config())
    assert {each.reason for each in WorktreeInspector(place).verdicts(place.worktrees())} == {None}
    slow_filter(repo, 5)
    with deadline.time_limit("cleanup_worktrees", 1), between(0.9, 4):
        found = WorktreeInspector(place).verdicts(place.worktrees())
    assert {str(each.reason) for each in found} == {
        "out of time: the time limit of cleanup_worktrees, 1 s, is over"
    }


def test_worker_threads_do_not_keep_a_program_that_is_asked_to_stop(home: Path) -> None:
    repo = repository(home / "src" / "app")
    for number in range(4):
        merged_worktree(repo, f"tree-{number}")
    slow_filter(repo, 60)
    text = (
        f"[git]\nrepos = ['{repo}']\n[checks.excessive_worktrees]\nthreshold = 1\n"
        "[healers.cleanup_worktrees]\nidle_days = 0\n"
    )
    text += "[checks.stale_git_lock]\nenabled = false\n"
    command = [
        sys.executable,
        str(PROJECT / "self_healer.py"),
        "--json",
        "--dry-run",
        "--config",
        settings(home, text),
    ]
    program = subprocess.Popen(
        command, env=environment(), cwd=home, stdout=subprocess.PIPE, text=True
    )
    wait_for(
        lambda: (
            subprocess.run(
                ["pgrep", "-f", f"{repo}.*status|worktrees/tree-"], capture_output=True
            ).stdout
            or any("status" in each for each in children_of(program.pid))
        )
    )
    with between(0, 5):
        program.send_signal(signal.SIGTERM)
        output, _ = program.communicate(timeout=20)
    assert program.returncode == 143
    assert json.loads(output)["actions_taken"][0]["message"].startswith(
        "cleanup_worktrees was stopped before its end"
    )


def children_of(pid: int) -> list[str]:
    """The command lines of those that a program has started; some end while they are looked at."""
    import psutil

    found = []
    for each in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(" ".join(each.cmdline()))
    return found


# Planning


def test_plan_that_is_not_made_is_ended_and_the_action_says_so(home: Path) -> None:
    with between(1, 8):
        action = run_healer(
            home, "while True:\n        try: pow(3, 5)\n        except Exception: pass", 1
        )
    assert (
        action["message"]
        == "slow failed: the time limit of slow, 1 s, is over, and it had not made its plan"
    )
    assert action["status"] == "failed"


def test_planning_counts_for_what_is_done_after_it(home: Path) -> None:
    with between(2, 8):
        action = run_healer(home, "time.sleep(2)", 3)
    (step,) = action["steps"]  # type: ignore[misc]
    assert (step["status"], "took longer than" in step["message"]) == ("failed", True)
    assert step["duration_seconds"] < 2


def test_plan_in_time_is_no_worse_for_the_alarm(home: Path) -> None:
    action = run_healer(home, "time.sleep(0.1)", 60, "--dry-run")
    assert (action["status"], action["message"]) == (
        "skipped",
        "Dry run: 1 step(s) planned, until never",
    )


def test_alarm_is_given_back_and_waits_for_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    rang: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: rang.append(number))
    monkeypatch.setattr(deadline, "LATE", 0.1)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.8)
        with (
            deadline.time_limit("some_healer", 0.2),
            deadline.planning(),
            pytest.raises(command_errors.OutOfTime),
        ):
            # the alarm does not cut it short in the middle
            commands.run_program(["sleep", "30"], time_limit=60)
        wait_for(lambda: rang, 3)
        with (
            deadline.time_limit("some_healer", 0.1),
            pytest.raises(deadline.TooLong),
            deadline.planning(),
        ):
            all(iter(lambda: 1, 0))  # for ever
        time.sleep(0.3)
        assert rang == [signal.SIGALRM]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_without_a_limit_and_in_another_thread_there_is_no_alarm() -> None:
    def plan() -> None:
        with deadline.planning():
            timers.append(signal.getitimer(signal.ITIMER_REAL))

    timers: list[tuple[float, float]] = []
    plan()
    with deadline.time_limit("some_healer", 60):
        thread = threading.Thread(target=plan)
        thread.start()
        thread.join()
        plan()
    assert [bool(first) for first, _ in timers] == [False, False, True]
    assert interrupts.received == 0
