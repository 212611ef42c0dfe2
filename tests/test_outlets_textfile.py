"""The metrics file for Prometheus: whole or not there, true, and read without complaint by
Prometheus' own parsers.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from program import run, settings
from prometheus_client.parser import text_string_to_metric_families

from miyabi_healing.model import config
from miyabi_healing.model.actions import ActionResult, Outcome, StepStatus
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.results import CheckResult
from miyabi_healing.model.steps import Reclaim
from miyabi_healing.report import documents
from miyabi_healing.report.outputs import textfile
from miyabi_healing.report.outputs.output import OutputRequest
from miyabi_healing.runner import registry
from miyabi_healing.state import history, journal
from miyabi_healing.support import atomic_write, paths

CHECK = """
import pathlib, pytest

@pytest.mark.heal("tidy")
@pytest.mark.limit(1, unit="things")
@pytest.mark.parametrize("folder", ["things", 'odd "name" \\\\ {x="y"}\\n# ü'])
def test_things(folder, measure, limit):
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


@pytest.fixture
def world(home: Path) -> tuple[str, ...]:
    """The program's arguments: a check that three things trip, a healer that takes them away, and
    where metrics go.
    """
    folder = home / "mine"
    (folder / "healers").mkdir(parents=True)
    (folder / "test_things.py").write_text(CHECK)
    (folder / "healers" / "tidy.py").write_text(HEALER)
    (home / "collector").mkdir()
    text = (
        f'[metrics]\ntextfile = "{home}/collector/miyabi_healing.prom"\n[extend]\nfolders = '
        f'["{folder}"]\n'
    )
    text += "[brakes]\ncooldown = 0\nflap_on = 1000\n"
    return ("--config", settings(home, text))


def litter(home: Path) -> None:
    (home / "things").mkdir(exist_ok=True)
    for number in range(3):
        (home / "things" / f"thing {number}").write_text("x")


Samples = dict[tuple[str, tuple[str, ...]], float]


def parsed(text: str) -> Samples:
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for each in family.samples:
            key = (each.name.removeprefix("miyabi_healing_"), tuple(each.labels.values()))
            assert key not in samples
            samples[key] = each.value
    return samples


def metrics(home: Path) -> Samples:
    file = home / "collector" / "miyabi_healing.prom"
    assert os.listdir(file.parent) == [file.name]
    return parsed(file.read_text())


def told(document: dict[str, Any], code: int = 0, file: str = "") -> OutputRequest:
    chosen = config.Config(metrics=config.MetricsSettings(file))
    return OutputRequest(
        document,
        code,
        chosen,
        dry_run=False,
        seconds=1.5,
        healers=lambda: registry.healer_names(chosen),
    )


def document(**changes: Any) -> dict[str, Any]:
    return {**documents.failed_report("why"), "errors": [], **changes}


def test_every_pass_is_told_and_heals_add_up(home: Path, world: tuple[str, ...]) -> None:
    assert run(*world).returncode == 0
    seen = metrics(home)
    assert (
        seen["check_value", ("things", "things")],
        seen["check_threshold", ("things", "things")],
    ) == (0, 1)
    assert seen["check_up", ("things", "things")] == 1
    assert {key for (name, key) in seen if name == "check_value"} >= {
        ("things", 'odd "name" \\ {x="y"}\\n# ü')
    }
    assert (
        seen["heals_total", ("tidy", "success")],
        seen["heals_total", ("prune_logs", "failed")],
    ) == (0, 0)
    assert (seen["exit_status", ()], seen["issues", ()], seen["unknown_checks", ()]) == (0, 0, 0)
    assert abs(seen["last_run_timestamp_seconds", ()] - time.time()) < 60
    assert 0 < seen["last_run_duration_seconds", ()] < 60
    for number in (1, 2):
        litter(home)
        assert run(*world).returncode == 0
        seen = metrics(home)
        assert (
            seen["heals_total", ("tidy", "success")],
            seen["check_up", ("things", "things")],
        ) == (number, 1)
    litter(home)
    assert run("pause", "--for", "1h", "--reason", "a release").returncode == 0
    assert run(*world).returncode == 1
    seen = metrics(home)
    assert (seen["check_up", ("things", "things")], seen["check_value", ("things", "things")]) == (
        0,
        3,
    )
    assert (seen["heals_total", ("tidy", "success")], seen["heals_total", ("tidy", "skipped")]) == (
        2,
        2,
    )
    assert (seen["exit_status", ()], seen["issues", ()]) == (1, 2)


