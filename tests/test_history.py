"""Every run is remembered for a while, healthy ones too; history and status tell people what there
was and what is.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from program import report, run, settings

from miyabi_healing.model import config
from miyabi_healing.model.issue import Limit
from miyabi_healing.model.results import CheckResult
from miyabi_healing.state import history
from miyabi_healing.state.journal import Journal
from miyabi_healing.support.paths import JOURNAL

LINES = b"".join(b"line %06d, and what it says\n" % number for number in range(60_000))


def world(home: Path, more: str = "") -> tuple[str, ...]:
    (home / "logs").mkdir(exist_ok=True)
    text = (
        f'[logs]\npatterns = ["{home}/logs/*.log"]\n[checks.large_log_files]\nthreshold = 1\n{more}'
    )
    return ("--config", settings(home, text))


def asked(*arguments: str) -> Any:
    return json.loads(run(*arguments).stdout)


def test_passes_are_remembered_healthy_healed_and_unhealed(home: Path) -> None:
    where = world(home)
    report(*where)
    (home / "logs" / "app.log").write_bytes(LINES)
    report(*where)
    os.link(home / "logs" / "app.log", home / "logs" / "second name")
    (home / "logs" / "app.log").write_bytes(LINES)
    report(*where)
    rows = asked("history", "--json")
    assert [(row["found"], row["healed"], row["unknown"]) for row in rows] == [
        (1, 0, 0),
        (1, 1, 0),
        (0, 0, 0),
    ]
    assert rows[1]["freed"] > 1_000_000
    course = asked("history", "--json", "--issue", "large_log_files")
    assert [row["outcome"] for row in course] == ["issue", "healed", "healthy"]
    assert course[1]["value"] > 1 > course[1]["after"]
    assert course[1]["actions"] == "prune_logs: success"
    done = run("history")
    assert (
        done.stdout.splitlines()[1].split(" ", 2)[2].startswith("✅ 1 issue(s), 1 healed, freed ")
    )
    assert "healed" in run("history", "--issue", "large_log_files").stdout
    assert len(asked("history", "--json", "-n", "1")) == 1


def test_check_that_is_off_is_not_remembered_as_healthy(home: Path) -> None:
    report(*world(home))
    course = run("history", "--issue", "zombie_processes")
    assert (course.returncode, "was ever measured" in course.stderr) == (2, True)


def test_dry_run_is_not_remembered(home: Path) -> None:
    report(*world(home), "--dry-run")
    assert not (home / ".local").exists()
    assert run("history").stdout == "No run yet.\n"


def test_unknown_check_is_told_with_the_nearest(home: Path) -> None:
    report(*world(home))
    done = run("history", "--issue", "large_logs")
    assert (done.returncode, "did you mean 'large_log_files'?" in done.stderr) == (2, True)


def test_status_says_what_is_wrong_and_what_holds_healing_back(home: Path) -> None:
    done = run("status")
    assert (done.returncode, done.stdout.splitlines()[0]) == (3, "No run yet.")
    where = world(home)
    report(*where)
    done = run("status")
    assert (done.returncode, done.stdout.splitlines()[2]) == (0, "✅ Nothing was wrong at its end.")
    (home / "logs" / "app.log").write_bytes(LINES)
    run("pause", "--for", "1h", "--reason", "a release")
    report(*where)
    done = run("status")
    assert done.returncode == 1
    assert "❌ large_log_files (medium): 1 log files take " in done.stdout
    assert "⛔ Healing is paused until " in done.stdout
    assert "prune_logs: skipped (paused until" in done.stdout
    run("resume")
    report(*where)
    document = asked("status", "--json")
    assert (document["issues"], document["paused"], document["quarantine"]["things"]) == (
        [],
        None,
        1,
    )
    assert "📦 1 thing(s) in quarantine" in run("status").stdout


def test_status_of_a_host_whose_repairs_were_rolled_back_is_not_known(home: Path) -> None:
    where = world(home)
    (home / "logs" / "app.log").write_bytes(LINES)
    report(*where)
    assert run("rollback").returncode == 0
    done = run("status")
    assert (done.returncode, "Nothing was wrong" in done.stdout) == (3, False)
    assert "❓ Not known: 1 step(s) were rolled back since then, the last at " in done.stdout
    assert asked("status", "--json")["rolled_back"]["steps"] == 1
    (row,) = asked("history", "--json")
    assert (row["healed"], row["rolled_back"]) == (1, 1)
    assert "↩ 1 issue(s), 1 healed, 1 step(s) rolled back" in run("history").stdout
    report(*where)
    done = run("status")
    assert (done.returncode, "Not known" in done.stdout) == (1, False)


def test_status_counts_attempts(home: Path) -> None:
    folder = home / "mine"
    (folder / "healers").mkdir(parents=True)
    (folder / "test_always.py").write_text(
        "import pytest\n@pytest.mark.heal('vain')\n@pytest.mark.limit(1)\ndef test_always(measure, "
        "limit):\n"
        "    assert measure(2, 'always') <= limit\n"
    )
    (folder / "healers" / "vain.py").write_text(
        "from miyabi_healing.api import Goal, Plan, Run\n"
        "def vain(context, issue, options):\n"
        "    step = Run(target='true', reason='', argv=('true',), time_limit=5)\n"
        "    return Plan((step,), Goal('never', lambda: False))\n"
    )
    file = settings(home, "[brakes]\ncooldown = 0\nattempts = 2\n")
    for _ in range(3):
        report("--config", file, "--checks", str(folder))
    document = asked("--config", file, "status", "--json")
    (row,) = document["tried"]
    assert (row["healer"], row["attempts"], row["most"], bool(row["again"])) == ("vain", 2, 2, True)
    assert (
        "⛔ vain tried 2 of 2 time(s) on always; it has given up until "
        in run("--config", file, "status").stdout
    )


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / JOURNAL)


def check(value: float = 1.0) -> CheckResult:
    return CheckResult(
        "some_check", "", Limit(5), measured={"value": value, "description": "measured"}
    )


def test_only_so_many_passes_and_days_are_kept_and_the_file_stops_growing(journal: Journal) -> None:
    rules = config.HistorySettings(days=1, passes=10)
    sizes = []
    for number in range(300):
        history.record(journal, f"run {number}", time.time(), [check() for _ in range(5)], rules)
        sizes.append(journal.database.execute("pragma page_count").fetchone()[0])
    assert len(history.passes(journal, 0, 1000)) == 10
    assert journal.database.execute("select count(*) from measurement").fetchone()[0] == 50
    assert sizes[-1] == sizes[50]
    # by the wall clock alone: it may be wrong
    journal.write("update pass set ended = ended - 90000", ())
    history.record(journal, "last but one", time.time(), [check()], rules)
    assert len(history.passes(journal, 0, 1000)) == 10
    journal.write("update pass set clock = clock - 90000 where ended < ?", (time.time() - 80_000,))
    history.record(journal, "last", time.time(), [check()], rules)
    assert [row["run"] for row in history.passes(journal, 0, 1000)] == ["last", "last but one"]
    journal.close()


def test_pass_that_cannot_be_remembered_whole_is_not_remembered_at_all(journal: Journal) -> None:
    broken = check()
    broken.measured = {"value": 1.0}
    with pytest.raises(KeyError):
        history.record(journal, "run", time.time(), [check(), broken], config.HistorySettings())
    assert history.passes(journal, 0, 10) == []
    journal.close()
