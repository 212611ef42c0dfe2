"""One line and 0, 1, 2 or 3, as the guidelines for monitoring plugins want it, whatever happens."""

from __future__ import annotations

import math
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from program import environment, report, run, settings

from conftest import PROJECT, wait_for
from miyabi_healing.report.outputs import nagios

CHECK = """
import pathlib, pytest, time

@pytest.mark.heal("tidy")
@pytest.mark.limit(1, severity="SEVERITY", high=3, critical=5, unit="%")
def test_things(measure, limit):
    ACT
    count = len(list((pathlib.Path.home() / "things").glob("thing*")))
    assert measure(count, f"Found {count} things") <= limit
"""
HEALER = """
import pathlib
from miyabi_healing.support.files import identity_at
from miyabi_healing.model.plan import Goal, Plan
from miyabi_healing.model.steps import Quarantine

def tidy(context, issue, options):
    folder = pathlib.Path.home() / "things"
    steps = tuple(
        Quarantine(
            target=str(path), reason="too many", undo="moved back",
            path=path, identity=identity_at(path),
        )
        for path in sorted(folder.glob("thing*"))
    )
    return Plan(steps, Goal("never", lambda: False))
"""
LINE = re.compile(r"MIYABI (OK|WARNING|CRITICAL|UNKNOWN) - ([^|\n]+?)(?: \| (.+))?\n")
DATUM = re.compile(r"'([^'=|]+)'=(-?[0-9.]+|U)(%|s|[KMGT]?B)?;(-?[0-9.]*);(-?[0-9.]*)(?: |$)")


def parsed(output: str) -> tuple[str, str, dict[str, tuple[str, ...]]]:
    """State, text and data of a plugin's output, of which nothing is left over."""
    matched = LINE.fullmatch(output)
    assert matched, output
    data = matched[3] or ""
    assert DATUM.sub("", data) == ""
    return matched[1], matched[2], {each[0]: each[1:] for each in DATUM.findall(data)}


def world(
    home: Path, things: int = 0, *, severity: str = "medium", act: str = "pass"
) -> tuple[str, ...]:
    folder = home / "mine"
    (folder / "healers").mkdir(parents=True, exist_ok=True)
    (folder / "test_things.py").write_text(CHECK.replace("SEVERITY", severity).replace("ACT", act))
    (folder / "healers" / "tidy.py").write_text(HEALER)
    (home / "things").mkdir(exist_ok=True)
    for number in range(things):
        (home / "things" / f"thing {number}").write_text("x")
    return ("--nagios", "--config", settings(home), "--checks", str(folder))


def asked(*arguments: str) -> tuple[int, str, str, dict[str, tuple[str, ...]]]:
    done = run(*arguments)
    assert done.stderr == ""
    return done.returncode, *parsed(done.stdout)


def test_healthy_host_is_ok_with_its_numbers(home: Path) -> None:
    code, state, text, data = asked(*world(home))
    assert (code, state, text) == (0, "OK", "No issues detected. System is healthy.")
    assert data["things"] == ("0", "%", "1", "5")
    assert data[f"large_log_files {home}/logs/_.log".replace("_.log", "*.log")] == (
        "0",
        "MB",
        "500",
        "",
    )


@pytest.mark.parametrize(
    ("things", "severity", "code"),
    [(2, "low", 1), (2, "medium", 1), (3, "low", 1), (5, "low", 2), (2, "critical", 2)],
)
def test_issues_are_warnings_and_critical_ones_critical(
    home: Path, things: int, severity: str, code: int
) -> None:
    state = nagios.STATES[code]
    seen = asked("--dry-run", *world(home, things, severity=severity))
    assert seen[:2] == (code, state)
    assert seen[2].startswith("Dry run: 1 issue(s) detected, nothing was changed.; things (")
    assert seen[2].endswith(f": Found {things} things")
    assert seen[3]["things"] == (str(things), "%", "1", "1" if severity == "critical" else "5")
    assert len(list((home / "things").iterdir())) == things


def test_what_was_healed_is_ok(home: Path) -> None:
    code, state, text, data = asked(*world(home, 5))
    assert (code, state, text, data["things"][0]) == (
        0,
        "OK",
        "Successfully healed 1 issue(s).",
        "0",
    )


def test_check_that_could_not_run_is_unknown_and_a_critical_issue_weighs_more(home: Path) -> None:
    code, state, text, _ = asked(*world(home, act="raise TypeError('odd | one')"))
    assert (code, state) == (3, "UNKNOWN")
    assert text.endswith("things could not run: TypeError: odd / one")
    arguments = world(home, 5)
    (home / "mine" / "test_other.py").write_text(
        "import pytest\n@pytest.mark.limit(1)\ndef test_other(measure, limit):\n    raise "
        "TypeError('odd')\n"
    )
    code, state, text, _ = asked("--dry-run", *arguments)
    assert (code, state) == (2, "CRITICAL")
    assert "other could not run" in text


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--config", "/nowhere"), "--config: /nowhere: no such file"),
        (("--bogus",), "No such option"),
        (("--interval", "x"), "'x' is no duration"),
        (("--json",), "leave out --json, --watch and commands"),
        (("--watch",), "leave out --json, --watch and commands"),
        (("status",), "leave out --json, --watch and commands"),
        (("bogus",), "No such command"),
    ],
)
def test_usage_and_configuration_are_unknown(home: Path, more: tuple[str, ...], said: str) -> None:
    code, state, text, data = asked(*world(home, 2), *more)
    assert (code, state, data) == (3, "UNKNOWN", {})
    assert said in text
    assert len(list((home / "things").iterdir())) == 2


