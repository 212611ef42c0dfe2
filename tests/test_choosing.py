"""``--only`` and ``--skip``: a run of a part of the checks, which nobody takes for one of all."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from program import report, run, settings
from test_alerts import CRASHED, HOUR, WRONG, Story
from test_alerts import issue as alerted
from test_alerts import report as document_of

from miyabi_healing.cli.common import Duration
from miyabi_healing.cli.main import command
from miyabi_healing.model import config
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.results import CheckResult, QuarantineSummary, RunResult
from miyabi_healing.report import status
from miyabi_healing.report.outputs import dispatch
from miyabi_healing.report.summary import summarize
from miyabi_healing.runner import choosing, registry
from miyabi_healing.runner.choosing import Choice
from miyabi_healing.state import history
from miyabi_healing.state.journal import Journal
from miyabi_healing.support.near_matches import near_matches
from miyabi_healing.support.paths import JOURNAL

OURS = registry.Folders((registry.builtin("checks"),), (registry.builtin("healers"),))
EVERY = config.Config()


def chosen(only: str = "", skip: str = "", where: registry.Folders = OURS) -> choosing.Chosen:
    names = choosing.split_names
    return choosing.choose(Choice(names([only]), names([skip])), where, EVERY)


@pytest.mark.parametrize(
    ("only", "names"),
    [
        ("swap_usage", {"swap_usage"}),
        ("test_swap_usage", {"swap_usage"}),
        ("cleanup_disk, swap_usage", {"disk_space_critical", "swap_usage"}),
        # the healer's other check is off, as it has no threshold
        ("cleanup_worktrees", {"excessive_worktrees"}),
    ],
)
def test_checks_are_named_by_themselves_or_by_their_healer(only: str, names: set[str]) -> None:
    found = chosen(only)
    assert found.names == names
    every = {file.name for file in OURS.checks[0].glob("test_*.py")}
    assert {f"test_{name}.py" for name in names} == every - {file.name for file in found.ignored}
    assert names.isdisjoint(found.left_out)
    assert "worktree_space" not in found.left_out, "it would not have run either"


def test_skip_runs_all_the_others() -> None:
    found = chosen(skip="cleanup_disk,swap_usage")
    assert set(found.left_out) == {"disk_space_critical", "swap_usage"}
    assert "zombie_processes" in found.names


@pytest.mark.parametrize(
    ("only", "skip", "said"),
    [
        ("disk", "", "did you mean cleanup_disk or disk_space_critical?"),
        ("zombi_proceses", "", "did you mean zombie_processes?"),
        ("", "swp", "--skip: no check or healer is called 'swp'; did you mean swap_usage?"),
        ("worktree_space", "", "off until [checks.worktree_space] sets a threshold"),
        ("swap_usage", "swap_usage", "leave no check to run"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_way_out(only: str, skip: str, said: str) -> None:
    with pytest.raises(choosing.UnknownName) as refused:
        chosen(only, skip)
    assert said in str(refused.value)


def test_broken_file_stops_only_a_run_that_asks_for_it(tmp_path: Path) -> None:
    (tmp_path / "test_fine.py").write_text(
        "import pytest\n@pytest.mark.limit(1)\ndef test_fine(measure, limit): pass\n"
    )
    (tmp_path / "test_broken.py").write_text("def test_broken(: pass\n")
    where = registry.Folders((tmp_path,), ())
    assert [file.name for file in chosen("fine", where=where).ignored] == ["test_broken.py"]
    assert [file.name for file in chosen("broken", where=where).ignored] == ["test_fine.py"]
    assert chosen(skip="broken", where=where).names == {"fine"}


def test_near_names_are_those_with_the_word_in_them_then_those_spelt_alike() -> None:
    names = ["disk_space_critical", "cleanup_disk", "dusk", "swap_usage"]
    assert near_matches("disk", names) == ["cleanup_disk", "disk_space_critical", "dusk"]
    assert near_matches("nothing-like-it", names) == []
    assert near_matches("", names) == []


# What a run of a part says, and leaves


def outcome(*names: str, left_out: tuple[str, ...]) -> RunResult:
    checks = {name: CheckResult(name, "", Limit(1)) for name in names}
    return RunResult(
        "RUN", False, "", checks, (), (), (), (), QuarantineSummary(0, 0, 0), 0, left_out
    )


def test_summary_claims_no_more_than_was_checked() -> None:
    said = summarize([], 0, outcome("a", left_out=("b", "c")), True)
    assert said == "No issues detected. Only a was checked."
    said = summarize([], 0, outcome("a", "b", left_out=("c",)), True)
    assert said == "No issues detected. Not checked: c."
    assert "healthy" in summarize([], 0, outcome("a", left_out=()), True)
    nothing = outcome("a", left_out=("b",))
    nothing.checks["a"].skipped = True
    assert summarize([], 0, nothing, False) == "No check ran. Not checked: b."


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / JOURNAL)


def remember(
    journal: Journal, run: str, *checks: CheckResult, left_out: tuple[str, ...] = ()
) -> None:
    history.record(journal, run, time.time(), checks, config.HistorySettings(), left_out=left_out)


def found(name: str, wrong: bool = False) -> CheckResult:
    issue = Issue(name, "/", "it is full", 9, Limit(1)) if wrong else None
    return CheckResult(name, "/", Limit(1), issue, measured={"value": 9, "description": "full"})


def test_what_was_left_out_keeps_its_last_reading(journal: Journal, tmp_path: Path) -> None:
    remember(journal, "first", found("disk", wrong=True), found("swap"))
    remember(journal, "second", found("swap"), left_out=("disk", "logs"))
    remember(journal, "third", found("swap"), left_out=("disk", "logs"))
    latest, rows = history.last(journal)
    assert latest is not None
    assert (latest["run"], latest["left_out"]) == ("third", 2)
    assert {row["name"]: row["outcome"] for row in rows} == {"swap": "healthy", "disk": "issue"}
    document = status.build_status(journal, tmp_path, EVERY)
    assert [row["name"] for row in document["issues"]] == ["disk"]
    lines = list(status.status_lines(document))
    assert "Not checked then, and shown as an earlier run left it: disk" in lines
    assert "❓ Not known, as never checked: logs" in lines
    assert not status.is_known(document)
    assert [row["outcome"] for row in history.course(journal, "disk", 0, 9)] == ["issue"]
    assert history.names(journal) == ["disk", "swap"]


def test_run_of_a_part_does_not_make_old_readings_new(journal: Journal, tmp_path: Path) -> None:
    remember(journal, "first", found("disk"), found("swap"))
    journal.write("update pass set ended = ended - 864000", ())
    assert status.build_status(journal, tmp_path, EVERY)["stale"]
    remember(journal, "second", found("swap"), left_out=("disk",))
    document = status.build_status(journal, tmp_path, EVERY)
    assert (document["stale"], document["age_seconds"] < 60) == (True, True)
    assert "✅ Nothing was wrong at its end." not in list(status.status_lines(document))
    remember(journal, "third", found("swap"), found("disk"))
    assert not status.build_status(journal, tmp_path, EVERY)["stale"]


def test_whole_run_ends_what_an_earlier_one_has_left(journal: Journal) -> None:
    remember(journal, "first", found("disk", wrong=True), found("swap"))
    remember(journal, "second", found("swap"), left_out=("disk",))
    remember(journal, "third", found("swap"), found("disk"))
    assert all(row["outcome"] == "healthy" for row in history.last(journal)[1])
    remember(journal, "fourth", found("swap"))  # disk was switched off: that is no part
    assert [row["name"] for row in history.last(journal)[1]] == ["swap"]


def test_nobody_is_told_that_what_was_left_out_is_well() -> None:
    story, part = Story(), {**document_of(healthy=(("swap", ""),)), "left_out": ["disk"]}
    unknown = document_of(errors=[{"check": "logs", "message": "no"}], healthy=())
    assert story.then(WRONG) == ["unhealed"]
    assert story.then(CRASHED) == ["unknown"]
    assert story.then(part) == [], "that a part could run does not end that all could not"
    assert story.then(WRONG) == ["recovered"]
    assert story.then(unknown) == ["unknown"]
    assert story.then(part, after=48 * HOUR) == [], "neither recovered nor forgotten"
    assert set(story.known) >= {("disk", "/"), ("logs", "")}
    assert story.then(document_of()) == ["recovered", "recovered"]


def test_part_still_tells_what_it_found_itself() -> None:
    story = Story()
    assert story.then(document_of(alerted())) == ["unhealed"]
    assert story.then({**document_of(), "left_out": ["swap"]}) == ["recovered"]


def test_outputs_that_speak_for_all_checks_say_nothing_of_a_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(dispatch._Module, "wants", property(lambda _: lambda given: True))
    monkeypatch.setattr(dispatch._Module, "send", lambda self, _: sent.append(self.name))
    for part in (False, True):
        dispatch.send_outputs(document_of(), 0, EVERY, dry_run=False, seconds=0, part=part)
    of_all = ["textfile", "html", "github", "alerts", "ping", "fleet"]
    assert sent == [*of_all, "github", "alerts"]


@pytest.mark.parametrize("arguments", [("--watch",), ()])
def test_unknown_name_ends_before_anything_runs(home: Path, arguments: tuple[str, ...]) -> None:
    done = run("--config", settings(home), "--only", "nonsense", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no check or healer is called 'nonsense'" in done.stderr
    assert not (home / ".local").exists()


def test_run_of_a_part_is_one_from_its_report_to_status(home: Path) -> None:
    where = ("--config", settings(home))
    code, document = report(*where, "--only", "prune_logs")
    assert code == 0
    assert document["summary"] == "No issues detected. Only large_log_files was checked."
    assert {row["name"] for row in document["metrics"]} == {"large_log_files"}
    assert document["left_out"] == ["excessive_worktrees", "stale_git_lock"]
    assert "1 check(s) only" in run("history").stdout


# The interval


@pytest.mark.parametrize(("text", "seconds"), [("5m", 300), ("90", 90), ("0.2", 0.2), ("1h", 3600)])
def test_interval_is_a_duration_or_seconds(text: str, seconds: float) -> None:
    assert Duration(plain_seconds=True).convert(text, None, None) == seconds


def test_interval_without_watch_is_refused_with_the_way_out() -> None:
    done = CliRunner().invoke(command, ["-i", "5m"])
    assert (done.exit_code, "add --watch" in done.output) == (2, True)
