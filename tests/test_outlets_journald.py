"""In systemd's journal every line has its priority; what leads elsewhere has none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from program import environment, settings

from conftest import PROJECT

CHECK = """
import pytest

@pytest.mark.limit(1, severity="{}", unit="things")
def test_things(measure, limit):
    assert measure({}, "Found things\\n<0>and a second line") <= limit
"""


def check(home: Path, value: int, severity: str = "high") -> tuple[str, ...]:
    folder = home / "mine"
    folder.mkdir(exist_ok=True)
    (folder / "test_things.py").write_text(CHECK.format(severity, value))
    return ("--config", settings(home), "--checks", str(folder))


def run_in_journal(*arguments: str, journal: str, home: Path) -> tuple[int, str, str]:
    """The program with stdout and stderr as pipes, of which `journal` is the one that
    JOURNAL_STREAM names.
    """
    pipes = {name: os.pipe() for name in ("stdout", "stderr")}
    status = os.fstat(pipes[journal][1])
    program = subprocess.Popen(
        [sys.executable, str(PROJECT / "self_healer.py"), *arguments],
        cwd=home, env=environment(JOURNAL_STREAM=f"{status.st_dev}:{status.st_ino}"),
        stdout=pipes["stdout"][1], stderr=pipes["stderr"][1],
    )  # fmt: skip
    said = []
    for ours, theirs in pipes.values():
        os.close(theirs)
        with os.fdopen(ours, encoding="utf-8") as stream:
            said.append(stream.read())
    return program.wait(60), said[0], said[1]


@pytest.mark.parametrize(
    ("severity", "level"), [("critical", 3), ("high", 3), ("medium", 4), ("low", 4)]
)
def test_every_line_of_a_report_has_its_priority(home: Path, severity: str, level: int) -> None:
    code, output, _ = run_in_journal(*check(home, 5, severity), journal="stdout", home=home)
    assert code == 1
    lines = output.splitlines()
    assert all(line[0] == "<" and line[1] in "3456" and line[2] == ">" for line in lines), output
    assert f"<{level}>  things ({severity}): Found things\\n<0>and a second line" in lines
    assert "<6>❌ Some issues remain: see above." in lines


def test_healthy_report_is_information_and_quiet_is_nothing(home: Path) -> None:
    arguments = check(home, 0)
    _, output, _ = run_in_journal(*arguments, journal="stdout", home=home)
    assert {line[:3] for line in output.splitlines()} == {"<6>"}
    assert run_in_journal("--quiet", *arguments, journal="stdout", home=home) == (0, "", "")


def test_only_the_stream_that_leads_to_the_journal_is_marked(home: Path) -> None:
    arguments = check(home, 5)
    _, output, _ = run_in_journal(*arguments, journal="stderr", home=home)
    assert "<" not in output.replace("<0>", "")
    _, output, errors = run_in_journal("--config", "/nowhere", journal="stderr", home=home)
    assert (output, errors) == ("", "<3>miyabi-healing: --config: /nowhere: no such file\n")
    _, _, errors = run_in_journal("--config", "/nowhere", journal="stdout", home=home)
    assert errors.startswith("miyabi-healing: ")


def test_json_stays_one_document(home: Path) -> None:
    _, output, _ = run_in_journal("--json", *check(home, 5), journal="stdout", home=home)
    assert json.loads(output)["issues_detected"][0]["name"] == "things"


def test_watch_marks_its_lines(home: Path) -> None:
    from miyabi_healing.report import documents

    document = documents.failed_report("why")
    ours, theirs = os.pipe()
    status = os.fstat(theirs)
    code = (
        "import json, sys; from miyabi_healing.report import live\n"
        "live.write_live(live.changed_lines(False)(json.loads(sys.argv[1]), 5))"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(document)],
        cwd=PROJECT,
        env=environment(JOURNAL_STREAM=f"{status.st_dev}:{status.st_ino}"),
        stdout=theirs,
    )
    os.close(theirs)
    with os.fdopen(ours, encoding="utf-8") as stream:
        lines = stream.read().splitlines()
    assert program.wait(60) == 0
    assert [line[:3] for line in lines] == ["<6>", "<3>"]
    assert lines[1].endswith("all checks: unknown (why)")