def test_file_is_for_everybody_to_read_and_a_link_in_its_place_is_not_followed(
    home: Path, world: tuple[str, ...]
) -> None:
    precious = home / "precious"
    precious.write_text("precious")
    file = home / "collector" / "miyabi_healing.prom"
    file.symlink_to(precious)
    before = os.umask(0o077)
    try:
        run(*world)
    finally:
        os.umask(before)
    assert (precious.read_text(), file.is_symlink(), file.stat().st_mode & 0o777) == (
        "precious",
        False,
        0o644,
    )


def test_what_a_killed_write_left_is_cleaned_up_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "m.prom"
    old, new, other = (
        tmp_path / name for name in (".m.prom.old.tmp", ".m.prom.new.tmp", ".n.prom.old.tmp")
    )
    link = tmp_path / ".m.prom.link.tmp"
    for each in (old, new, other):
        each.write_text("x")
    link.symlink_to(other)
    for each in (old, other, link):
        os.utime(each, (0, 0), follow_symlinks=False)
    textfile.clean(file)
    atomic_write.replace(file, b"x 1\n")
    assert sorted(os.listdir(tmp_path)) == [
        ".m.prom.link.tmp",
        ".m.prom.new.tmp",
        ".n.prom.old.tmp",
        "m.prom",
    ]


def test_dry_run_writes_nothing(home: Path, world: tuple[str, ...]) -> None:
    litter(home)
    assert run("--dry-run", *world).returncode == 1
    assert os.listdir(home / "collector") == []


def test_folder_that_is_missing_is_one_clear_line(home: Path, world: tuple[str, ...]) -> None:
    (home / "collector").rmdir()
    done = run("--quiet", *world)
    file = home / "collector" / "miyabi_healing.prom"
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"miyabi-healing: textfile: {file}: No such file or directory\n"
    (home / "collector").mkdir()
    file.mkdir()
    assert run(*world).stderr == f"miyabi-healing: textfile: {file}: Is a directory\n"
    assert os.listdir(file.parent) == [file.name]


def test_write_that_fails_leaves_the_last_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "m.prom"
    file.write_text("x 1\n")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic_write.replace(file, b"x 2\n")
    assert (os.listdir(tmp_path), file.read_text()) == (["m.prom"], "x 1\n")


def metric(name: str, value: float, outcome: str, target: str = "") -> dict[str, Any]:
    return {"name": name, "target": target, "value": value, "threshold": 5, "outcome": outcome}


def issue(name: str, healed: bool) -> dict[str, Any]:
    return {"name": name, "target": "", "healed": healed}


def test_unknown_and_waived_checks_are_neither_up_nor_down(home: Path, tmp_path: Path) -> None:
    rows = [
        *(
            metric("fine", 1, "passed"),
            metric("bad", 9, "failed"),
            metric("mended", 2, "healed"),
            metric("odd", 3, "failed"),
        ),
        *(
            metric("borne", 9, "waived"),
            metric("strange", math.nan, "passed"),
            metric("strange", math.inf, "passed", "x"),
        ),
    ]
    shown = document(
        metrics=rows,
        issues_detected=[issue("bad", False), issue("mended", True)],
        errors=[{"check": "odd", "message": "x"}],
    )
    textfile.send(told(shown, 3, f"{tmp_path}/m.prom"))
    seen = parsed((tmp_path / "m.prom").read_text())
    ups = {key[0]: value for (name, key), value in seen.items() if name == "check_up"}
    assert ups == {"fine": 1, "bad": 0, "mended": 1, "strange": 1}
    assert math.isnan(seen["check_value", ("strange", "")])
    assert seen["check_value", ("strange", "x")] == math.inf
    assert seen["check_value", ("borne", "")] == 9
    assert (seen["unknown_checks", ()], seen["exit_status", ()]) == (1, 3)


