"""A coordinator of tasks that is gone or hangs is started again, once its claims are given back;
one that lives keeps them, however slow it is.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from coordinatorwork import LIMIT, World, end_later, gone, now, task, with_start, written
from program import report, run, settings

from conftest import wait_for

Start = Callable[..., psutil.Popen]


@pytest.fixture
def world(home: Path, start: Start) -> Iterator[World]:
    made = World(home, start)
    yield made
    end_later(made)


def healed(world: World, text: str, *more: str) -> tuple[int, dict[str, Any]]:
    return report("--config", settings(world.home, text), *more)


def action(document: dict[str, Any]) -> dict[str, Any]:
    (found,) = document["actions_taken"]
    assert isinstance(found, dict)
    return found


def test_killed_coordinator_with_three_claims_is_back_and_nobody_waits(world: World) -> None:
    process = world.begin()
    owner = with_start(process)
    written(world, *(task(number, owner) for number in (1, 2, 3)), task(4, None, "pending"))
    process.kill()
    process.wait()
    begun = time.monotonic()
    code, document = healed(world, world.config())
    print(f"kill -9 with 3 claims: {time.monotonic() - begun:.2f} s")
    assert (code, [each["name"] for each in document["issues_detected"]]) == (
        0,
        ["coordinator_down"],
    )
    assert set(now(world).values()) == {("pending", None)}
    assert psutil.pid_exists(world.pid())
    assert world.pid() != process.pid
    assert world.starts() == 2
    assert action(document)["details"]["claims_given_back"] == 3


def test_healthy_coordinator_and_its_claims_are_left_alone(world: World) -> None:
    process = world.begin()
    text = written(world, task(1, with_start(process)))
    code, document = healed(world, world.config())
    assert (code, document["issues_detected"]) == (0, [])
    assert (world.tasks.read_text(), world.pid()) == (text, process.pid)


def test_fresh_heartbeat_hides_no_claim_of_an_owner_that_is_gone(world: World) -> None:
    process = world.begin()
    owner, living = gone(world.start), with_start(process)
    written(world, task(1, owner), task(2, living), task(3, owner))
    (world.home / "beat").touch()
    code, document = healed(world, world.config(heartbeat_limit=100))
    assert (code, [each["name"] for each in document["issues_detected"]]) == (0, ["orphaned_tasks"])
    assert document["issues_detected"][0]["metric_value"] == 2
    assert now(world) == {
        "t1": ("pending", None),
        "t2": ("in_progress", living),
        "t3": ("pending", None),
    }
    assert (world.pid(), world.starts()) == (process.pid, 1)


def test_stopped_coordinator_is_ended_before_its_claims_are_given_back(world: World) -> None:
    process = world.begin()
    written(world, task(1, with_start(process)))
    os.kill(process.pid, signal.SIGSTOP)
    world.beat_late()
    begun = time.monotonic()
    code, document = healed(
        world, world.config(heartbeat_limit=LIMIT) + "[healers.fail_over]\npatience = 0.3\n"
    )
    print(f"a hang: {time.monotonic() - begun:.2f} s")
    for each in action(document)["steps"]:
        print(each["target"], each["status"], each["message"], each["duration_seconds"])
    assert code == 0, json.dumps(document, indent=1)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert now(world) == {"t1": ("pending", None)}
    assert (world.starts(), world.pid() != process.pid) == (2, True)


def test_slow_coordinator_that_gets_on_is_left_alone_and_said(world: World) -> None:
    process = world.begin("busy")
    text = written(world, task(1, with_start(process)))
    world.beat_late()
    code, document = healed(world, world.config(heartbeat_limit=LIMIT))
    assert (code, document["issues_detected"], world.pid()) == (0, [], process.pid)
    assert any("is slow, and left alone" in note for note in document["notes"])
    assert world.tasks.read_text() == text


def test_silent_coordinator_is_ended_only_once_runs_have_seen_it_so(world: World) -> None:
    process = world.begin("silent")
    written(world, task(1, with_start(process)))
    world.beat_late()
    code, document = healed(world, world.config(heartbeat_limit=LIMIT))
    assert (code, process.is_running()) == (1, True)
    assert "seen too shortly" in json.dumps(document)
    quick = (
        world.config(heartbeat_limit=LIMIT) + "[healers.fail_over]\nseen_for = 0\npatience = 2\n"
    )
    assert healed(world, quick)[0] == 0
    assert (process.wait(), world.starts()) == (-signal.SIGTERM, 2)


def test_crash_loop_gets_three_attempts(world: World) -> None:
    """That one was there for a moment, and the check passed, forgives nothing."""
    written(world)
    text = world.config(mode="dies") + "[policy]\ncooldown = 0\nflap_on = 100\nflap_off = 100\n"
    text += "[healers.fail_over]\nwithin = 0.3\nsettle = 0\n"
    messages = [action(healed(world, text)[1])["message"] for _ in range(4)]
    assert "attempts: tried 3 time(s)" in messages[3]
    assert not any("attempts" in each for each in messages[:3])
    assert world.starts() == 3


def test_start_that_passes_at_once_counts_as_an_attempt_all_the_same(world: World) -> None:
    """Until a run finds it healthy: then what was tried is forgiven."""
    written(world)
    text = world.config() + "[policy]\ncooldown = 0\nattempts = 1\nflap_on = 100\nflap_off = 100\n"
    assert action(healed(world, text)[1])["status"] == "success"
    psutil.Process(world.pid()).kill()
    code, document = healed(world, text)
    assert (code, "attempts: tried 1 time(s)" in action(document)["message"]) == (1, True)
    again = world.start(*world.argv())
    wait_for(lambda: world.pid() == again.pid)
    assert healed(world, text)[0] == 0
    again.kill()
    again.wait()
    assert action(healed(world, text)[1])["status"] == "success"


def test_dry_run_says_all_and_changes_nothing(world: World) -> None:
    owner = gone(world.start)
    text = written(world, task(1, owner))
    code, document = healed(world, world.config(), "--dry-run")
    first, _ = document["actions_taken"]
    assert (code, [each["kind"] for each in first["steps"]]) == (1, ["give back", "run"])
    assert world.tasks.read_text() == text


def test_claims_are_given_back_by_the_command_where_there_is_one(world: World) -> None:
    world.begin()
    owner = gone(world.start)
    written(world, task(1, owner))
    tool = world.home / "tool.sh"
    tool.write_text(f'#!/bin/sh\necho "$@" >> {world.home}/said\n')
    tool.chmod(0o755)
    given = world.config(give_back_command=[str(tool), "{id}", "{status}", "{owner}"])
    healed(world, given)
    assert (world.home / "said").read_text() == f"t1 in_progress {owner}\n"


def test_what_was_given_back_can_be_claimed_again(world: World) -> None:
    world.begin()
    text = written(world, task(1, gone(world.start)), task(2, gone(world.start)))
    world.tasks.chmod(0o640)
    assert healed(world, world.config())[0] == 0
    assert set(now(world).values()) == {("pending", None)}
    assert world.tasks.stat().st_mode & 0o777 == 0o640
    run("rollback")
    assert (world.tasks.read_text(), world.tasks.stat().st_mode & 0o777) == (text, 0o640)


def test_task_that_somebody_has_taken_since_is_not_claimed_again(world: World) -> None:
    world.begin()
    owners = [gone(world.start), gone(world.start)]
    written(world, *(task(number, owner) for number, owner in enumerate(owners)))
    assert healed(world, world.config())[0] == 0
    tasks = json.loads(world.tasks.read_text())
    tasks["tasks"][1].update(status="completed", assigned_to="me")
    world.tasks.write_text(json.dumps(tasks))
    run("rollback")
    assert now(world) == {"t0": ("in_progress", owners[0]), "t1": ("completed", "me")}
