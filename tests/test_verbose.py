"""What --verbose tells on standard error: where checks and healers fail, what was asked and how
long it took; and that it changes nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from program import environment, run, settings

from conftest import PROJECT

CHECK = """
import pathlib, pytest

@pytest.mark.heal("tidy")
@pytest.mark.limit(1, unit="things")
def test_things(measure, limit):
    count = len(list((pathlib.Path.home() / "things").iterdir()))
    assert measure(count, f"Found {count} things") <= limit
"""
HEALER = """
import logging, pathlib
from miyabi_healing.api import Goal, Plan, quarantine, run_tool

def tidy(context, issue, options):
    logging.getLogger(__name__).info("asked about %s", issue.name)
    folder = pathlib.Path.home() / "things"
    steps = [run_tool(["true"], "to see it work")]
    steps += [quarantine(path, "too many") for path in sorted(folder.iterdir())]
    return Plan(tuple(steps), Goal("few are left", lambda: not list(folder.iterdir())))
"""
RECORD = re.compile(r" *\d+\.\d{3} [\w.]+: ")


@pytest.fixture
def mine(home: Path) -> Path:
    folder = home / "mine"
    (folder / "healers").mkdir(parents=True)
    (folder / "test_things.py").write_text(CHECK)
    (folder / "healers" / "tidy.py").write_text(HEALER)
    (home / "things").mkdir()
    for name in "abc":
        (home / "things" / name).write_text(name)
    return folder


def arguments(mine: Path) -> tuple[str, ...]:
    return ("--config", settings(mine.parent), "--checks", str(mine))


def test_checks_healers_programs_and_steps_are_told_with_their_times(mine: Path) -> None:
    done = run("-vv", "--json", *arguments(mine))
    assert (done.returncode, json.loads(done.stdout)["overall_success"]) == (0, True)
    for told in (
        r"runner\.judging: check things: call failed, \d+\.\d{3} s",
        r"runner\.healing: healer tidy: asked about things \(Found 3 things\), to bring it to 0\.9",
        r"miyabi_healing_healers\.tidy: asked about things",
        r"runner\.healing: healer tidy: 4 step\(s\), 0 thing\(s\) kept, \d+\.\d{3} s",
        r"support\.commands: true: status 0, \d+\.\d{3} s",
        r"gate\.batch: run true: applied.*, \d+\.\d{3} s",
        r"gate\.batch: quarantine .*/things/a: applied.*, \d+\.\d{3} s",
        r"runner\.healing: healer tidy: over, \d+\.\d{3} s",
        r"runner\.judging: check things: call passed, \d+\.\d{3} s",
    ):
        assert re.search(rf"^ *\d+\.\d{{3}} {told}$", done.stderr, re.MULTILINE), told


def test_failed_check_is_shown_with_its_file_and_line(mine: Path) -> None:
    done = run("-v", "--verbose", "--dry-run", *arguments(mine))
    assert f'    |   File "{mine / "test_things.py"}", line 8, in test_things' in done.stderr
    assert "    | AssertionError: assert 3 <= 1" in done.stderr
    assert "_pytest" not in done.stderr


def test_healer_that_raises_is_shown_with_its_file_and_line(mine: Path) -> None:
    (mine / "healers" / "tidy.py").write_text("def tidy(context, issue, options):\n    1 / 0\n")
    done = run("-vv", *arguments(mine))
    assert done.returncode == 1
    assert f'    |   File "{mine / "healers" / "tidy.py"}", line 2, in tidy' in done.stderr
    assert "    | ZeroDivisionError: division by zero" in done.stderr
    assert "Traceback" not in done.stdout


def test_guard_and_goal_that_raise_are_shown_with_their_file_and_line(mine: Path) -> None:
    file = mine / "healers" / "tidy.py"
    file.write_text(HEALER.replace('"too many"', '"too many", guard=lambda: 1 / 0'))
    done = run("-vv", *arguments(mine))
    assert f'File "{file}", line 9, in <lambda>' in done.stderr
    file.write_text(HEALER.replace("not list(", "1 / len("))
    done = run("-vv", *arguments(mine), MIYABI_HEALING__BRAKES__COOLDOWN="0")
    assert f'File "{file}", line 10, in <lambda>' in done.stderr


def test_check_that_cannot_be_loaded_is_shown_with_its_file_and_line(mine: Path) -> None:
    (mine / "test_broken.py").write_text("\nimport no_such_module\n")
    done = run("-vv", *arguments(mine))
    assert done.returncode == 3
    assert re.search(r"test_broken\.py cannot be loaded$", done.stderr, re.MULTILINE)
    assert "test_broken.py:2: in <module>" in done.stderr


def test_healer_with_options_that_cannot_be_loaded_is_named(mine: Path) -> None:
    """Its options are looked at before anything runs."""
    file = mine / "healers" / "tidy.py"
    file.write_text("from miyabi_healing.api import quarentine\n")
    config = settings(mine.parent, "[healers.tidy]\nkeep = 1\n")
    done = run("-vv", "--config", config, "--checks", str(mine))
    assert done.returncode == 3
    said = f"healer {file} cannot be loaded: ImportError: cannot import name 'quarentine'"
    assert said in done.stderr.splitlines()[-1]
    assert f'    |   File "{file}", line 1, in <module>' in done.stderr
    done = run("--watch", "--config", config, "--checks", str(mine))
    assert done.returncode == 3
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_variable_of_the_environment_does_the_same(mine: Path) -> None:
    assert "check things: call" in run(*arguments(mine), MIYABI_HEALING_DEBUG="1").stderr
    assert run(*arguments(mine), MIYABI_HEALING_DEBUG="0").stderr == ""
    assert run(*arguments(mine), MIYABI_HEALING_DEBUG="").stderr == ""


def test_nothing_is_told_unless_somebody_asked(mine: Path) -> None:
    done = run(*arguments(mine))
    assert (done.returncode, done.stderr) == (0, "")


def test_what_others_chose_reaches_nobody_raw_and_passes_for_no_record(mine: Path) -> None:
    """An error's text, a path, what a healer logs: escaped, and each further line marked as one."""
    evil = "\\x1b[2J\\r\\x9b1m\\u202e\\n    0.001 gate.batch: forged\\u2028"
    log = f'logging.getLogger(__name__).error("%s", "{evil}")'
    (mine / "healers" / "tidy.py").write_text(
        HEALER.replace("    folder =", f"    {log}\n    folder =", 1).replace(
            "    return", f'    raise OSError("{evil}")\n    return'
        )
    )
    (mine.parent / "things" / "\x1b[31m\nred").write_text("red")
    done = run("-vv", *arguments(mine))
    lines = done.stderr.split("\n")
    assert all(line.isprintable() for line in lines)
    assert all(RECORD.match(line) or line.startswith("    | ") for line in lines[:-1])
    forged = [line for line in lines if line.lstrip("| ").startswith("0.001 gate.batch: forged")]
    assert len(forged) >= 2
    assert all(line.startswith("    | ") for line in forged)