def test_hostile_names_and_twins_make_a_file_that_can_be_read(home: Path, tmp_path: Path) -> None:
    names = [
        "\udcff",
        "a\nb",
        'quo"te',
        "back\\slash",
        "x" * 1_000_000,
        "::error::",
        "{}=,|",
        "\x00",
        "twin",
        "twin",
    ]
    shown = document(
        metrics=[metric("check", number, "passed", name) for number, name in enumerate(names)]
    )
    textfile.send(told(shown, 0, f"{tmp_path}/m.prom"))
    seen = parsed((tmp_path / "m.prom").read_text())
    values = {key[1]: value for (name, key), value in seen.items() if name == "check_value"}
    assert (len(values), values["twin"], values["\\xff"]) == (9, 9, 0)
    if promtool := shutil.which("promtool"):
        given = (tmp_path / "m.prom").read_bytes()
        done = subprocess.run([promtool, "check", "metrics"], input=given, capture_output=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_pass_that_could_not_run_is_told(home: Path, world: tuple[str, ...]) -> None:
    assert run("--checks", "/nowhere", *world).returncode == 2
    seen = metrics(home)
    assert (seen["exit_status", ()], seen["unknown_checks", ()]) == (2, 1)
    assert not [name for name, _ in seen if name == "check_up"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[metrics]\nfile = 'x'\n", "metrics.file: unknown key; did you mean 'textfile'?"),
        ("[metrics]\ntextfile = ['x']\n", "metrics.textfile: expected `str`, got `array`"),
        ("[metrics]\ntextfile = 'x.prom'\n", "textfile must be an absolute path, not 'x.prom'"),
    ],
)
def test_bad_setting_is_one_clear_line(home: Path, text: str, said: str) -> None:
    done = run("--config", settings(home, text))
    assert (done.returncode, said in done.stderr, len(done.stderr.splitlines())) == (2, True, 1)


# The count of heals


def heal(status: str) -> CheckResult:
    limit = Limit(5)
    found = Issue("check", "", "found", 9, limit)
    action = ActionResult(
        "tidy", found, passed=status == "success", problem="broke" if status == "failed" else ""
    )
    step = Reclaim(target="t", reason="r", control=Path("/c"), value="1")
    action.outcomes.append(Outcome(step, StepStatus.APPLIED))
    return CheckResult("check", "", limit, issue=found, actions=[action])


def test_count_outlives_what_history_lets_go_of(tmp_path: Path) -> None:
    kept = journal.Journal(tmp_path / paths.JOURNAL)
    rules = config.HistorySettings(days=1, passes=1)
    for number in range(20):
        history.record(
            kept,
            f"run {number}",
            time.time(),
            [heal("success"), heal("failed"), heal("success")],
            rules,
        )
    assert history.heal_totals(kept) == {("tidy", "success"): 40, ("tidy", "failed"): 20}
    kept.close()


def test_count_that_cannot_be_read_is_left_out_rather_than_begun_anew(
    home: Path, tmp_path: Path
) -> None:
    state = paths.state_folder()
    state.mkdir(parents=True)
    assert set(textfile.totals(told(document())).values()) == {0}
    (state / paths.JOURNAL).write_bytes(b"no database at all" * 1000)
    assert textfile.totals(told(document())) == {}
    (state / paths.JOURNAL).unlink()
    kept = journal.Journal(state / paths.JOURNAL)
    history.record(kept, "run", time.time(), [heal("success")], config.HistorySettings())
    assert textfile.totals(told(document()))["tidy", "success"] == 1  # with a run at work as well
    kept.write("drop table heal_total", ())
    kept.database.execute("pragma user_version=3")
    kept.close()
    assert set(textfile.totals(told(document())).values()) == {0}
