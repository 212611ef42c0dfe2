"""``predict``: the failure predictor's document, with times that are real; and what it says where
nothing can be told.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result
from gitworld import git
from program import environment, settings

from conftest import PROJECT
from miyabi_healing.cli.main import command
from miyabi_healing.host import component_readings, cpu, filesystems
from miyabi_healing.host.git import repositories
from miyabi_healing.model import config
from miyabi_healing.model.foreseen import Foreseen
from miyabi_healing.model.limit_settings import CheckSettings
from miyabi_healing.model.outlook import Outlook, Prediction
from miyabi_healing.report import prediction
from miyabi_healing.runner import predicting, registry
from miyabi_healing.runner.registry import Folders
from miyabi_healing.state import reports, schema
from miyabi_healing.state.journal import Journal
from miyabi_healing.support import series_file
from miyabi_healing.support.formatting import timestamp
from miyabi_healing.support.series_file import read_series_file

SCHEMA = json.loads((PROJECT / "miyabi_healing/report/prediction.schema.json").read_text())
OURS = Folders((registry.builtin("checks"),), (registry.builtin("healers"),))
KEYS = set("timestamp overall_health predictions anomalies metrics_summary recommendations".split())
METRICS = set(
    "cpu_percent memory_percent disk_percent miyabi_process_count zombie_process_count "
    "git_worktree_count git_uncommitted_count".split()
)
MINUTE, HOUR, DAY = 60, 3600, 86_400
DISK = "disk_space_critical"
OTHERS = (
    "high_memory_usage swap_usage tmpfs_usage zombie_processes orphaned_processes large_log_files "
    "excessive_worktrees stale_git_lock"
).split()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for how busy this machine is."""
    monkeypatch.setattr(cpu, "read_cpu_percent", lambda: 12.5)


# The document


def found(seconds: float, crossed: bool = False, **changes: Any) -> Prediction:
    row = Foreseen(
        issue=DISK, target="/", value=81.25, threshold=90, unit="%", measured=1.8e9,
        eta_seconds=seconds, basis="grows",
    )  # fmt: skip
    return Prediction(
        component="disk", metric="disk_percent", foreseen=replace(row, **changes),
        seconds=seconds, crossed=crossed, commands=("run --only x",),
    )  # fmt: skip


def seen(*predictions: Prediction, **changes: Any) -> Outlook:
    plain = Outlook(now=1.8e9, horizon=DAY, predictions=predictions, told=True)
    return replace(plain, **changes)


def checked(outlook: Outlook) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(prediction.build_prediction(outlook)))
    jsonschema.validate(document, SCHEMA)
    return document


@pytest.mark.parametrize(
    ("seconds", "crossed", "level", "status"),
    [
        (0, False, "failure_imminent", 2),
        (30 * MINUTE, False, "failure_imminent", 2),
        (31 * MINUTE, False, "critical", 1),
        (2 * HOUR, False, "critical", 1),
        (2 * HOUR + 1, False, "warning", 0),
        (DAY, False, "warning", 0),
        (0, True, "critical", 1),
    ],
)
def test_level_is_the_time_that_is_left(
    seconds: float, crossed: bool, level: str, status: int
) -> None:
    outlook = seen(found(seconds, crossed))
    document = checked(outlook)
    assert document["overall_health"] == document["predictions"][0]["level"] == level
    assert prediction.exit_status(outlook) == status
    assert [each["severity"] for each in document["anomalies"]] == [level] * crossed


def test_document_has_the_keys_and_types_of_that_predictor() -> None:
    """And of each prediction what ours rests on."""
    document = checked(
        seen(
            found(5 * HOUR, earliest=4.5 * HOUR, latest=6 * HOUR, alarms=4, came_true=3),
            found(0, crossed=True, value=93.0),
            metrics={"disk_percent": 93.0, "cpu_percent": 5.0},
        )
    )
    assert set(document) == KEYS
    crossed, coming = document["predictions"]
    assert coming["confidence"] == 0.75
    assert crossed["confidence"] is None, "nothing is known yet of how good it is"
    assert coming["factors"] == ["disk_percent: 81.2 (threshold: 90.0)"]
    assert coming["eta_seconds"] == 5 * HOUR
    at = time.strftime("%Y-%m-%dT%H:%M:%S.000000", time.localtime(1.8e9 + 5 * HOUR))
    assert coming["predicted_time"] == at
    assert coming["earliest"] < at < coming["latest"]
    assert document["anomalies"] == [
        {"metric": "disk_percent", "current_value": 93, "threshold": 90, "severity": "critical"}
    ]
    assert document["recommendations"] == ["run --only x"], "each once"


