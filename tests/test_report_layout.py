"""The layout of the report: nothing overflows, no word is broken, nothing goes unsaid."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from program import run
from rich.cells import cell_len
from situations import ALL_SITUATIONS, report

from miyabi_healing.report import folding, issue_table, layout, ranges, text
from miyabi_healing.report import style as styles
from miyabi_healing.report.kept_text import kept_lines
from miyabi_healing.report.step_text import names
from miyabi_healing.report.style import MARKS, Style
from miyabi_healing.report.summary import numbers

STATUSES = ("applied", "planned", "not needed", "skipped", "vetoed", "failed", "undone")
KINDS = ("retire worktree", "trim log", "delete", "signal", "run", "of my own")
words = st.text(st.sampled_from("abcxyz019-_.é漢"), min_size=1, max_size=12)
sentences = st.lists(words, min_size=1, max_size=9).map(" ".join)
paths = st.builds(
    lambda folder, name, number: f"/home/me/{folder}/{name}-{number:02}",
    st.sampled_from(["src", "src/trees", "a long folder", "x" * 60]),
    st.sampled_from(["agent", "漢字", "b"]),
    st.integers(0, 14),
)
targets = st.one_of(paths, paths, sentences)


def step(target: str, kind: str, status: str, reason: str, number: int) -> dict[str, Any]:
    return {
        "number": number, "kind": kind, "target": target, "reason": reason, "bytes": number * 999,
        "bytes_estimated": False, "bytes_later": number, "undo": "moved back" if number else "",
        "status": status, "message": reason if status != "applied" else "", "freed": number,
        "details": {}, "duration_seconds": 0.1,
    }  # fmt: skip


steps = st.builds(
    step, targets, st.sampled_from(KINDS), st.sampled_from(STATUSES), sentences, st.integers(0, 9)
)
kept = st.fixed_dictionaries(
    {
        "target": targets,
        "reason": st.sampled_from(["not merged", "dirty", "in use"]),
        "detail": st.one_of(st.just(""), sentences),
        "count": st.sampled_from([1, 1, 1, 25]),
        "decide": st.booleans(),
        "command": st.sampled_from(["", "git -C /home/me/src/trees/agent-01 status --ignored"]),
    }
)
actions = st.fixed_dictionaries(
    {
        "action": st.sampled_from(["cleanup_worktrees", "mine"]),
        "status": st.sampled_from(["success", "partial", "failed", "skipped"]),
        "message": sentences,
        "duration_seconds": st.just(1.0),
        "details": st.just({}),
        "issue": st.just("excessive_worktrees"),
        "target": targets,
        "goal": sentences,
        "expected": st.sampled_from([None, 3]),
        "brake": st.just(""),
        "steps": st.lists(steps, max_size=20),
        "kept": st.lists(kept, max_size=20),
    }
)
issues = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["excessive_worktrees", "a_check_of_my_own"]),
        "description": sentences,
        "severity": st.sampled_from(["low", "medium", "high", "critical"]),
        "metric_value": st.floats(0, 1e7),
        "threshold": st.integers(0, 1000),
        "unit": st.sampled_from(["", "%", "MB", "s", "things"]),
        "target": targets,
        "healed": st.booleans(),
    }
)
looks = st.builds(
    Style,
    emoji=st.booleans(),
    encoding=st.sampled_from(["utf-8", "ascii", "latin-1"]),
    width=st.integers(styles.LEAST, styles.MOST),
    every_step=st.booleans(),
)
CALLED = "miyabi-healing "


@pytest.fixture(autouse=True)
def _as_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr("sys.argv", ["miyabi-healing"])


def document(found: list[Any], taken: list[Any], dry_run: bool) -> Any:
    made: Any = report([])
    return {**made, "issues_detected": found, "actions_taken": taken, "dry_run": dry_run}


@settings(max_examples=40, deadline=None)
@given(st.lists(issues, max_size=3), st.lists(actions, max_size=2), st.booleans(), looks)
def test_no_line_is_wider_than_the_screen_but_one_with_a_command(
    found: list[Any], taken: list[Any], dry_run: bool, look: Style
) -> None:
    for line in text.render_report(document(found, taken, dry_run), False, style=look).splitlines():
        assert (
            cell_len(line) <= look.width or line.lstrip().startswith("git -C") or CALLED in line
        ), line
        line.encode(look.encoding)


@settings(max_examples=40, deadline=None)
@given(st.lists(targets, max_size=30), st.booleans())
def test_every_target_is_named_or_counted(given_targets: list[str], every_step: bool) -> None:
    said = " ".join(names(given_targets, Style(width=200, every_step=every_step), ""))
    unnamed = [each for each in given_targets if each.rpartition("/")[2] not in said]
    in_runs = sum(int(each) for each in re.findall(r"\((\d+)\)", said))
    cut = sum(int(each) for each in re.findall(r"… and (\d+) more", said))
    assert len(unnamed) <= in_runs + cut
    assert not (every_step and cut)


@settings(max_examples=40, deadline=None)
@given(st.lists(kept, max_size=30), st.booleans())
def test_everything_kept_is_counted_by_its_reason(rows: list[Any], every_step: bool) -> None:
    said = list(kept_lines(rows, Style(width=200, every_step=every_step), ""))
    number = sum(each["count"] for each in rows)
    assert not rows or said[0].startswith(f"kept {number}")
    if len(rows) > 1:
        numbers = re.findall(r"(\d+) (?:not merged|dirty|in use)\b", " ".join(said))
        assert sum(map(int, numbers)) == number
    for row in rows:
        if row["decide"] and row["command"]:
            assert any(row["command"] in line for line in said)


@given(st.lists(paths, max_size=40))
def test_folding_loses_no_name_and_adds_none(given_names: list[str]) -> None:
    found = folding.places(given_names)
    assert sum(each.number for place in found for each in place.names) == len(given_names)
    told = [_unfolded(each.text) for place in found for each in place.names]
    assert {each for some in told for each in some} == {
        name.rpartition("/")[2] for name in given_names
    }


def _unfolded(said: str) -> list[str]:
    """The names that a reader understands."""
    said = re.sub(r" \(\d+ times\)$", "", said)
    if not (run_of := re.fullmatch(r"(.*?)(\d+) … .*?(\d+) \((\d+)\)", said)):
        return [said.rpartition("/")[2]]
    before, first, last, number = run_of.groups()
    assert int(last) - int(first) + 1 == int(number)
    lead = before.rpartition("/")[2]
    return [f"{lead}{each:0{len(first)}}" for each in range(int(first), int(last) + 1)]


def test_only_numbers_that_run_on_are_folded() -> None:
    def said(*names: str) -> list[str]:
        return [each.text for each in folding.folded(names)]

    assert said("a-8", "a-9", "a-10", "a-12") == ["a-8 … a-10 (3)", "a-12"]
    assert said("a-08", "a-09", "a-10") == ["a-08 … a-10 (3)"]
    assert said("a1", "a2") == ["a1", "a2"]
    assert said("a1", "a2", "b3") == ["a1", "a2", "b3"]
    assert said("a-1-x", "a-2-x", "a-3-y") == ["a-1-x", "a-2-x", "a-3-y"]
    assert said("a", "a", "b") == ["a (2 times)", "b"]


@pytest.mark.parametrize(
    ("texts", "one"),
    [
        (["step 1, at noon", "step 16, at noon"], "step 1–16, at noon"),
        (["until 2025-12-02 10:10", "until 2025-12-02 10:10"], "until 2025-12-02 10:10"),
        (["until 2025-12-02 10:10", "until 2025-12-02 10:12"], "until 2025-12-02 10:10–10:12"),
        (["tip 2dd9fd8", "tip 3dd9fd8"], ""),  # a commit's name is no number
        (["a 1", "b 1"], ""),
        (["9.5 MB", "10.0 MB"], "9.5–10.0 MB"),
    ],
)
def test_texts_that_differ_in_numbers_alone_are_one(texts: list[str], one: str) -> None:
    assert ranges.ranged(texts) == one


@given(st.lists(words, min_size=1, max_size=20), st.integers(40, 90))
@example(["x"] * 40 + ["/".join(["folder"] * 12)], 40)
def test_lines_end_between_words(given_words: list[str], width: int) -> None:
    lines = list(layout.wrapped(" ".join(given_words), width, "- ", "  "))
    back = " ".join(line[2:] for line in lines).split()
    short = [each for each in given_words if cell_len(each) <= width - 2]
    assert [each for each in back if each in short] == short
    assert all(cell_len(line) <= width for line in lines)


def test_a_number_keeps_its_unit() -> None:
    for width in range(12, 60):
        lines = list(layout.wrapped("it frees as much as 60.0 MB of the 90 % here", width))
        assert not any(re.search(r"[0-9]$", line) for line in lines)


def test_marks_are_plain_where_the_screen_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.setattr(styles, "_wishes", {})
    assert (styles.current().emoji, styles.current().width) == (True, 70)
    for name, value in (("TERM", "dumb"), ("NO_COLOR", "1")):
        with monkeypatch.context() as changed:
            changed.setenv(name, value)
            assert not styles.current().emoji
    styles.wish(emoji=False)
    assert not styles.current().emoji
    for width, columns in (("7", 40), ("9999", 200), ("", 100), ("wide", 100)):
        monkeypatch.setenv("COLUMNS", width)
        assert styles.current().width == columns


@pytest.mark.parametrize("name", ALL_SITUATIONS)
def test_no_emoji_is_left_without_them_and_all_of_it_is_ascii_where_that_is_all(name: str) -> None:
    made = ALL_SITUATIONS[name]()
    plain = text.render_report(made, False, style=Style(emoji=False))
    emoji = {each.emoji.strip() for each in MARKS.values()} - {"✓"}
    assert not [each for each in emoji if each in plain]
    assert text.render_report(made, False, style=Style(encoding="ascii")).isascii()


def test_lines_of_other_commands_lose_their_emoji_and_never_those_of_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    lines = ["❌ it is ❌.log", "⚠️  odd", "  ✅ well", "~/✅", "a " * 30]
    assert list(layout.fitted(lines, 40)) == [
        *("✗ it is ❌.log", "! odd", "  ✓ well", "~/✅"),
        *(("a " * 20).rstrip(), "    " + ("a " * 10).rstrip()),
    ]


def test_names_keep_what_an_encoding_lacks_as_escapes() -> None:
    made: Any = report([], notes=["a file: ~/🔧 – é.log"])
    said = text.render_report(made, False, style=Style(encoding="ascii"))
    assert "a file: ~/\\U0001f527 \\u2013 \\xe9.log" in said
    assert "~/🔧 – é.log" in text.render_report(made, False, style=Style(emoji=False))


def test_numbers_of_a_healthy_run_name_the_worst_and_nothing_unknown() -> None:
    found = list(numbers(ALL_SITUATIONS["healthy"]()))
    assert found[0] == "worktrees 3 repositories, most 13 of 15"
    assert "disk / 54 of 90 %" in found
    assert not [each for each in found if "zombies" in each], "it is waived, not fine"
    unknown: Any = ALL_SITUATIONS["unknown"]()
    partly = {"name": "worktree_space", "target": "", "value": 3, "threshold": 50, "unit": "GB"}
    unknown["metrics"].append({**partly, "outcome": "failed"})  # as much as could be measured
    assert not [each for each in numbers(unknown) if "space" in each]
    assert not [each for each in numbers(unknown) if "/mnt/share" in each or "logs" in each]


def test_a_value_over_its_limit_never_reads_as_within_it() -> None:
    from miyabi_healing.support.formatting import figure

    assert figure(90.04, "%", 90) == "90.04 %"
    assert figure(89.6, "%", 90) == "90 %"
    assert figure(90.4, "%", 90) == "90.4 %"
    assert figure(812.4, "MB", 500) == "812 MB"
    assert figure(3660, "s", 600) == "61 min"


def test_program_takes_the_options(home: Any) -> None:
    from program import settings as configured

    config = configured(home, "[report]\nemoji = false\n")
    said = run("--dry-run", "--config", config, COLUMNS="60").stdout
    assert "Miyabi Self-Healing Report" in said
    assert "🔧" not in said


def test_change_that_nobody_would_see_is_said_once() -> None:
    found: Any = {"metric_value": 96.01, "threshold": 90, "unit": "%"}
    assert issue_table.change(found, 96.04) == "96 %"
    assert issue_table.change(found, 97.2) == "96 → 97 %"
