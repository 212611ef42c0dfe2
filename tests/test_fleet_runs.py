"""A run that a fleet's coordinator asks for is made once, and none is made for one that was
replaced.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from foresightwork import journal_of, lived
from program import environment, report, run, settings

from conftest import PROJECT, wait_for
from miyabi_healing.model.config import HistorySettings
from miyabi_healing.model.fleet import FleetOrder
from miyabi_healing.state import fleet_runs, history
from miyabi_healing.state.journal import Journal
from miyabi_healing.support import paths


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = journal_of(tmp_path / "state")
    yield opened
    opened.close()


def finish(journal: Journal, label: str) -> None:
    run = f"of {label}"
    write = fleet_runs.finishing(FleetOrder(label, 3), run)
    history.record(journal, run, time.time(), [], HistorySettings(), also=[write])


@pytest.mark.parametrize(
    ("seen", "asked", "higher"),
    [([], 0, None), ([5], 4, 5), ([5], 5, None), ([5], 6, None), ([5, 3], 4, 5), ([5], None, None)],
)
def test_lower_token_than_the_highest_seen_is_superseded(
    journal: Journal, seen: list[int], asked: int | None, higher: int | None
) -> None:
    for token in seen:
        fleet_runs.raise_token(journal, FleetOrder("", token))
    assert fleet_runs.superseding(journal, FleetOrder("any", asked)) == higher


def test_report_of_a_finished_run_is_found_by_its_label(journal: Journal) -> None:
    assert fleet_runs.finished(journal, "a") is None
    finish(journal, "a")
    finish(journal, "")
    found = fleet_runs.finished(journal, "a")
    assert found is not None
    assert found["run_id"] == "of a"
    assert fleet_runs.finished(journal, "b") is None
    assert fleet_runs.finished(journal, "") is None, "a run without a name is never the same"


def test_label_is_forgotten_with_its_run_and_the_token_is_not(journal: Journal) -> None:
    fleet_runs.raise_token(journal, FleetOrder("a", 9))
    finish(journal, "a")
    lived(journal, "any", "", [1.0])
    history.record(journal, "now", time.time(), [], HistorySettings(passes=1))
    assert fleet_runs.finished(journal, "a") is None
    assert journal.one("select count(*) from fleet_run") == (0,)
    assert fleet_runs.superseding(journal, FleetOrder("b", 8)) == 9


@pytest.mark.parametrize("wrong", [("x" * 201, None), ("a\nb", None), ("a", -1), ("a", 2**63)])
def test_order_that_cannot_be_kept_is_refused(wrong: tuple[str, int | None]) -> None:
    with pytest.raises(ValueError, match=r"at most 200|whole number"):
        FleetOrder(*wrong)


def test_run_of_a_label_is_made_once(home: Path) -> None:
    config = settings(home)

    def ask(*arguments: str) -> tuple[int, dict[str, object]]:
        return report("--config", config, *arguments)

    code, first = ask("--fleet-run", "tonight", "--fleet-token", "7", "--dry-run")
    assert (code, "fleet" in first) == (0, False), "a dry run is no answer"
    code, first = ask("--fleet-run", "tonight", "--fleet-token", "7")
    assert (code, first["fleet"], "again" in first) == (0, {"run": "tonight", "token": 7}, False)
    code, second = ask("--fleet-run", "tonight", "--fleet-token", "8")
    assert code == 0
    assert second.pop("again") is True
    assert second == first
    code, refused = ask("--fleet-run", "tomorrow", "--fleet-token", "7")
    assert (code, str(refused["summary"])[:40]) == (75, "The checks could not run: superseded: th")
    assert refused["superseded_by"] == 8, "what tells it from a host whose lock another run holds"
    journal = journal_of(paths.state_folder())
    assert journal.one("select count(*) from pass") == (1,)
    journal.close()
    said = run("--config", config, "--fleet-run", "tonight").stdout
    assert "tonight was finished before" in said.splitlines()[0]


def test_order_goes_with_one_run(home: Path) -> None:
    done = run("--fleet-run", "a", "--watch")
    assert (done.returncode, "one run" in done.stderr) == (2, True)
    done = run(MIYABI_HEALING_FLEET_TOKEN="x")
    assert (done.returncode, "x" in done.stderr) == (2, True)


def test_interrupted_run_is_not_finished(home: Path, start: Callable[..., psutil.Popen]) -> None:
    checks = home / "checks"
    checks.mkdir()
    began = home / "began"
    (checks / "test_slow.py").write_text(
        "import pathlib, pytest, time\n"
        "@pytest.mark.limit(5)\n"
        "def test_slow(measure, limit):\n"
        f"    began = pathlib.Path({str(began)!r})\n"
        "    if not began.exists():\n"
        "        began.touch()\n"
        "        time.sleep(60)\n"
        "    assert measure(1, 'one') <= limit\n"
    )
    arguments = ("--config", settings(home), "--checks", str(checks), "--fleet-run", "tonight")
    program = [sys.executable, str(PROJECT / "self_healer.py"), *arguments]
    first = start(*program, env=environment(), cwd=home, stdout=subprocess.DEVNULL)
    wait_for(began.exists)
    code, busy = report(*arguments)
    assert (code, "superseded_by" in busy) == (75, False)
    first.send_signal(signal.SIGINT)
    assert first.wait(30) == 130
    code, document = report(*arguments)
    assert (code, "again" in document) == (0, False)
    assert report(*arguments)[1]["again"]