def test_could_not_tell_is_neither_healthy_nor_silent() -> None:
    assert prediction.exit_status(seen()) == 0
    nothing = seen(told=False)
    assert prediction.exit_status(nothing) == 3
    assert checked(nothing)["overall_health"] == "healthy", "no prediction, so no other word"
    assert checked(nothing)["could_not_tell"]
    assert "could_not_tell" not in checked(seen())
    assert list(prediction.prediction_lines(nothing, 100)) == [
        "❓ What comes could not be told: there is no history yet; runs make it."
    ]
    crossed = seen(found(0, crossed=True), told=False)
    assert prediction.exit_status(crossed) == 1, "what is crossed needs no history"


def test_text_is_a_line_each_and_says_what_it_rests_on() -> None:
    rests = {"series": 2, "samples": 300, "span": 3.0 * DAY}
    calm = list(prediction.prediction_lines(seen(**rests), 100))
    assert calm == [
        "✅ Nothing is foreseen within 24 hours. It rests on 300 measurements of 2 values over 3 d."
    ]
    lines = list(prediction.prediction_lines(seen(found(5 * HOUR), **rests), 200))
    assert lines[0].startswith("🟡 / reaches 90 % ")
    assert lines[0].endswith("; 81 % now")
    above = list(prediction.prediction_lines(seen(found(0, crossed=True, value=93.2)), 200))
    assert above[0] == "🟠 /: 93 % now, above the limit of 90 %"
    assert lines[-1] == "   run --only x"
    banded = found(5 * HOUR, earliest=4 * HOUR, latest=6 * HOUR)
    assert "between" in next(prediction.prediction_lines(seen(banded), 200))


def test_commands_are_never_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    long = replace(found(HOUR), commands=("./run_healing.sh " + "--only x " * 8,))
    lines = list(prediction.prediction_lines(seen(long), 40))
    assert f"   {long.commands[0]}" in lines


# The host


def history(
    folder: Path, values: list[float], target: str, name: str = DISK, version: int | None = None
) -> Journal:
    """A journal of runs at every five minutes until now that measured these values."""
    file = folder / "journal.sqlite3"
    if version is not None:
        with contextlib.closing(sqlite3.connect(file)) as old:
            script = "".join(schema.MIGRATIONS[:version])
            old.executescript(f"{script} pragma user_version={version};")
            if version >= 3:
                fill(old.execute, values, target, name)
            old.commit()
        return Journal(file, read_only=True)
    made = Journal(file)
    made.keep_time()
    with made.at_once():
        fill(made.database.execute, values, target, name)
    return made


def fill(execute: Callable[..., Any], values: list[float], target: str, name: str) -> None:
    for number, value in enumerate(values):
        at = time.time() - (len(values) - number) * 5 * MINUTE
        execute(
            "insert into pass (id, run, began, ended, checks, found, healed, unknown, freed) "
            "values (?, ?, ?, ?, 1, 0, 0, 0, 0)",
            (number + 1, f"run-{number}", at - 1, at),
        )
        execute(
            "insert into measurement (pass, name, target, value, threshold, unit, outcome, "
            "severity, description, actions) values (?, ?, ?, ?, 90, '', 'healthy', '', '', '')",
            (number + 1, name, target, value),
        )


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path)


def only_disk(place: str, threshold: float, **changes: Any) -> config.Config:
    """Nothing is looked at but how full the filesystem of a folder is."""
    off = {name: CheckSettings(enabled=False) for name in OTHERS}
    git = config.GitSettings(repos=())
    chosen = config.Config(
        disk=config.DiskSettings(mounts=(place,)), git=git,
        checks={**off, DISK: CheckSettings(threshold=threshold)},
    )  # fmt: skip
    return replace(chosen, **changes)


