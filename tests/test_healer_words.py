"""What a healer's own code says of its work can fail: what was done is told all the same, and so is
that.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from program import report, run, settings

from miyabi_healing.support.paths import JOURNAL

CHECK = """
import pathlib, pytest

@pytest.mark.heal("tidy")
@pytest.mark.limit(0, unit="things")
def test_things(measure, limit):
    count = len(list((pathlib.Path.home() / "things").glob("thing*")))
    assert measure(count, f"Found {count} things") <= limit
"""
HEALER = """
import pathlib, sys
import pytest
from miyabi_healing.support.files import identity_at
from miyabi_healing.model.plan import Goal, Kept, Plan
from miyabi_healing.model.steps import Quarantine

def loop():
    found = []
    found.append(found)
    return found

def tidy(context, issue, options):
    folder = pathlib.Path.home() / "things"
    steps = tuple(
        Quarantine(target=str(path), reason="too many", path=path, identity=identity_at(path))
        for path in sorted(folder.glob("thing*"))
    )
    def fail(*_):
        return 1 / 0
    asked = []
    def fails_later():
        asked.append(1)
        return 1 / 0 if len(asked) > 2 else False
    return Plan(steps, PLAN)
"""


@pytest.fixture
def mine(home: Path) -> Path:
    folder = home / "mine"
    (folder / "healers").mkdir(parents=True)
    (folder / "test_things.py").write_text(CHECK)
    (home / "things").mkdir()
    for number in range(3):
        (home / "things" / f"thing {number}").write_text("x")
    return folder


def once(mine: Path, plan: str, *options: str) -> tuple[int, dict[str, Any], dict[str, Any]]:
    (mine / "healers" / "tidy.py").write_text(HEALER.replace("PLAN", plan))
    code, document = report("--config", settings(mine.parent), "--checks", str(mine), *options)
    (action,) = document["actions_taken"]
    return code, document, action


@pytest.mark.parametrize(
    ("done", "why"),
    [
        ("fail", "ZeroDivisionError: division by zero (tidy.py, line "),
        ("lambda n: 7", "it is int, not a text"),
        ("lambda n: sys.exit(3)", "SystemExit: 3 (tidy.py, line "),
        ("lambda n: pytest.fail('no')", "Failed: no ("),
        (
            "lambda n: n['things'].no",
            "AttributeError: 'int' object has no attribute 'no' (tidy.py, line ",
        ),
    ],
)
def test_summary_that_fails_loses_nothing_of_the_report(mine: Path, done: str, why: str) -> None:
    code, document, action = once(mine, f'Goal("none is left", lambda: False), done={done}')
    assert (code, action["status"], document["overall_success"]) == (0, "success", True)
    assert [step["status"] for step in action["steps"]] == ["applied"] * 3
    assert action["message"].startswith(f"3 step(s) applied; the healer's summary failed: {why}")
    assert run("rollback").returncode == 0


@pytest.mark.parametrize(
    ("details", "kept", "why"),
    [
        (
            '{"good": 1, "bad": {1, 2}}',
            {"good": 1},
            "TypeError: Object of type set is not JSON serializable",
        ),
        ('{"good": 1, "bad": float("nan")}', {"good": 1}, "ValueError: "),
        ('{"good": 1, "bad": loop()}', {"good": 1}, "ValueError: Circular reference detected"),
        ('{"good": 1, (1, 2): 3}', {"good": 1}, "TypeError: they are no dict whose keys are texts"),
        ("[1]", {}, "TypeError: they are no dict whose keys are texts"),
    ],
)
def test_details_that_are_no_json_lose_only_themselves(
    mine: Path, details: str, kept: dict[str, int], why: str
) -> None:
    _, _, action = once(mine, f'Goal("none is left", lambda: False), details={details}')
    assert [step["status"] for step in action["steps"]] == ["applied"] * 3
    assert (
        f"3 step(s) applied; the healer's details cannot be written as JSON: {why}"
        in action["message"]
    )
    assert {"good": action["details"]["good"]} == kept if kept else "good" not in action["details"]


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_goal_whose_text_is_none_is_told(mine: Path, options: tuple[str, ...]) -> None:
    _, _, action = once(mine, "Goal(None, lambda: False)", *options)
    assert action["goal"] == "its goal, which cannot be told: it is NoneType, not a text"
    assert {step["status"] for step in action["steps"]} == {"planned" if options else "applied"}


def test_goal_that_fails_between_steps_ends_the_plan_and_tells_what_was_done(mine: Path) -> None:
    code, _, action = once(mine, 'Goal("none is left", fails_later)')
    assert (code, action["status"]) == (1, "partial")
    assert [step["status"] for step in action["steps"]] == ["applied", "applied", "vetoed"]
    start, _, line = action["message"].partition(" (tidy.py, line ")
    assert start == "tidy failed: ZeroDivisionError: division by zero"
    assert line.endswith("); 2 step(s) had been applied")
    assert (
        action["steps"][-1]["message"]
        == "the healer's goal cannot be asked: ZeroDivisionError: division by zero"
    )
    assert "2 of 2 step(s) were undone." in run("rollback").stdout


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        ("None", "TypeError: tidy has a goal that is NoneType, not a Goal"),
        ('Goal("", lambda: False), kept=("x",)', "TypeError: tidy has str among its kept"),
        (
            'Goal("", lambda: False), kept=(each for each in "x")',
            "TypeError: tidy has kept that are generator, not a tuple",
        ),
    ],
)
def test_plan_that_is_none_is_refused_before_anything_is_done(
    mine: Path, plan: str, why: str
) -> None:
    code, _, action = once(mine, plan)
    assert (code, action["status"], action["steps"]) == (1, "failed", [])
    assert action["message"] == f"tidy failed: {why}"
    assert len(list((mine.parent / "things").iterdir())) == 3


# Steps of a kind that this version does not know


def test_nobody_guesses_what_a_step_of_another_version_did(mine: Path) -> None:
    once(mine, 'Goal("none is left", lambda: False)')
    state = mine.parent / ".local" / "state" / "miyabi-healing"
    with sqlite3.connect(state / JOURNAL) as database:
        for kind, status in (
            ("truncate table", "null"),
            ("rebuild index", "'applied'"),
            ("quarantine", "null"),
        ):
            database.execute(
                "insert into step (run, healer, kind, target, reason, step, intended, finished, "
                "status, undo) "
                f"select run, healer, '{kind}', '{kind} of another', reason, step, intended, "
                f"{status} and 1.0, {status}, '{{}}' "
                "from step limit 1"
            )
    database.close()
    unknown = "this version does not know steps of the kind {!r}: what it did is unknown"
    off = settings(mine.parent, "[checks.things]\nenabled = false\n")
    for options in (("--dry-run",), ()):
        # as a crash leaves it: or a dry run does not look
        (state / f"{JOURNAL}-wal").touch() if options else None
        _, document = report("--config", off, "--checks", str(mine), *options)
        results = {row["kind"]: row["result"] for row in document["recovered"]}
        assert results["truncate table"] == unknown.format("truncate table")
        assert results["quarantine"] == (
            "a run that may change something takes it back"
            if options
            else "nothing had been changed yet"
        )
    assert report("--config", off, "--checks", str(mine))[1]["recovered"] == []
    done = run("rollback").stdout
    for kind in ("truncate table", "rebuild index"):
        assert f"– {kind} {kind} of another (step " in done
        assert f"): {unknown.format(kind)}" in done
    assert "3 of 6 step(s) were undone." in done