def test_message_that_cannot_be_put_together_ends_nothing(mine: Path) -> None:
    bad = 'logging.getLogger(__name__).info("%d and %d", "one")'
    (mine / "healers" / "tidy.py").write_text(
        HEALER.replace("    folder =", f"    {bad}\n    folder =", 1)
    )
    done = run("-vv", *arguments(mine))
    assert done.returncode == 0
    assert "miyabi_healing_healers.tidy: a message that cannot be put together" in done.stderr


def test_nobody_reads_it_and_the_run_goes_on(mine: Path) -> None:
    command = [sys.executable, str(PROJECT / "self_healer.py"), "-vv", "--json", *arguments(mine)]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as done:
        assert done.stdout is not None
        assert done.stderr is not None
        done.stderr.close()
        document = json.loads(done.stdout.read())
    assert (done.returncode, document["overall_success"]) == (0, True)


def test_watch_tells_of_each_pass_and_its_output_stays_json(mine: Path) -> None:
    command = [sys.executable, str(PROJECT / "self_healer.py"), "-vv", "--json", "--watch"]
    with subprocess.Popen(
        [*command, "--interval", "0.2", *arguments(mine)],
        env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as watch:  # fmt: skip
        assert watch.stdout is not None
        documents = [json.loads(watch.stdout.readline()) for _ in range(3)]
        watch.send_signal(signal.SIGTERM)
        _, errors = watch.communicate(timeout=30)
    assert [each["overall_success"] for each in documents] == [True] * 3
    assert len(documents[0]["actions_taken"]) == 1
    assert errors.count("check things: call failed") == 1
    assert errors.count("check things: call passed") >= 3


def test_command_tells_as_well(home: Path) -> None:
    done = run("-vv", "--config", settings(home), "status")
    assert "Traceback" not in done.stderr
    assert done.returncode == 3  # no run yet: how the host is is not known


def test_terminal_gets_lines_and_no_view_that_is_drawn_over(home: Path) -> None:
    """Where standard error is the same terminal, each would draw over the other."""
    expected = (b"next run in", b"runner.judging: check large_log_files")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, str(PROJECT / "self_healer.py"), "-vv", "--config", settings(home),
         "--watch", "--interval", "0.2"],
        cwd=home, env=environment(TERM="xterm", NO_COLOR="1"),
        stdin=theirs, stdout=theirs, stderr=theirs,
    ) as watch:  # fmt: skip
        os.close(theirs)
        seen, end = b"", time.monotonic() + 20
        while time.monotonic() < end and not all(each in seen for each in expected):
            if select.select([ours], [], [], 0.2)[0]:
                seen += os.read(ours, 1 << 16)
        watch.terminate()
        while watch.poll() is None and time.monotonic() < end + 10:
            if select.select([ours], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    os.read(ours, 1 << 16)
    os.close(ours)
    assert [each in seen for each in expected] == [True, True]
    assert b"\x1b" not in seen
