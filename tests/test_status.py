"""Status says what is known, how old that is, and what begins the next run; and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from miyabi_healing.cli.setup import installed, service, service_units
from miyabi_healing.cli.setup.installed import Installed
from miyabi_healing.model import config
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.results import CheckResult
from miyabi_healing.report import status
from miyabi_healing.state import history, reports
from miyabi_healing.state.journal import Journal
from miyabi_healing.support.formatting import DAY, figure

LIMIT = Limit(15)
HOUR = 3600
TIMER = Installed("systemd-timer", 900, active=True, due=time.time() + 500)
EVERY = [60 * each for each in service_units.MINUTES] + [
    HOUR * each for each in service_units.HOURS
]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal.sqlite3")
    yield made
    made.close()


def check(found: bool = False) -> CheckResult:
    issue = Issue("excessive_worktrees", "/r", "Found 18", 18, LIMIT) if found else None
    measured: Any = {"value": 18 if found else 3, "description": "Found some"}
    return CheckResult("excessive_worktrees", "/r", LIMIT, issue, measured=measured)


def recorded(
    journal: Journal, *checks: CheckResult, age: float = 0, interrupted: bool = False
) -> int:
    number = history.record(journal, "run-1", 1, checks, config.HistorySettings(), interrupted)
    journal.write("update pass set ended = ended - ? where id = ?", (age, number))
    return number


def looked(journal: Journal | None, *services: Installed) -> tuple[list[str], int]:
    """The lines, and the exit status."""
    document = status.build_status(journal, Path("/nowhere"), config.Config(), services)
    code = 1 if status.is_wrong(document) else 0 if status.is_known(document) else 3
    return list(status.status_lines(document)), code


def test_issue_has_its_value_as_people_say_it(journal: Journal) -> None:
    limit = Limit(600, unit="s")
    old = Issue("stale_git_lock", "/r", "Found 1 stale lock file(s)", 10_834.62, limit)
    measured: Any = {"value": old.metric_value, "description": "Found some"}
    recorded(journal, CheckResult(old.name, "/r", limit, old, measured=measured), check(found=True))
    lines, _ = looked(journal)
    assert [line for line in lines if "limit" in line] == [
        "   3 h (limit 10 min)",
        "   18 (limit 15)",
    ]


@pytest.mark.parametrize(
    ("value", "unit", "limit", "said"),
    [
        (10_834.62, "s", 600, "3 h"),
        (610.4, "s", 600, "610.4 s"),  # rounded, it would be as long as is allowed
        (600, "s", 600, "10 min"),
        (90.2, "%", 90, "90.2 %"),
        (97.3, "%", 90, "97 %"),
        (3.04, "MB", 1, "3 MB"),
    ],
)
def test_value_over_its_limit_never_looks_like_it(
    value: float, unit: str, limit: float, said: str
) -> None:
    assert figure(value, unit, limit) == said


def test_no_run_yet_is_not_known() -> None:
    lines, code = looked(None)
    assert (lines[0], code) == ("No run yet.", 3)
    assert "no watch is running and nothing is installed" in lines[1]
    assert not [line for line in lines if "Nothing was wrong" in line]


@pytest.mark.parametrize(
    ("age", "services", "known"),
    [
        (20 * HOUR, (), True),
        (25 * HOUR, (), False),
        (-2 * HOUR, (), False),  # the clock was set back
        (40 * 60, (TIMER,), True),
        (50 * 60, (TIMER,), False),
        (50 * 60, (TIMER, Installed("cron", HOUR)), False),
        (50 * 60, (Installed("systemd-timer", 900, enabled=False),), True),
        (50 * 60, (Installed("systemd-timer", 900, active=False),), True),
        (14 * 60, (Installed("cron", 60),), True),  # a run may take longer than its interval
        (16 * 60, (Installed("cron", 60),), False),
        (2 * DAY, (Installed("cron", DAY),), True),
        (20 * HOUR, (Installed("launchd"),), True),
    ],
)
def test_result_that_is_too_old_is_not_known(
    journal: Journal, age: float, services: tuple[Installed, ...], known: bool
) -> None:
    recorded(journal, check(), age=age)
    lines, code = looked(journal, *services)
    assert (code, "✅ Nothing was wrong at its end." in lines) == (0 if known else 3, known)
    assert any("Not known: the last run is too old" in line for line in lines) != known


def test_age_is_said(journal: Journal) -> None:
    recorded(journal, check(), age=3 * HOUR)
    assert looked(journal)[0][0].endswith(", 3 h ago")


def test_issue_remains_however_old(journal: Journal) -> None:
    recorded(journal, check(found=True), age=9 * DAY)
    lines, code = looked(journal)
    assert (code, "Not known" in " ".join(lines), "Found 18" in " ".join(lines)) == (1, True, True)


def test_what_could_not_be_loaded_is_not_known(journal: Journal) -> None:
    number = recorded(journal, check())
    made = {
        "run_id": "run-1",
        "errors": [{"check": "mine.py", "message": "no such name"}],
        "out_of_memory_kills": 0,
    }
    reports.store(journal, number, made)
    lines, code = looked(journal)
    assert ("❌ mine.py could not run: no such name" in lines, code) == (True, 3)
    assert "✅ Nothing was wrong at its end." not in lines


def test_interrupted_run_is_not_known(journal: Journal) -> None:
    number = recorded(journal, check(), interrupted=True)
    errors = [{"check": "", "message": "the run was interrupted"}]
    reports.store(journal, number, {"run_id": "run-1", "errors": errors})
    lines, code = looked(journal)
    assert ("❌ Not everything was checked: the run was interrupted" in lines, code) == (True, 3)


def test_run_without_checks_is_not_known(journal: Journal) -> None:
    recorded(journal)
    lines, code = looked(journal)
    assert ("❓ Not known: no check ran." in lines, code) == (True, 3)


def test_processes_that_the_kernel_ended_are_wrong(journal: Journal) -> None:
    number = recorded(journal, check())
    reports.store(journal, number, {"run_id": "run-1", "errors": [], "out_of_memory_kills": 2})
    lines, code = looked(journal)
    assert ("The kernel ended 2 process(es) for want of memory" in " ".join(lines), code) == (
        True,
        1,
    )


@pytest.mark.parametrize(
    ("service", "said"),
    [
        (Installed("systemd-timer", 900, due=0.0), "Next run: by the systemd timer, every 15 min."),
        (Installed("cron", HOUR), "Next run: by the line of cron, every 1 h."),
        (
            Installed("systemd-timer", 900, False, remedy="systemctl enable --now x.timer"),
            "⛔ The systemd timer is installed and not enabled: systemctl enable --now x.timer",
        ),
        (
            Installed("systemd-watch", 300, True, False, remedy="systemctl enable --now x.service"),
            "⛔ The systemd watch service is installed and not at work: "
            "systemctl enable --now x.service",
        ),
    ],
)
def test_what_is_installed_is_said(journal: Journal, service: Installed, said: str) -> None:
    recorded(journal, check())
    assert looked(journal, service)[0][1] == said


def test_next_run_of_a_timer_is_said(journal: Journal) -> None:
    recorded(journal, check())
    assert looked(journal, TIMER)[0][1].endswith(" (systemd timer, every 15 min).")


@pytest.fixture
def place(home: Path, monkeypatch: pytest.MonkeyPatch) -> service.ServicePlace:
    """A user's, where neither the system's own nor a crontab is looked at."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(installed.commands, "find_program", lambda name: None)
    return service.here(False)


