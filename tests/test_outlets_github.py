"""GitHub Actions: annotations that the runner reads as they are meant, and a summary that stays a
table whatever is in it.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from program import run, settings

from miyabi_healing.model import config
from miyabi_healing.report import documents
from miyabi_healing.report.outputs import dispatch, github

CHECK = """
import pathlib, pytest

@pytest.mark.heal("tidy")
@pytest.mark.limit(1, severity="medium", high=5, unit="things")
def test_things(measure, limit):
    count = len(list((pathlib.Path.home() / "things").glob("thing*")))
    assert measure(count, WORDS) <= limit
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
HOSTILE = "100 % of\r\n::error::it, a|b `<b>` ##[error]x ::set-output name=a::b"


def world(home: Path, things: int = 0, words: str = "Found things") -> tuple[str, ...]:
    folder = home / "mine"
    (folder / "healers").mkdir(parents=True, exist_ok=True)
    (folder / "test_things.py").write_text(CHECK.replace("WORDS", repr(words)))
    (folder / "healers" / "tidy.py").write_text(HEALER)
    (home / "things").mkdir(exist_ok=True)
    for number in range(things):
        (home / "things" / f"thing {number}").write_text("x")
    return ("--config", settings(home), "--checks", str(folder))


def unescaped(text: str, *codes: str) -> str:
    for code in (*codes, "0D", "0A", "25"):
        text = text.replace(f"%{code}", chr(int(code, 16)))
    return text


def commands(output: str) -> list[tuple[str, str, str]]:
    """The workflow commands in an output, as actions/runner reads them: kind, title, message."""
    found, stopped = [], ""
    for line in re.split(r"\r\n|\r|\n", output):
        matched = re.match(r"\s*::([^ :]+)(?: ([^:]*))?::(.*)", line)
        if stopped:
            stopped = "" if line.strip() == f"::{stopped}::" else stopped
        elif matched and matched[1] == "stop-commands":
            stopped = matched[3]
        elif matched:
            properties = dict(each.split("=", 1) for each in (matched[2] or "").split(","))
            found.append(
                (matched[1], unescaped(properties["title"], "3A", "2C"), unescaped(matched[3]))
            )
        else:
            assert "##[" not in line  # the older form of commands, anywhere in a line
    assert not stopped
    return found


def test_issue_that_remains_is_annotated_also_in_a_dry_run(home: Path) -> None:
    done = run("--dry-run", *world(home, 3), GITHUB_ACTIONS="true")
    assert done.returncode == 1
    ((kind, title, words),) = commands(done.stdout)
    assert (kind, title) == ("warning", "things")
    assert words.startswith("Found things (3 things, limit 1 things)\nDry run: 3 step(s) planned")
    assert (
        commands(run("--dry-run", *world(home, 5), GITHUB_ACTIONS="true").stdout)[0][0] == "error"
    )
    assert "::warning" not in run("--dry-run", *world(home, 3)).stdout
    assert "::error" in run("--dry-run", "--github", *world(home, 3)).stdout


def test_healed_is_a_notice_and_healthy_is_nothing(home: Path) -> None:
    arguments = world(home, 3)
    (seen,) = commands(run(*arguments, GITHUB_ACTIONS="true").stdout)
    assert seen[:2] == ("notice", "things")
    done = run(*arguments, GITHUB_ACTIONS="true")
    assert commands(done.stdout) == []
    done = run("--quiet", *arguments, GITHUB_ACTIONS="true")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_json_and_the_line_for_plugins_have_standard_output_to_themselves(home: Path) -> None:
    arguments = world(home, 3)
    done = run("--dry-run", "--json", *arguments, GITHUB_ACTIONS="true")
    assert json.loads(done.stdout)["issues_detected"][0]["name"] == "things"
    assert [seen[0] for seen in commands(done.stderr)] == ["warning"]
    done = run("--dry-run", "--nagios", *arguments, GITHUB_ACTIONS="true")
    assert (len(done.stdout.splitlines()), len(done.stderr.splitlines())) == (1, 1)


def test_names_and_descriptions_are_no_commands(home: Path) -> None:
    done = run("--dry-run", *world(home, 3, HOSTILE), GITHUB_ACTIONS="true")
    ((kind, title, words),) = commands(done.stdout)
    assert (kind, title) == ("warning", "things")
    # one line, whatever it was
    assert words.startswith(HOSTILE.replace("\r\n", "\\r\\n") + " (3 things")


