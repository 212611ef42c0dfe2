"""What a known cause changes in a plan, and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from miyabi_healing.host.filesystems import Mount
from miyabi_healing.host.readings import Host
from miyabi_healing.model.because import Because, share_of
from miyabi_healing.model.config import Config
from miyabi_healing.model.identity import Identity
from miyabi_healing.model.issue import Issue, Limit, Severity
from miyabi_healing.model.plan import Goal, Plan
from miyabi_healing.model.steps import Delete, Run, Step, TrimLog
from miyabi_healing.runner.causes_first import by_the_cause
from miyabi_healing.runner.diagnosis import Diagnosis

LIMIT = Limit(90, Severity.HIGH, {Severity.CRITICAL: 95}, "%")
CACHE = Delete(
    target="~/.cache/uv", reason="idle", root=Path("/d/.cache/uv"), units=(), bytes=10_000
)
OTHER = replace(CACHE, target="~/.cache/pip", root=Path("/d/.cache/pip"))
TOOL = Run(
    target="uv cache prune", reason="", argv=("uv",), time_limit=1,
    changes=(Path("/d/.cache/uv"),), bytes=10_000,
)  # fmt: skip
LOG = TrimLog(
    target="/d/l/a.log", reason="", path=Path("/d/l/a.log"), identity=Identity(1, 2, 0, 0, 0),
    keep_lines=1, keep_bytes=1, bytes=9000, later=1000,
)  # fmt: skip
WRITER = Because(
    grade="accounts for", what="/d/.cache/uv", share=0.6, text="it grew", pid=7, start=1,
    path="/d/.cache/uv", rate=10_000 / 600, command="ls -l /proc/7/fd",
)  # fmt: skip
HELD = replace(
    WRITER,
    what="/d/x",
    path="/d/x",
    deleted=True,
    enough=True,
    text="7 has it open",
    rate=0,
    bytes=5000,
)


def always(pid: int, start: int) -> bool:
    return (pid, start) == (7, 1)


def adjusted(
    cause: Because, *steps: Step, value: float = 91, lives: Callable[[int, int], bool] = always
) -> Plan:
    issue = Issue("disk_space_critical", "/d", "", value, LIMIT, because=(cause,))
    return by_the_cause(Plan(steps, Goal("", lambda: False)), issue, lives)


@pytest.mark.parametrize("step", [CACHE, TOOL])
def test_what_a_live_writer_refills_in_ten_minutes_stays_and_the_writer_is_named(
    step: Step,
) -> None:
    found = adjusted(WRITER, step, OTHER)
    assert found.steps == (OTHER,)
    assert adjusted(WRITER, step, step).steps == (step, step)  # together they are more
    assert adjusted(WRITER, replace(step, bytes=0)).steps  # of what is not known, nobody says so
    (kept,) = found.kept
    assert (kept.reason, kept.decide, kept.command) == (
        "refilled at once",
        True,
        "ls -l /proc/7/fd",
    )
    assert "pid 7 writes 1.0 kB a minute into /d/.cache/uv" in kept.detail


def test_log_that_is_full_again_at_once_is_not_shortened() -> None:
    live = replace(WRITER, path="/d/l/a.log")
    assert adjusted(live, LOG).steps == ()
    assert adjusted(replace(live, path="/d/l/b.log"), LOG).steps == (LOG,)


@pytest.mark.parametrize(
    ("size", "inodes", "read_only", "enough"),
    [(50_000, 10, "", True), (200_000, 10, "", False), (50_000, 95, "", False)]
    + [(50_000, 10, "errors=remount-ro", False)],
)
def test_deleted_file_is_the_trouble_only_where_the_issue_is_over_without_it(
    size: int, inodes: float, read_only: str, enough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5 kB of 50 kB are ten points, of 200 kB two and a half: 93 % is still too much then."""
    mount = Mount(Path("/d"), 1, 93, inodes, 1, size, read_only=read_only)
    issue = Issue("disk_space_critical", "/d", "", 93, LIMIT)
    found = (replace(HELD, enough=False), WRITER)
    monkeypatch.setattr(Diagnosis, "_of_mount", lambda *_: found)
    run = Diagnosis(Host(Config()), lambda: None, pytest.fail)
    because = run.explained(issue, {"mount": mount}).because
    assert [each.enough for each in because] == [enough, False]


@pytest.mark.parametrize("path", ["/d", "/d/.cache", "/d/.cache/uv2", "/"])
def test_writing_around_a_cache_keeps_nobody_from_clearing_it(path: str) -> None:
    assert adjusted(replace(WRITER, path=path), CACHE).steps == (CACHE,)


@pytest.mark.parametrize(
    "cause",
    [
        replace(WRITER, rate=WRITER.rate * 0.9),
        replace(WRITER, pid=None),
        replace(WRITER, start=2),
        replace(WRITER, grade="went together"),
        replace(WRITER, grade="came just before"),
        replace(HELD, grade="went together"),
        replace(HELD, start=2),
    ],
)
def test_what_is_not_sure_or_not_there_changes_no_plan(cause: Because) -> None:
    plan = Plan((CACHE, OTHER), Goal("", lambda: False))
    issue = Issue("disk_space_critical", "/d", "", 91, LIMIT, because=(cause,))
    assert by_the_cause(plan, issue, always) is plan


def test_no_file_is_deleted_for_a_deleted_one_that_its_owner_has_to_reopen() -> None:
    found = adjusted(HELD, CACHE, OTHER, LOG)
    assert found.steps == (LOG,)
    assert [(each.target, each.reason) for each in found.kept] == [
        ("/d/x (pid 7)", "deleted but open"),
        ("~/.cache/uv", "not the cause"),
        ("~/.cache/pip", "not the cause"),
    ]


@pytest.mark.parametrize(
    ("share", "value", "enough"), [(0.4, 91, True), (0.6, 96, True), (0.9, 91, False)]
)
def test_it_is_told_but_room_is_made_where_it_is_not_all_or_nearly_nothing_is_left(
    share: float, value: float, enough: bool
) -> None:
    found = adjusted(replace(HELD, share=share, enough=enough), CACHE, value=value)
    assert found.steps == (CACHE,)
    assert [each.reason for each in found.kept] == ["deleted but open"]


def test_share_of_a_path_is_that_of_what_lies_around_it_or_in_it() -> None:
    causes = (WRITER, replace(WRITER, path="/d/.cache/uv2", share=0.2), replace(HELD, path="/d"))
    assert share_of(causes, "/d/.cache/uv") == share_of(causes, "/d/.cache/uv/a") == 0.6
    assert share_of(causes, "/d/.cache") == 0.8
    assert share_of(causes, "/d/.cache/u") == 0