def write(place: service.ServicePlace, kind: str, every: float) -> None:
    job = service_units.Job(("/opt/it --interval 7/run_healing.sh",), every, False)
    for path in place.files(kind):
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "launchd":
            path.write_bytes(service_units.property_list(job))
        else:
            path.write_text(service_units.render_unit(path.name, job))


@pytest.mark.parametrize("kind", ["systemd-timer", "systemd-watch", "launchd"])
def test_installed_service_is_found_with_its_interval(
    place: service.ServicePlace, kind: str
) -> None:
    for every in EVERY:
        write(place, kind, every)
        (found,) = installed.find_installed()
        assert (found.kind, found.every) == (kind, every)


def test_unit_that_is_not_enabled_says_how_to_enable_it(place: service.ServicePlace) -> None:
    write(place, "systemd-timer", 900)
    (found,) = installed.find_installed()
    assert (found.enabled, found.active) == (False, None)
    assert found.remedy == "systemctl --user enable --now miyabi-healing.timer"
    wants = place.unit_folder / "timers.target.wants"
    wants.mkdir()
    (wants / "miyabi-healing.timer").symlink_to("../miyabi-healing.timer")
    assert installed.find_installed() == [Installed("systemd-timer", 900)]


def test_unit_of_somebody_else_is_not_ours(place: service.ServicePlace) -> None:
    place.unit_folder.mkdir(parents=True)
    (place.unit_folder / "miyabi-healing.timer").write_text("[Timer]\n")
    assert installed.find_installed() == []


@pytest.mark.parametrize("every", EVERY)
def test_interval_of_a_line_of_cron_is_read(every: float, monkeypatch: pytest.MonkeyPatch) -> None:
    job = service_units.Job(("/opt/run_healing.sh",), every, True)
    assert installed._cron_interval(service_units.cron_file(job, "host")) == every
    monkeypatch.setattr(installed.commands, "find_program", lambda name: Path(name))
    lines = b"MAILTO=me\n5 4 * * * backup\n" + service_units.cron_block(job, "host").encode()
    monkeypatch.setattr(installed.service, "crontab", lambda: lines)
    assert list(installed._in_crontab()) == [Installed("cron", every)]
