"""The report for people, word by word, in every situation: `pytest tests/test_golden.py
--update-golden` writes the files anew, for a person to read the difference.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from program import SCHEMA
from situations import ALL_SITUATIONS, HOME

from miyabi_healing.report import text
from miyabi_healing.report.style import Style
from miyabi_healing.support import mount_answers

GOLDEN = Path(__file__).parent / "golden"
LOOKS = {
    f"{width} columns"
    + (", a terminal" if screen else "")
    + ("" if emoji else ", no emoji"): Style(
        width=width, emoji=emoji, colour=screen, terminal=screen
    )
    for width in (60, 80, 120, 200)
    for screen in (False, True)
    for emoji in (True, False)
} | {
    "40 columns, ASCII": Style(width=40, encoding="ascii"),
    "100 columns, every step": Style(width=100, every_step=True),
}


@pytest.fixture(autouse=True)
def _as_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", HOME)
    monkeypatch.setattr("sys.argv", ["miyabi-healing"])
    monkeypatch.setattr(mount_answers, "notes", list)


def looks(name: str) -> Iterator[str]:
    document = ALL_SITUATIONS[name]()
    for title, style in LOOKS.items():
        if style.every_step and name not in ("healed", "undone", "foreseen", "because"):
            continue
        shown = text.render_report(document, style.colour, style=style)
        yield f"##### {title}\n{shown.replace(chr(27), '␛')}"


@pytest.mark.parametrize("name", ALL_SITUATIONS)
def test_report_reads_as_it_was_read(name: str, request: pytest.FixtureRequest) -> None:
    file, now = GOLDEN / f"{name}.txt", "\n".join(looks(name))
    if request.config.getoption("--update-golden"):
        file.write_text(now)
    was = file.read_text() if file.exists() else ""
    changes = difflib.unified_diff(was.splitlines(), now.splitlines(), "was", "is", lineterm="")
    assert now == was, "pytest tests/test_golden.py --update-golden\n" + "\n".join(changes)


@pytest.mark.parametrize("name", ALL_SITUATIONS)
def test_report_of_every_situation_is_valid_and_keeps_its_frame(name: str) -> None:
    document = ALL_SITUATIONS[name]()
    jsonschema.validate(json.loads(json.dumps(document)), SCHEMA)
    words = text.render_report(document, False, style=Style())
    frame = [
        "Miyabi Self-Healing Report",
        "Timestamp: 2025-11-26 10:30:00",
        "Overall: ",
        "Summary: ",
    ]
    frame += ["Issues Detected:"] if document["issues_detected"] else []
    frame += ["Actions"] if document["actions_taken"] else []
    places = [words.index(each) for each in frame]
    assert places == sorted(places)


def test_every_situation_has_its_file_and_no_other() -> None:
    assert {each.stem for each in GOLDEN.glob("*.txt")} == set(ALL_SITUATIONS)