def full(place: str) -> float:
    return filesystems.read_folder(place).percent


def growing(now: float, an_hour: float, count: int = 150) -> list[float]:
    return [now - an_hour * (count - number) / 12 for number in range(count)]


def test_disk_that_fills_is_foreseen_with_when_and_why(tmp_path: Path, place: str) -> None:
    now = full(place)
    with contextlib.closing(history(tmp_path, growing(now, 6), place)) as journal:
        outlook = predicting.look_ahead(only_disk(place, now + 30), journal, OURS)
    [row] = checked(outlook)["predictions"]
    assert row["level"] == "warning"
    assert 4.5 * HOUR < row["eta_seconds"] < 5.5 * HOUR
    assert row["component"], row["issue"] == ("disk", DISK)
    assert row["confidence"] is None
    assert row["recommendations"] == [
        f"miyabi-healing space {place}",
        f"miyabi-healing --only {DISK} --dry-run",
    ]


def test_confidence_is_the_share_of_earlier_alarms_that_came_true(
    tmp_path: Path, place: str
) -> None:
    now = full(place)
    with contextlib.closing(history(tmp_path, growing(now, 6), place)) as journal:
        for result in ("came true", "came true", "did not come", None):
            journal.write(
                "insert into alarm (issue, target, run, made, clock, value, threshold, eta, basis, "
                "ended, result) values (?, ?, 'r', 1, 1, 1, 1, 1, '', 1, ?)",
                (DISK, place, result),
            )
        outlook = predicting.look_ahead(only_disk(place, now + 30), journal, OURS)
    assert checked(outlook)["predictions"][0]["confidence"] == pytest.approx(2 / 3)


def test_disk_that_has_been_as_full_for_long_foresees_nothing(tmp_path: Path, place: str) -> None:
    now = full(place)
    with contextlib.closing(history(tmp_path, [now] * 2000, place)) as journal:
        outlook = predicting.look_ahead(only_disk(place, now + 1), journal, OURS)
    assert outlook.predictions == ()
    assert (outlook.told, prediction.exit_status(outlook)) == (True, 0)


def test_what_is_beyond_the_horizon_is_not_foreseen(tmp_path: Path, place: str) -> None:
    now = full(place)
    near = config.ForesightSettings(horizon=2)
    with contextlib.closing(history(tmp_path, growing(now, 6), place)) as journal:
        chosen = only_disk(place, now + 30, foresight=near)
        assert predicting.look_ahead(chosen, journal, OURS).predictions == ()


def test_limit_that_is_crossed_is_told_without_a_history(place: str) -> None:
    outlook = predicting.look_ahead(only_disk(place, full(place) / 2), None, OURS)
    document = checked(outlook)
    [row], [anomaly] = document["predictions"], document["anomalies"]
    assert (row["level"], row["eta_seconds"]) == ("critical", 0)
    assert anomaly["metric"] == "disk_percent"
    assert prediction.exit_status(outlook) == 1


def test_without_a_history_nothing_can_be_told(place: str) -> None:
    outlook = predicting.look_ahead(only_disk(place, 99.9), None, OURS)
    assert outlook.could_not_tell
    assert set(outlook.metrics) >= METRICS - {"git_worktree_count", "git_uncommitted_count"}


@pytest.mark.parametrize("version", range(1, len(schema.MIGRATIONS) + 1))
def test_journals_of_earlier_versions_are_read(tmp_path: Path, place: str, version: int) -> None:
    now = full(place)
    values = growing(now, 6)
    with contextlib.closing(history(tmp_path, values, place, version=version)) as journal:
        outlook = predicting.look_ahead(only_disk(place, now + 30), journal, OURS)
    assert len(outlook.predictions) == (1 if version >= 3 else 0)
    assert outlook.could_not_tell == (version < 3)