def test_without_it_usage_stays_as_it_was(home: Path) -> None:
    done = run("--bogus")
    assert (done.returncode, done.stdout, "No such option" in done.stderr) == (2, "", True)


def test_lock_that_is_held_is_unknown(home: Path) -> None:
    from miyabi_healing.state import run_lock

    arguments = world(home)
    held = run_lock.acquire(home / ".local" / "state" / "miyabi-healing")
    try:
        code, state, text, _ = asked(*arguments)
    finally:
        run_lock.release(held)
    assert (code, state) == (3, "UNKNOWN")
    assert "another run is at work" in text


def test_being_stopped_is_unknown(home: Path) -> None:
    arguments = world(home, act="(pathlib.Path.home() / 'began').touch(); time.sleep(60)")
    command = [sys.executable, str(PROJECT / "self_healer.py"), *arguments]
    program = subprocess.Popen(
        command, cwd=home, env=environment(), stdout=subprocess.PIPE, text=True
    )
    wait_for((home / "began").exists)
    program.send_signal(signal.SIGTERM)
    output, _ = program.communicate(timeout=30)
    assert (program.returncode, parsed(output)[0]) == (3, "UNKNOWN")


def test_report_says_from_where_on_a_metric_is_critical(home: Path) -> None:
    _, document = report(*world(home)[1:])
    bounds = {row["name"]: row["critical"] for row in document["metrics"]}
    assert (bounds["things"], bounds["large_log_files"]) == (5, None)


def document(**changes: Any) -> dict[str, Any]:
    return {"summary": "s", "issues_detected": [], "errors": [], "metrics": [], **changes}


def metric(name: str, value: float, unit: str = "") -> dict[str, Any]:
    return {
        "name": "check",
        "target": name,
        "value": value,
        "threshold": 15.5,
        "critical": None,
        "unit": unit,
    }


@pytest.mark.parametrize(
    "words",
    [
        "a\nb",
        "a|b",
        "::error::x",
        "'quote\"",
        "\udcff",
        "\x00\x1b[31m",
        "x" * 1_000_000,
        "€" * 5000,
        "\u2028",
    ],
)
def test_hostile_words_stay_one_line_without_a_bar(words: str) -> None:
    shown = nagios.line(document(summary=f"a {words} z", metrics=[metric("/", 1)]), 0)
    state, text, data = parsed(f"{shown}\n")
    assert (state, list(data)) == ("OK", ["check /"])
    assert len(text) < 1600
    assert text.isprintable()


def test_hostile_labels_and_values_are_read_as_they_should_be() -> None:
    names = ["it's", "a=b", "a|b", "two\nlines", "ü", "\udcff", "x" * 1_000_000, ";1;2"]
    values = [math.nan, math.inf, 1e20, 1e-9, -0.25, 3.0, 100, 0.1]
    rows = [metric(name, value, "GB") for name, value in zip(names, values, strict=True)]
    _, _, data = parsed(
        nagios.line(document(metrics=[*rows, metric("twin", 1), metric("twin", 2)]), 0) + "\n"
    )
    long = next(each for each in data if each.startswith("check xxx"))
    assert data == {
        "check it_s": ("U", "", "15.5", ""),
        "check a_b~19960cc8": ("U", "", "15.5", ""),
        "check a_b~f0f4728c": ("100000000000000000000", "GB", "15.5", ""),
        "check two_lines": ("0", "GB", "15.5", ""),
        "check _~f3dea40f": ("-0.25", "GB", "15.5", ""),
        "check _~acdbf580": ("3", "GB", "15.5", ""),
        long: ("100", "GB", "15.5", ""),
        "check ;1;2": ("0.1", "GB", "15.5", ""),
        "check twin": ("1", "", "15.5", ""),
    }
    assert len(long) == 200


def icinga_labels(line: str) -> list[str]:
    """The labels that Icinga 2 reads: one with two colons names a command, and goes before all
    after it (PluginUtility::SplitPerfdata).
    """
    prefix, found = "", []
    for quoted, bare in re.findall(r"(?:'([^']*)'|([^ =]+))=\S+", line.partition(" | ")[2]):
        label = quoted or bare
        command, colons, _ = label.rpartition("::")
        prefix = "" if colons else prefix
        found.append(f"{prefix}::{label}" if prefix else label)
        prefix = command if colons else prefix
    return found


def test_colons_of_a_target_do_not_rename_what_comes_after_it() -> None:
    rows = [metric(name, 1) for name in ("C::x", "/mnt/my disk", "a:b", ":::", "C__x")]
    labels = ["check C__x~1", "check /mnt/my disk", "check a:b", "check ___", "check C__x"]
    seen = icinga_labels(nagios.line(document(metrics=rows), 0))
    assert [re.sub("~.*", "~1", each) for each in seen] == labels


def test_many_numbers_end_at_a_whole_one() -> None:
    shown = nagios.line(
        document(metrics=[metric(f"/mount/{number}", number) for number in range(1000)]), 0
    )
    assert len(shown) < 4000
    assert len(parsed(f"{shown}\n")[2]) > 20
