"""A coordinator of tasks that is gone or hangs is started again, once its claims are given back;
one that lives keeps them, however slow it is.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
from coordinatorwork import (
    LIMIT,
    World,
    end_later,
    fail_over,
    gone,
    now,
    planned,
    task,
    with_start,
    written,
)
from gatework import carry_out, work
from program import report, settings

from conftest import wait_for
from miyabi_healing.gate import rollback
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.gate.primitives.roots import allowed
from miyabi_healing.host.coordinators.health import CoordinatorHealth, Life, State
from miyabi_healing.host.readings import Host
from miyabi_healing.model.actions import Outcome
from miyabi_healing.model.config import Config
from miyabi_healing.support.config_loader import interpret, parse_toml

Start = Callable[..., psutil.Popen]


@pytest.fixture
def world(home: Any, start: Start) -> Iterator[World]:
    made = World(home, start)
    yield made
    end_later(made)


def healed(world: World, text: str) -> tuple[int, dict[str, Any]]:
    return report("--config", settings(world.home, text))


def action(document: dict[str, Any]) -> dict[str, Any]:
    (found,) = document["actions_taken"]
    assert isinstance(found, dict)
    return found


def read(text: str) -> Config:
    return interpret(parse_toml(text, "test"), "test")


def look(config: Config) -> State:
    return CoordinatorHealth("builder", config).look()


def context(world: World, config: Config, run: str = "run") -> Context:
    return Context(Host(config), run, world.home.parent / "state", allowed(config, ()))


def done(world: World, config: Config) -> list[Outcome]:
    return carry_out(planned(config, "orphaned_tasks"), context(world, config))


def test_killed_coordinator_with_three_claims_is_back_and_nobody_waits(world: World) -> None:
    process = world.begin()
    owner = with_start(process)
    written(world, *(task(number, owner) for number in (1, 2, 3)), task(4, None, "pending"))
    process.kill()
    process.wait()
    code, document = healed(world, world.config())
    assert code == 0
    assert [each["name"] for each in document["issues_detected"]] == ["coordinator_down"]
    assert set(now(world).values()) == {("pending", None)}
    assert psutil.pid_exists(world.pid())
    assert (world.pid() != process.pid, world.starts()) == (True, 2)
    assert action(document)["details"]["claims_given_back"] == 3


def test_stopped_coordinator_is_ended_before_its_claims_are_given_back(world: World) -> None:
    process = world.begin()
    written(world, task(1, with_start(process)))
    os.kill(process.pid, signal.SIGSTOP)
    world.beat_late()
    code, document = healed(world, world.config(heartbeat_limit=LIMIT))
    assert (code, process.wait()) == (0, -signal.SIGKILL)
    assert now(world) == {"t1": ("pending", None)}
    assert (world.starts(), world.pid() != process.pid) == (2, True)
    kinds = [(each["kind"], each["status"]) for each in action(document)["steps"]]
    assert kinds == [(each, "applied") for each in ("signal", "signal", "give back", "run")]


def test_crash_loop_gets_no_more_attempts_than_the_policy_has(world: World) -> None:
    written(world)
    text = world.config(mode="dies") + "[policy]\ncooldown = 0\nattempts = 1\n"
    text += "[healers.fail_over]\nwithin = 0.3\nsettle = 0\n"
    healed(world, text)  # whether the check passes is a matter of moments
    wait_for(lambda: world.starts() == 1 and not psutil.pid_exists(world.pid()))
    assert "attempts: tried 1 time(s)" in action(healed(world, text)[1])["message"]
    assert world.starts() == 1


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


# What lives


def test_healthy_coordinator_and_its_claims_are_left_alone(world: World) -> None:
    process = world.begin()
    written(world, task(1, with_start(process)))
    config = read(world.config())
    assert look(config).life == Life.WELL
    found = CoordinatorHealth("builder", config).claims
    assert (found.orphaned, len(found.found), list(found.notes)) == (0, 1, [])
    assert planned(config, "orphaned_tasks").steps == ()


def test_fresh_heartbeat_hides_no_claim_of_an_owner_that_is_gone(world: World) -> None:
    process = world.begin()
    owner, living = gone(world.start), with_start(process)
    written(world, task(1, owner), task(2, living), task(3, owner))
    made = fail_over(read(world.config()), "orphaned_tasks")
    assert made.expects
    assert made.expects(made.steps) == 0
    (world.home / "beat").touch()
    code, document = healed(world, world.config())
    (issue,) = document["issues_detected"]
    assert (code, issue["name"], issue["metric_value"]) == (0, "orphaned_tasks", 2)
    assert "Found 2 of 3 claim(s) of builder whose owner is gone" in issue["description"]
    assert now(world) == {
        "t1": ("pending", None),
        "t2": ("in_progress", living),
        "t3": ("pending", None),
    }
    assert (process.is_running(), world.starts()) == (True, 1)


def test_slow_coordinator_that_gets_on_is_left_alone_and_said(world: World) -> None:
    process = world.begin("busy")
    written(world, task(1, with_start(process)))
    world.beat_late()
    config = read(world.config(heartbeat_limit=LIMIT))
    found = look(config)
    assert (found.life, found.down) == (Life.SLOW, 0)
    assert "is slow, and left alone" in found.notes[0]
    assert planned(config, "orphaned_tasks").steps == ()


def test_worker_that_gets_on_is_no_sign_of_life_of_its_coordinator(world: World) -> None:
    """Whoever has a claim works for itself; any other child works for its parent."""
    process = world.begin("parent")
    (worker,) = psutil.Process(process.pid).children()
    world.beat_late()
    config = read(world.config(heartbeat_limit=LIMIT))
    written(world)
    assert look(config).life == Life.SLOW
    written(world, task(1, with_start(worker)))
    assert look(config).life == Life.SILENT
    worker.kill()


def test_silent_coordinator_is_ended_only_once_runs_have_seen_it_so(world: World) -> None:
    process = world.begin("silent")
    written(world, task(1, with_start(process)))
    world.beat_late()
    config = read(world.config(heartbeat_limit=LIMIT))
    first = fail_over(config, "coordinator_down")
    assert (first.steps, [each.reason for each in first.kept]) == ((), ["seen too shortly"])
    (mark,) = first.sightings
    again = fail_over(config, "coordinator_down", seen={mark: 31})
    kinds = [each.kind for each in again.steps]
    assert kinds == ["signal", "signal", "give back", "run"]
    other = fail_over(config, "coordinator_down", seen={f"{mark}0": 31})
    assert other.steps == ()


# Other ways back


def test_claims_are_given_back_by_the_command_where_there_is_one(world: World) -> None:
    world.begin()
    owner = gone(world.start)
    written(world, task(1, owner))
    tool = world.home / "tool.sh"
    tool.write_text(f'#!/bin/sh\necho "$@" >> {world.home}/said\n')
    tool.chmod(0o755)
    config = read(world.config(give_back_command=[str(tool), "{id}", "{status}", "{owner}"]))
    assert [each.status for each in done(world, config)] == ["applied"]
    assert (world.home / "said").read_text() == f"t1 in_progress {owner}\n"


def test_claim_that_a_command_would_take_for_an_option_is_kept(world: World) -> None:
    world.begin()
    written(world, {**task(1, gone(world.start)), "id": "--all"}, task(2, gone(world.start)))
    made = planned(read(world.config(give_back_command=["~/tool", "{id}"])), "orphaned_tasks")
    (step,) = made.steps
    assert step.argv == (f"{os.environ['HOME']}/tool", "t2")  # type: ignore[attr-defined]


def rolled_back(world: World, config: Config) -> list[str]:
    with work(context(world, config, "later")) as prepared:
        rows = rollback.choose(world.home.parent / "state", prepared.journal, "run")
        return [
            each.status
            for each in rollback.carry_out_rollback(rows, prepared.context, prepared.journal)
        ]


def test_what_was_given_back_can_be_claimed_again(world: World) -> None:
    world.begin()
    text = written(world, task(1, gone(world.start)), task(2, gone(world.start)))
    world.tasks.chmod(0o640)
    config = read(world.config())
    done(world, config)
    assert set(now(world).values()) == {("pending", None)}
    assert rolled_back(world, config) == ["undone"]
    assert (world.tasks.read_text(), world.tasks.stat().st_mode & 0o777) == (text, 0o640)


def test_another_task_that_has_its_number_in_the_list_by_now_is_not_claimed(world: World) -> None:
    world.begin()
    written(world, task(1, gone(world.start)), task(2, None, "pending"))
    config = read(world.config())
    done(world, config)
    document = json.loads(world.tasks.read_text())
    document["tasks"] = [{**document["tasks"][1], "started_at": None}]
    world.tasks.write_text(json.dumps(document))
    rolled_back(world, config)
    assert now(world) == {"t2": ("pending", None)}


def test_task_that_somebody_has_taken_since_is_not_claimed_again(world: World) -> None:
    world.begin()
    owner = gone(world.start)
    written(world, task(1, owner), task(2, owner))
    config = read(world.config())
    done(world, config)
    text = world.tasks.read_text()
    start = text.index('"t2"')
    taken = text[:start] + text[start:].replace('"pending"', '"completed"', 1)
    world.tasks.write_text(taken)
    assert rolled_back(world, config) == ["undone"]
    assert now(world) == {"t1": ("in_progress", owner), "t2": ("completed", None)}