def test_few_measurements_are_not_enough_to_tell(tmp_path: Path, place: str) -> None:
    now = full(place)
    with contextlib.closing(history(tmp_path, [now] * 3, place)) as journal:
        outlook = predicting.look_ahead(only_disk(place, now + 1), journal, OURS)
    assert outlook.could_not_tell
    [line] = prediction.prediction_lines(outlook, 200)
    assert "too few: 3 measurements over" in line


def test_history_of_long_ago_tells_nothing(tmp_path: Path, place: str) -> None:
    now = full(place)
    chosen = only_disk(place, now + 1)
    with contextlib.closing(history(tmp_path, [now] * 100, place)) as journal:
        assert not predicting.look_ahead(chosen, journal, OURS).could_not_tell
        journal.write("update pass set ended = ended - ?", (3 * DAY,))
        outlook = predicting.look_ahead(chosen, journal, OURS)
    assert outlook.could_not_tell
    assert outlook.why_not == "the last run on record was 3 d ago"


def test_causes_are_those_that_the_last_run_found(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = full(place)
    row = {"name": DISK, "target": place, "causes": ["mostly ~/.cache/x"]}
    last = {"timestamp": timestamp(), "issues_detected": [], "foreseen": [row]}
    monkeypatch.setattr(reports, "latest", lambda journal: last)
    chosen = only_disk(place, now + 30)
    with contextlib.closing(history(tmp_path, growing(now, 6), place)) as journal:
        outlook = predicting.look_ahead(chosen, journal, OURS)
        last["timestamp"] = timestamp(time.time() - 2 * DAY)
        old = predicting.look_ahead(chosen, journal, OURS)
    assert checked(outlook)["predictions"][0]["causes"] == ["mostly ~/.cache/x"]
    assert checked(old)["predictions"][0]["causes"] == []


def test_what_is_waived_is_none_of_its_predictions(place: str) -> None:
    import datetime

    later = datetime.date.today() + datetime.timedelta(days=2)
    chosen = only_disk(place, full(place) / 2, waivers={DISK: config.Waiver("known", later)})
    assert predicting.look_ahead(chosen, None, OURS).predictions == ()
    past = {DISK: config.Waiver("known", datetime.date(2020, 1, 1))}
    assert predicting.look_ahead(replace(chosen, waivers=past), None, OURS).predictions


def test_foresight_that_is_off_foresees_nothing_and_says_why(tmp_path: Path, place: str) -> None:
    now = full(place)
    chosen = only_disk(place, now + 30, foresight=config.ForesightSettings(enabled=False))
    with contextlib.closing(history(tmp_path, growing(now, 6), place)) as journal:
        outlook = predicting.look_ahead(chosen, journal, OURS)
    assert outlook.could_not_tell
    assert "[foresight] enabled = false" in outlook.why_not


def test_value_that_cannot_be_read_is_missing_and_named(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    outlook = predicting.look_ahead(only_disk(gone, 90), None, OURS)
    assert "disk_percent" not in outlook.metrics
    assert any(gone in each for each in outlook.unknown)


def test_values_of_checks_that_are_off_are_in_the_summary_alone(place: str) -> None:
    chosen = only_disk(place, 1)
    disabled = CheckSettings(enabled=False, threshold=0.001)
    off = replace(chosen, checks={**chosen.checks, DISK: disabled})
    outlook = predicting.look_ahead(off, None, OURS)
    assert outlook.predictions == ()
    assert {"disk_percent", "memory_percent"} <= set(outlook.metrics)


def test_checks_of_ones_own_are_foreseen_by_their_history(tmp_path: Path, place: str) -> None:
    checks = tmp_path / "mine"
    checks.mkdir()
    (checks / "test_mine.py").write_text(
        "import pytest\n@pytest.mark.limit(130)\ndef test_mine(mount, measure, limit): raise X\n"
    )
    where = Folders((*OURS.checks, checks), OURS.healers)
    chosen = only_disk(place, 99.9)
    with contextlib.closing(history(tmp_path, growing(100, 6), "/x", "mine")) as journal:
        outlook = predicting.look_ahead(chosen, journal, where, (str(checks),))
        journal.write("update pass set ended = ended - ?", (10 * HOUR,))
        assert predicting.look_ahead(chosen, journal, where).predictions == (), "its time is over"
    [row] = checked(outlook)["predictions"]
    assert (row["component"], row["issue"], row["target"]) == ("disk", "mine", "/x")
    assert row["recommendations"] == [f"miyabi-healing --checks {checks} explain mine"]


# What is read


def test_busy_is_neither_idle_nor_waiting_for_a_disk() -> None:
    before = "cpu  10 0 10 100 50 0 0 0 7 0\ncpu0 1\n"
    after = "cpu  20 5 20 150 75 0 0 0 17 0\ncpu0 1\n"
    assert cpu.busy_percent(before, after) == pytest.approx(25)
    assert cpu.busy_percent(before, before) == 0


def test_uncommitted_are_counted_as_git_status_shows_them(home: Path) -> None:
    top = home / "repository"
    git(home, "init", "-q", str(top))
    (top / "kept").write_text("1")
    git(top, "add", ".")
    git(top, "commit", "-qm", "first")
    repository = repositories.open_repository(str(top), config.Config())
    assert component_readings.count_uncommitted(repository) == 0
    (top / "kept").write_text("2")
    (top / "new").write_text("1")
    assert component_readings.count_uncommitted(repository) == 2


def test_processes_are_counted_by_their_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither whoever asks, nor whoever asked for that, is one of them."""
    word = f"miyabi-agent-{os.getpid()}"
    monkeypatch.setattr(component_readings, "_OURS", word)
    assert component_readings.count_processes() == 0
    script = "import sys; print(1, flush=True); sys.stdin.read()"
    asking = (
        "import sys; from miyabi_healing.host import component_readings as readings\n"
        "readings._OURS = sys.argv[1]; print(readings.count_processes())"
    )
    started = [sys.executable, "-c", script, word]
    with subprocess.Popen(started, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert component_readings.count_processes() == 1
        line = f"{sys.executable} -c '{asking}' {word}; :"
        told = subprocess.check_output(["sh", "-c", line], cwd=PROJECT, env=environment())
        assert told == b"1\n"
        process.communicate()


# Files


def series(text: str | bytes) -> series_file.SeriesFile:
    return read_series_file(io.BytesIO(text.encode() if isinstance(text, str) else text))


@pytest.mark.parametrize(
    "text",
    [
        "100,1.5\n200,2\n",
        "seconds,value\n100,1.5\n\n200,2",
        '"time","value"\r\n100,1.5\r\n"200","2"\r\n',
        "# made by hand\n100 1.5\n200\t2\n",
        "time;value\n100;1,5\n200;2\n",
        "200,2\n100,1.5\n",
        "1970-01-01T00:01:40Z,1.5\n1970-01-01 00:03:20+00:00,2\n",
        "100,1.5\n200,7\n200,2\n",
        "\ufeff100,1.5\n200,2\n",
    ],
)
def test_file_is_read_in_whatever_form_it_has(text: str) -> None:
    found = series(text)
    assert (found.times[0], found.times[-1]) == (100, 200)
    assert (found.values[0], found.values[-1]) == (1.5, 2)
    assert found.bad == 0


def test_times_in_milliseconds_are_known() -> None:
    assert series("1767225600000,1\n1767225700000,2").times == [1767225600, 1767225700]


@pytest.mark.parametrize(
    "line", ["300,NaN", "300,inf", "nan,1", "1e400,1", "300", "300,1,2", "tomorrow,1", "300,", "\0"]
)
def test_line_that_is_none_is_named_with_its_number_and_the_rest_counts(line: str) -> None:
    found = series(f"100,1\n{line}\n200,2\n")
    assert (found.times, found.bad) == ([100, 200], 1)
    assert found.named[0].startswith("line 2: ")


def test_first_line_that_was_meant_as_a_sample_is_no_header() -> None:
    assert series("100,NaN\n200,2\n").bad == 1
    assert series("now,NaN\n200,2\n").bad == 1


def test_long_file_is_thinned_over_its_whole_time_and_keeps_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(series_file, "KEPT", 100)
    found = series("\n".join(f"{at},{at}" for at in range(12_345)))
    assert len(found.times) <= 101
    assert (found.times[0], found.times[-1], found.lines) == (0, 12_344, 12_345)
    assert found.times == found.values
    backwards = series("\n".join(f"{at},{at}" for at in range(12_344, -1, -1)))
    assert backwards.times == sorted(set(backwards.times))
    assert backwards.times[-1] == 12_344
    times = [*range(1000), 5000, *range(1000, 2000)]
    assert series("\n".join(f"{at},{at}" for at in times)).times[-1] == 5000


def test_line_without_an_end_takes_no_memory() -> None:
    class Endless(io.BytesIO):
        longest = 0

        def readline(self, size: int | None = -1) -> bytes:  # type: ignore[override]
            assert size is not None
            assert 0 < size <= 1 << 16
            return super().readline(size)

    found = read_series_file(Endless(b"1" * 1_000_000 + b"\n5,5\n"))
    assert (found.times, found.bad, found.named) == ([5], 1, ("line 1: it is too long",))


def predict(*arguments: str, text: str = "") -> Result:
    return CliRunner().invoke(command, ["predict", *arguments], input=text)


def straight(count: int, an_hour: float = 1.0) -> str:
    return "".join(f"{at * 300},{at / 12 * an_hour}\n" for at in range(count))


@pytest.mark.parametrize(
    ("text", "threshold", "status", "health"),
    [
        (straight(200), "20", 0, "warning"),
        (straight(200), "18", 1, "critical"),
        (straight(200), "17", 2, "failure_imminent"),
        (straight(200), "3", 1, "critical"),
        ("".join(f"{at * 300},81\n" for at in range(9000)), "90", 0, "healthy"),
        (straight(5), "20", 3, "healthy"),
    ],
)
def test_file_is_forecast_and_ends_as_the_host_would(
    home: Path, text: str, threshold: str, status: int, health: str
) -> None:
    done = predict("--series", "-", "--threshold", threshold, "--json", text=text)
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    assert (done.exit_code, document["overall_health"]) == (status, health)
    assert {each["component"] for each in document["predictions"]} <= {"series"}


@pytest.mark.parametrize("text", ["", "time,value\n", "nothing of the kind\n"])
def test_file_without_a_sample_is_an_error(home: Path, text: str) -> None:
    file = home / "x.csv"
    file.write_text(text)
    done = predict("--series", str(file), "--threshold", "20")
    assert done.exit_code == 3
    assert f"{file}: " in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    "arguments", [("--series", "x"), ("--threshold", "1"), ("--series", "x", "--threshold", "nan")]
)
def test_file_and_limit_go_together(arguments: tuple[str, ...]) -> None:
    assert predict(*arguments).exit_code == 2


# The whole program


@pytest.fixture
def world(home: Path) -> Path:
    """A host on which one filesystem is over its limit; its configuration."""
    text = f'[disk]\nmounts = ["{home}"]\n[checks.{DISK}]\nthreshold = 0.001\n'
    return Path(settings(home, text + "[healers.cleanup_disk]\nenabled = false\n"))


@pytest.mark.skipif(not shutil.which("jq"), reason="needs jq")
def test_documented_line_of_jq_works_word_for_word(home: Path, world: Path) -> None:
    """It starts a run exactly where something is wrong, and predicting has left nothing behind."""
    program = f"{sys.executable} {PROJECT / 'self_healer.py'}"
    line = (
        f"{program} --config {world} predict --json > prediction.json; "
        """jq -e '.overall_health != "healthy"' prediction.json && ./run_healing.sh"""
    )
    start = home / "run_healing.sh"
    start.write_text(f"#!/bin/sh\nls -A {home}/.local 2>/dev/null\nexec touch {home}/healed\n")
    start.chmod(0o755)

    def shell() -> str:
        done = subprocess.run(
            ["sh", "-c", line], cwd=home, env=environment(), capture_output=True, text=True
        )
        return done.stdout

    assert shell() == "true\n", "a run, with no state folder yet"
    assert (home / "healed").exists()
    (home / "healed").unlink()
    world.write_text(world.read_text().replace("0.001", "99.999"))
    assert shell() == "false\n"
    assert not (home / "healed").exists()
    assert not os.path.lexists(home / ".local"), "it changed nothing"
