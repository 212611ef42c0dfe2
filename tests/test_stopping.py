"""Asked to stop at any moment, a run finishes or takes back the step in hand, begins no other,
reports, and can be undone.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from program import SCHEMA, environment, run, settings

from conftest import PROJECT, wait_for
from miyabi_healing.state import history, quarantine, reports
from miyabi_healing.state.journal import Journal

Start = Callable[..., psutil.Popen]
AGES = "60.0417"  # seconds, as nobody else sleeps
ROUNDS = int(os.environ.get("STOP_ROUNDS", "20"))
CHECK = """
import pathlib, pytest

@pytest.mark.heal("tidy")
@pytest.mark.limit(1, unit="things")
def test_things(measure, limit):
    count = len(list((pathlib.Path.home() / "things").glob("thing*")))
    assert measure(count, f"Found {count} things") <= limit
"""
HEALER = """
import pathlib
from miyabi_healing.support.files import identity_at
from miyabi_healing.model.plan import Goal, Plan
from miyabi_healing.model.steps import Quarantine, Run

def tidy(context, issue, options):
    folder = pathlib.Path.home() / "things"
    steps = [
        Quarantine(
            target=str(path), reason="too many", undo="moved back",
            path=path, identity=identity_at(path),
        )
        for path in sorted(folder.glob("thing*"))
    ]
    slow = Run(target="sleep", reason="slow", argv=("sleep", SECONDS), time_limit=100)
    steps.insert(len(steps) // 2, slow)
    return Plan(tuple(steps), Goal("never", lambda: False))
"""


def make(home: Path, seconds: str, number: int) -> tuple[str, ...]:
    """A check that some things trip, and a healer whose middle step takes a while; returns the
    program's arguments.
    """
    folder = home / "mine"
    (folder / "healers").mkdir(parents=True)
    (folder / "test_things.py").write_text(CHECK)
    (folder / "healers" / "tidy.py").write_text(HEALER.replace("SECONDS", repr(seconds)))
    (home / "things").mkdir()
    for each in range(number):
        (home / "things" / f"thing {each}").write_text("x")
    return (
        "--config",
        settings(
            home, "[brakes]\ncooldown = 0\nattempts = 1000\nrespect_days = 0\nflap_on = 1000\n"
        ),
        "--checks",
        str(folder),
        "--json",
    )


def begin(home: Path, *arguments: str, before: Sequence[str] = ()) -> subprocess.Popen[str]:
    command = [*before, sys.executable, str(PROJECT / "self_healer.py"), *arguments]
    pipe = subprocess.PIPE
    # signals may leave its locks taken
    uncovered = environment(COVERAGE_PROCESS_START=None, COVERAGE_PROCESS_CONFIG=None)
    return subprocess.Popen(
        command,
        env=uncovered,
        cwd=home,
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,
        # the tests may run under nohup
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )


def journal_of(home: Path) -> Journal:
    return Journal(home / ".local" / "state" / "miyabi-healing" / "journal.sqlite3")


def end(program: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    import jsonschema

    output, _ = program.communicate(timeout=30)
    document = json.loads(output)
    jsonschema.validate(document, SCHEMA)
    return program.returncode, document


def test_nohup_keeps_a_run_going_when_its_terminal_goes(home: Path) -> None:
    program = begin(home, *make(home, "5", 4), before=("nohup",))
    wait_for(lambda: len(list((home / "things").iterdir())) == 2)
    os.killpg(program.pid, signal.SIGHUP)
    _, document = end(program)
    (action,) = document["actions_taken"]
    assert [step["status"] for step in action["steps"]] == ["applied"] * 5


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signal_ends_the_step_in_hand_and_the_pass_reports(
    home: Path, number: int, code: int
) -> None:
    program = begin(home, *make(home, AGES, 4))
    wait_for(lambda: len(list((home / "things").iterdir())) == 2)
    time.sleep(0.2)
    began = time.monotonic()
    program.send_signal(number)
    ended, document = end(program)
    assert (ended, time.monotonic() - began < 5) == (code, True)
    (action,) = document["actions_taken"]
    assert [step["status"] for step in action["steps"]] == ["applied", "applied"]
    assert action["message"].startswith("tidy was stopped before its end")
    assert document["errors"][-1]["message"] in ("it was interrupted", "the run was interrupted")
    journal = journal_of(home)
    assert [(row.kind, row.status) for row in journal.rows("true")] == [
        ("quarantine", "applied"), ("quarantine", "applied"), ("run", "failed"),
    ]  # fmt: skip
    assert reports.latest(journal) == document
    assert history.passes(journal, 0, 1)[0]["unknown"] == 1
    journal.close()
    assert run("rollback").returncode == 0
    assert len(list((home / "things").iterdir())) == 4
    assert not [
        each for each in psutil.process_iter(["cmdline"]) if each.info["cmdline"] == ["sleep", AGES]
    ]


def test_asked_at_random_moments_the_journal_stays_consistent_and_a_rollback_works(
    home: Path,
) -> None:
    arguments = make(home, "0.01", 12)
    ended = []
    for _ in range(ROUNDS):
        program = begin(home, *arguments)
        wait_for(
            lambda program=program: (
                len(list((home / "things").iterdir())) < 12 or program.poll() is not None
            )
        )
        time.sleep(random.random() * 0.1)
        program.send_signal(random.choice((signal.SIGINT, signal.SIGTERM)))
        program.communicate(timeout=30)
        ended.append(program.returncode)
        run("rollback")
        assert len(list((home / "things").iterdir())) == 12
        assert quarantine.find_entries(home / ".local" / "state" / "miyabi-healing") == []
    assert set(ended) <= {0, 130, 143, -signal.SIGINT, -signal.SIGTERM}
    journal = journal_of(home)
    cut_short = {row.run for row in journal.rows("status in ('failed', 'interrupted')")}
    print(
        f"{len(cut_short)} of {ROUNDS} were cut short within a step, {ended.count(0)} came too late"
    )
    assert journal.unfinished() == []
    assert journal.database.execute("pragma integrity_check").fetchone()[0] == "ok"
    journal.close()
