"""How what is foreseen, and why something is so, is worded: true, and no surer than it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from situations import (
    HEALTHY,
    HOME,
    LOG_GROUP,
    RUN,
    because,
    dry_run,
    fine,
    foreseen,
    reaches,
    report,
)  # fmt: skip

from miyabi_healing.model.config import Config, HistorySettings
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.results import CheckResult
from miyabi_healing.report import (
    because_text,
    explanations,
    folding,
    foreseen_text,
    status,
    text,
    unchanged,
)
from miyabi_healing.report.foreseen import foreseen_row
from miyabi_healing.report.moments import Days, band_text, moment_text
from miyabi_healing.report.outputs import github, nagios, textfile
from miyabi_healing.report.outputs.output import OutputRequest
from miyabi_healing.report.style import Style
from miyabi_healing.state import history, reports
from miyabi_healing.state.journal import Journal
from miyabi_healing.support.formatting import timestamp

Clock = Callable[..., float]


@pytest.fixture
def at() -> Iterator[Clock]:
    """A moment in Berlin, where the clock goes back on 25 October and forward on 29 March 2026."""
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield _moment
    time.tzset()


def _moment(month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> float:
    return time.mktime((2026, month, day, hour, minute, second, 0, 0, -1))


@pytest.mark.parametrize(
    ("now", "then", "words"),
    [
        ((11, 25, 10, 30), (11, 25, 10, 42, 31), "today about 10:43"),
        ((11, 25, 10, 30), (11, 25, 12, 2, 29), "today about 12:00"),
        ((11, 25, 10, 30), (11, 25, 16, 37), "today about 16:40"),
        ((11, 25, 10, 30), (11, 25, 21, 37), "today about 21:30"),
        ((11, 25, 23, 50), (11, 26, 0, 4), "tomorrow about 00:04"),
        ((11, 25, 12, 0), (11, 25, 23, 50), "tonight about midnight"),
        ((11, 26, 0, 10), (11, 26, 9, 0), "today about 09:00"),
        ((11, 25, 10, 30), (11, 27, 14, 20), "on Friday about 14:00"),
        ((11, 25, 10, 30), (12, 1, 23, 20), "on Tuesday about 23:00"),
        ((11, 25, 10, 30), (12, 2, 9, 0), "about 2 Dec"),
        ((11, 25, 10, 30), (11, 25, 9, 0), "today about 09:00"),
        ((11, 25, 10, 30), (11, 24, 9, 0), "yesterday about 09:00"),
        ((11, 25, 10, 30), (11, 20, 9, 0), "on 20 Nov about 09:00"),
        # days of 23 and 25 hours
        ((3, 28, 23, 30), (3, 29, 23, 50), "on Monday about 00:00"),
        ((10, 24, 0, 30), (10, 26, 0, 20), "on Monday about 00:00"),
        ((10, 25, 0, 10), (10, 25, 23, 50), "tonight about midnight"),
    ],
)
def test_moment_is_said_by_its_day_and_no_finer_than_it_is_known(
    at: Clock, now: Any, then: Any, words: str
) -> None:
    assert moment_text(at(*then), at(*now)) == words


@pytest.mark.parametrize(
    ("now", "first", "last", "words"),
    [
        ((25, 10, 30), (25, 21, 6), (26, 1, 48), "tonight between 21:00 and 02:00"),
        ((25, 10, 30), (25, 14, 7), (25, 17, 21), "today between 14:00 and 17:30"),
        ((25, 10, 30), (25, 17, 0), (25, 23, 50), "today between 17:00 and midnight"),
        ((25, 10, 30), (25, 17, 0), (26, 3, 0), "between today 17:00 and tomorrow 03:00"),
        ((25, 10, 30), (25, 10, 31), (25, 12, 1), "today between 10:31 and 12:05"),
        ((25, 10, 30), (25, 10, 20), (25, 12, 1), "between now and 12:05"),
        ((25, 10, 30), (25, 10, 20), (26, 12, 1), "between now and tomorrow 13:00"),
        ((25, 10, 30), (27, 1, 1), (27, 5, 59), "on Friday between 01:00 and 06:00"),
        ((25, 10, 30), (27, 1, 1), (39, 5, 59), "between Friday 01:00 and 9 Dec"),
        ((25, 10, 30), (33, 1, 1), (39, 5, 59), "between 3 Dec and 9 Dec"),
        ((25, 10, 30), (33, 1, 1), (33, 5, 59), "about 3 Dec"),
    ],
)
def test_band_is_never_said_narrower_than_it_is(
    at: Clock, now: Any, first: Any, last: Any, words: str
) -> None:
    assert band_text(at(11, *first), at(11, *last), at(11, *now)) == words


@pytest.mark.parametrize(
    ("days", "words"),
    [
        ("words", "tonight between 21:00 and 02:00"),
        ("weekdays", "between Wednesday 21:00 and Thursday 02:00"),
        ("dates", "between 25 Nov 21:00 and 26 Nov 02:00"),
    ],
)
def test_what_is_read_later_names_no_day_that_moves(at: Clock, days: Days, words: str) -> None:
    band = at(11, 25, 21, 6), at(11, 26, 1, 48)
    assert band_text(*band, at(11, 25, 10, 30), days) == words


def sentence(hours: float = 4, at_hour: float = 0, **more: Any) -> str:
    found = reaches(hours, **more)
    return foreseen_text.sentence(foreseen_row(found), found.measured + at_hour * 3600)


def test_sentence_has_what_is_known_and_nothing_else() -> None:
    assert sentence(basis="") == "/ reaches 90 % today about 14:30"
    assert sentence(basis="", at_hour=5) == "/ was to reach 90 % today about 14:30"
    assert sentence(causes=("3 writers are at work",)) == (
        "/ reaches 90 % today about 14:30, growing 0.86 % an hour for 9 hours; "
        "3 writers are at work"
    )


@pytest.mark.parametrize(
    ("basis", "unit", "words"),
    [
        ("grows 1e+03 a minute for 9 hours", "MB", "growing 1e+03 MB a minute for 9 hours"),
        (
            "grows 2 a day for 9 days, in steps of about 2.5", "%",
            "growing 2 % a day for 9 days, in steps of about 2.5 %",
        ),
        ("grows in steps of 21 every 3 hours", "MB", "growing in steps of 21 MB every 3 hours"),
        ("grows 2 an hour for 9 hours", "", "growing 2 an hour for 9 hours"),
        ("grows 1.2 GB an hour for 9 hours", "%", "growing 1.2 GB an hour for 9 hours"),
        (
            "falls back again and again, but its peaks grow 1.2 a day", "%",
            "as it falls back again and again, but its peaks grow 1.2 % a day",
        ),
    ],
)  # fmt: skip
def test_numbers_of_the_basis_have_the_unit_of_the_value(basis: str, unit: str, words: str) -> None:
    assert foreseen_text.basis({"basis": basis, "unit": unit}) == words


@pytest.mark.parametrize(
    ("alarms", "true", "words"),
    [
        (0, 0, ""),
        (1, 1, "the one earlier forecast of it came true"),
        (1, 0, "the one earlier forecast of it did not come true"),
        (4, 0, "none of 4 earlier forecasts of it came true"),
        (7, 5, "5 of 7 earlier forecasts of it came true"),
    ],
)
def test_confidence_is_a_count(alarms: int, true: int, words: str) -> None:
    row = foreseen_row(reaches(4, alarms=alarms, came_true=true))
    assert foreseen_text.confidence(row) == words


def test_foreseen_is_no_issue_and_what_was_done_early_heals_none() -> None:
    document: Any = report(HEALTHY, foreseen=[reaches(4)])
    document["actions_taken"] = [
        {"action": "cleanup_disk", "status": "success", "message": "Early: npm emptied it",
         "issue": "disk_space_critical", "target": "/", "early": True, "steps": [], "kept": [],
         "brake": "", "details": {}, "goal": "", "duration_seconds": 1},
    ]  # fmt: skip
    said = text.render_report(document, True, style=Style(width=200))
    assert "Overall: \x1b[32mSuccess" in said
    assert "\x1b[31m" not in said
    assert "; cleanup_disk acted early\n" in said
    assert "healed" not in said.lower()
    document["actions_taken"][0]["status"] = "skipped"
    assert "acted early" not in text.render_report(document, False, style=Style(width=200))


def test_foreseen_stands_alone_where_nothing_else_was_measured() -> None:
    document: Any = {**report([], foreseen=[reaches(4)]), "errors": []}
    lines = text.render_report(document, False, style=Style(width=200)).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("🔭"))
    assert (lines[at - 1], lines[at + 1]) == ("", "")


def test_dry_run_says_that_a_plan_is_early() -> None:
    document: Any = dry_run()
    document["actions_taken"][0]["early"] = True
    said = text.render_report(document, False, style=Style(width=200))
    assert "cleanup_worktrees ~/src/app (early): 50 steps" in said.replace(HOME, "~")
    assert said.count("(early)") == 1


def test_dry_run_says_what_an_early_plan_comes_to() -> None:
    document: Any = report(HEALTHY, foreseen=[reaches(4)])
    planned = {"status": "planned", "kind": "delete", "target": "/c", "reason": "", "bytes": 1,
               "bytes_later": 0, "undo": "", "message": ""}  # fmt: skip
    document["dry_run"] = True
    document["actions_taken"] = [
        {"action": "cleanup_disk", "status": "skipped", "message": "", "expected": 84.0,
         "issue": "disk_space_critical", "target": "/", "early": True, "steps": [planned],
         "kept": [], "brake": "", "details": {}, "goal": "below 85 %", "duration_seconds": 1},
    ]  # fmt: skip
    said = text.render_report(document, False, style=Style(width=200))
    value = f"{document['foreseen'][0]['value']:.0f}"
    assert f"cleanup_disk / (early): 1 step, {value} → 84 %, limit 90 %" in said


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_no_line_is_too_wide(encoding: str) -> None:
    documents = [foreseen(), because()]
    long = "/srv/" + "漢字x" * 60
    documents[0]["foreseen"][0]["causes"] = [long, f"new files in {long}"]
    documents[1]["issues_detected"][0]["because"][0]["text"] = f"{long} grew, and {long} too"
    for width in range(40, 201, 10):
        for document in documents:
            style = Style(width=width, encoding=encoding)
            lines = text.render_report(document, False, style=style).splitlines()
            assert [line for line in lines if cell_len(line) > width] == []


def test_run_before_foresight_needs_none_of_it() -> None:
    document = report(HEALTHY)
    assert "foreseen" not in document
    assert list(foreseen_text.foreseen_lines(document, Style())) == []


# Because


@pytest.mark.parametrize(
    ("cause", "short"),
    [
        ("new files in /srv/a (the cache of uv): 5.0 MB, 71 % of", "mostly /srv/a"),
        ("files in /srv/a: 5.0 MB, 40 % of", "40 % of it /srv/a"),
        (
            "/srv/a, which w (pid 25) writes: 6.0 MB, 90 % of",
            "mostly /srv/a, which w (pid 25) writes",
        ),
        ("chrome ×40: 3.0 GB, 50 % of", "mostly chrome ×40"),
    ],
)
def test_share_of_the_growth_is_short_in_a_forecast_and_whole_with_verbose(
    cause: str, short: str
) -> None:
    cause += " the growth of 7.0 GB in 3 h"
    document: Any = report(HEALTHY, foreseen=[reaches(4, causes=(cause,))])
    brief, whole = (
        text.render_report(document, False, style=Style(width=400, every_step=each))
        for each in (False, True)
    )
    assert f" hours, {short}\n" in brief
    assert cause in whole


def test_what_shares_are_of_is_said_once() -> None:
    text = "new files in /srv/{}: 3.0 MB, 50 % of the growth of 6.0 MB in 4 s{}"
    rows = [
        {"grade": "accounts for", "what": where, "share": 0.5, "text": text.format(where, more)}
        for where, more in (("a", ""), ("b", "; free once it has ended"))
    ]
    assert list(because_text.reason_lines({"because": rows}, False)) == [
        "because: new files in /srv/a: 3.0 MB, 50 % of the growth of 6.0 MB in 4 s",
        "because: new files in /srv/b: 3.0 MB, 50 %; free once it has ended",
    ]


def test_reasons_are_three_lines_with_the_rest_and_the_surest_first() -> None:
    issue = because()["issues_detected"][0]
    few, every = (list(because_text.reason_lines(issue, each)) for each in (False, True))
    assert len(few) == 3
    assert few[1].endswith("50 GB (32 %); 21 % unexplained")
    assert few[2].startswith("… and 2 more")
    assert [each.split(":")[0] for each in every if not each.startswith(" ")] == [
        "because", "because", "just before", "at the same time, perhaps by chance",
    ]  # fmt: skip
    assert "  systemctl restart app.service" in every


@pytest.mark.parametrize(
    ("shares", "rest"),
    [
        ([("a", 0.6), ("b", 0.3)], 0.1),
        ([("a", 0.6), ("unexplained", 0.4)], 0.4),
        ([("a", 0.998)], 0),
        ([("a", 0.7), ("b", 0.4)], 0),
        ([], None),
    ],
)
def test_rest_is_what_no_share_explains(shares: Any, rest: float | None) -> None:
    rows = [
        {"grade": "accounts for", "what": what, "share": share, "text": what}
        for what, share in shares
    ]
    found = because_text.reasons_of({"because": rows})
    assert found.rest == pytest.approx(rest) if rest is not None else found.rest is None
    assert "unexplained" not in [each["what"] for each in found.rows]


def test_only_the_home_is_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    said = folding.home_in("/home/me/a, /home/me2/b, /mnt/home/me/c and /home/me")
    assert said == "~/a, /home/me2/b, /mnt/home/me/c and ~"


# Printing little


def quietly(*runs: Any) -> list[bool]:
    """Whether each of these runs in a row is told of with --quiet."""
    before, told = None, []
    for number, found in enumerate(runs):
        document = report(HEALTHY, foreseen=found)
        document["timestamp"] = f"2025-11-26T1{number}:30:00"
        if same := unchanged.since(document, before):
            document["unchanged"] = same
        told.append(unchanged.is_told_quietly(document))
        before = document
    return told


def test_foreseen_is_told_once_when_it_is_sure_enough() -> None:
    first, second, third = ([reaches(4, seen=each)] for each in (1, 2, 3))
    assert quietly(first, second, third, third, []) == [False, True, False, False, False]
    other = reaches(4, issue="high_memory_usage", target="")
    assert quietly(third, [*third, other], [other]) == [True, True, False]


def test_what_was_done_early_is_told_quietly_and_a_plan_is_not() -> None:
    document: Any = {**report(HEALTHY), "actions_taken": [{"steps": [{"status": "applied"}]}]}
    assert unchanged.is_told_quietly(document)
    document["actions_taken"][0]["steps"][0]["status"] = "planned"
    assert not unchanged.is_told_quietly(document)


def test_unchanged_line_counts_what_is_foreseen() -> None:
    before = report([*HEALTHY, fine("mine", "", 1, Limit(2))], foreseen=[reaches(4)])
    same = unchanged.since(before, before)
    assert same
    assert ": 1 foreseen; " in unchanged.line({**before, "unchanged": same})


# Commands that look at the last run


def last_run(journal: Journal, document: Any) -> None:
    """A run that has just ended, with its report."""
    now = time.time()
    for row in document.get("foreseen", ()):
        row["reached"] = timestamp(now + row["eta_seconds"])
    measured: Any = {"value": 97, "description": "m"}
    full = Issue("disk_space_critical", "/data", "/data is full", 97, Limit(90, unit="%"))
    checks = [CheckResult(full.name, full.target, full.limit, full, measured=measured)]
    number = history.record(journal, RUN, 1, checks, HistorySettings())
    reports.store(journal, number, document)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal.sqlite3")
    yield made
    made.close()


def test_status_says_why_and_what_is_foreseen_until_that_is_too_old(journal: Journal) -> None:
    last_run(journal, because())
    made = status.build_status(journal, Path("/nowhere"), Config())
    lines = "\n".join(status.status_lines(made))
    assert "   because: new files in /data/ana/.cache/huggingface are 47 %" in lines
    assert "🔭 / reaches 90 % " in lines
    assert [len(each["because"]) for each in made["issues"]] == [4]
    assert len(made["foreseen"]) == 1
    assert "🔭" not in "\n".join(status.status_lines({**made, "stale": True}))


def test_foreseen_alone_leaves_a_host_healthy(journal: Journal) -> None:
    number = history.record(journal, RUN, 1, [fine("mine", "", 1, Limit(2))], HistorySettings())
    reports.store(journal, number, foreseen())
    made = status.build_status(journal, Path("/nowhere"), Config())
    assert (status.is_wrong(made), status.is_known(made)) == (False, True)
    assert "✅ Nothing was wrong at its end." in list(status.status_lines(made))


@pytest.mark.parametrize(
    ("path", "number"),
    [("/data", 0), ("/", 1), ("/home/me", 1), ("/home/me/.cache/huggingface/hub", 1),
     ("/home/me/.cache/hugging", 0), ("/usr", 0), ("", 0)],
)  # fmt: skip
@pytest.mark.parametrize(
    "cause", ["/home/me/.cache/huggingface", "new files in /home/me/.cache/huggingface: 75 GB"]
)
def test_why_knows_what_the_last_run_foresaw_of_a_path_and_of_no_other(
    path: str, number: int, cause: str
) -> None:
    row = {**foreseen_row(reaches(4)), "causes": [cause]}
    made = explanations.build_explanations(path, [], None, [], {"foreseen": [row]}, path)
    assert len(made["foreseen"]) == number
    lines = "\n".join(explanations.explanation_lines(made, 100))
    assert ("The last run foresaw: / " in lines) == bool(number)


# Outputs


def output(document: Any) -> OutputRequest:
    return OutputRequest(document, 0, Config(), False, 0)


def test_nagios_says_what_is_foreseen_and_stays_ok() -> None:
    line = nagios.line(foreseen(), 0)
    assert line.startswith(
        "MIYABI OK - No issues detected. System is healthy.; foreseen: / reaches"
    )
    assert line.index("foreseen: logs ") < line.index(" | ")


def test_github_has_a_notice_of_it_and_no_tick(capsys: pytest.CaptureFixture[str]) -> None:
    github.send(output(foreseen()))
    assert capsys.readouterr().out.startswith(
        "::notice title=foreseen::/ reaches 90 %25 between Wednesday 21:00 and Thursday 02:00, "
    )
    summary = "".join(github.job_summary(foreseen()))
    assert (summary.count("- 🔭"), summary.count("✅")) == (2, 0)


def test_metric_of_a_forecast_is_missing_where_nothing_is_foreseen() -> None:
    def samples(document: Any) -> dict[str, float]:
        families = {each.name: each for each in textfile.metric_families(output(document))}
        found = families["miyabi_healing_foreseen_seconds"].samples
        return {each.labels["target"]: each.value for each in found}

    assert samples(foreseen()) == {"/": 13.2 * 3600, LOG_GROUP: 31 * 3600}
    assert samples(report(HEALTHY)) == {}