def test_what_could_not_run_is_an_error(home: Path) -> None:
    done = run("--config", "/nowhere", GITHUB_ACTIONS="true")
    assert commands(done.stdout) == [
        ("error", "Miyabi Healing", "could not run: --config: /nowhere: no such file")
    ]
    assert done.returncode == 2


def row(name: str, healed: bool = False, **changes: Any) -> dict[str, Any]:
    common = {
        "name": name,
        "target": "",
        "metric_value": 3,
        "threshold": 1,
        "unit": "",
        "severity": "medium",
    }
    return {**common, "description": "d", "healed": healed, **changes}


def metric(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "target": "",
        "value": 3.0,
        "threshold": 1,
        "unit": "",
        "outcome": "failed",
        **changes,
    }


def document(**changes: Any) -> dict[str, Any]:
    return {**documents.failed_report("why"), "errors": [], "summary": "s", **changes}


def told(shown: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> str:
    dispatch.send_outputs(shown, 1, config.Config(), dry_run=False, seconds=1, annotate=1)
    said = capsys.readouterr()
    return said.out + said.err


@pytest.mark.parametrize(
    "name", ["a,b=c", "a::b", "100%25", "\udcff", "two\r\nlines", "x" * 1_000_000, "%0A"]
)
def test_hostile_names_come_out_as_they_are(capsys: pytest.CaptureFixture[str], name: str) -> None:
    ((_, title, words),) = commands(
        told(document(issues_detected=[row("check", target=name, description=name)]), capsys)
    )
    expected = f"check {name}".replace("\udcff", "?")
    assert title == (expected if len(name) < 1000 else f"{expected[:1000]}…")
    assert words[:900] == f"{name} (3, limit 1)".replace("\udcff", "?")[:900]


def test_only_as_many_are_printed_as_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(f"check {number}") for number in range(50)] + [row("healed", healed=True)]
    kinds = [kind for kind, _, _ in commands(told(document(issues_detected=rows), capsys))]
    assert (kinds.count("warning"), kinds.count("notice")) == (10, 1)


def test_summary_is_added_to_what_the_job_has(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "summary.md"
    file.write_text("# Mine\n\n")
    run("--dry-run", *world(home, 3, HOSTILE), GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(file))
    text = file.read_text()
    assert text.startswith(
        "# Mine\n\n### Miyabi Healing: Dry run\\: 1 issue\\(s\\) detected, nothing was changed.\n\n"
        "| | check"
    )
    assert "\n| ❌ | things | 3 things | 1 things |\n" in text
    assert (
        "\n- ⚠️ **things**: 100 \\% of\\\\r\\\\n\\:\\:error\\:\\:it, a\\|b \\`\\<b\\>\\` "
        "\\#\\#\\[error\\]x" in text
    )
    assert run("--quiet", *world(home), GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(file)).stdout
    assert file.read_text().startswith(text)


@pytest.mark.parametrize(
    "name",
    [
        "a|b",
        "a\n\n# b",
        "</details>",
        "\udcff\ud800",
        "![x](http://e/)",
        "\x1b[31m\u2028",
        "x" * 1_000_000,
    ],
)
def test_table_stays_a_table(name: str) -> None:
    shown = document(
        metrics=[metric(name), metric("two")],
        summary=name,
        notes=[name],
        issues_detected=[row(name)],
    )
    text = "".join(github.job_summary(shown))
    text.encode()
    lines = text.splitlines()
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines[2:6]] == [5, 5, 5, 5]
    assert len(lines) == 10
    assert not re.search(r"(?<!\\)[<\[`\x1b]", text)


def test_summary_ends_at_what_github_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    shown = document(metrics=[metric(f"check {number} {'€' * 300}") for number in range(2000)])
    told(shown, capsys)
    assert 1_040_000 < file.stat().st_size <= 1 << 20
    lines = file.read_text().splitlines()
    assert lines[-1] == "…and more than fits here: see the log."
    assert lines[-3].endswith(" |")
    for _ in range(5):
        said = told(shown, capsys)
        assert file.stat().st_size <= 1 << 20
    assert said == f"miyabi-healing: github: the summary of this step is full: {file}\n"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: os.mkfifo(path), "No such device or address"),
        (lambda path: None, "No such file or directory"),
    ],
)
def test_summary_that_cannot_be_written_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    make: Any,
    said: str,
) -> None:
    path = (
        tmp_path / "summary"
        if said != "No such file or directory"
        else tmp_path / "none" / "summary"
    )
    make(path)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    assert told(document(), capsys) == f"miyabi-healing: github: {path}: {said}\n"
