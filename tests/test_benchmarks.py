"""A benchmark that is ended leaves nothing behind, whatever ends it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks import fleet_judge
from conftest import PROJECT, wait_for

CROWD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from benchmarks.processes import crowd
with crowd(20, 3):
    print(flush=True)
    time.sleep(600)
"""
TOPIC = """
import sys, time
sys.path.insert(0, sys.argv.pop(1))
from benchmarks import harness
from benchmarks.processes import crowd
def cases(settings):
    with crowd(5, 2):
        print(settings.folder, flush=True)
        time.sleep(600)
        yield
harness.main({"one": cases})
"""


@pytest.mark.usefixtures("only_zombies")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_crowd_of_a_benchmark_that_is_ended_is_gone(number: signal.Signals) -> None:
    argv = [sys.executable, "-c", CROWD, str(PROJECT)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as benchmark:
        assert benchmark.stdout
        benchmark.stdout.readline()
        crowd = psutil.Process(benchmark.pid).children(recursive=True)
        assert len(crowd) == 1 + 20 + 3
        benchmark.send_signal(number)
    wait_for(lambda: not any(lives(each) for each in crowd))


@pytest.mark.usefixtures("only_zombies")
def test_topic_that_is_ended_takes_its_world_away(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", TOPIC, str(PROJECT), "--folder", str(tmp_path), "one"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as benchmark:
        assert benchmark.stdout
        folder = Path(benchmark.stdout.readline().decode().strip())
        assert folder.is_dir()
        benchmark.terminate()
        assert benchmark.wait(10) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


# The judge of what befalls coordinators: a benchmark that finds nothing wrong has to be able to.

DONE = (("a", "asked", 1, 0.0), ("a", "begin", 1, 0.1), ("a", "end", 1, 0.4))


def judged(*events: tuple[str, str, int, float], **more: Any) -> fleet_judge.Judgement:
    """Of hosts a and b, each event with its host, token and time."""
    noted = [dict(zip(("host", "what", "token", "at"), each, strict=True)) for each in events]
    return fleet_judge.judge(noted, **{"well": ["a", "b"], "hosts": ["a", "b"], **more})


def test_judge_finds_nothing_where_each_host_has_run_once() -> None:
    found = judged(*DONE, ("b", "begin", 2, 0.5), ("b", "end", 2, 0.8), ("b", "again", 3, 1.0))
    assert found == fleet_judge.Judgement(lost=0, second=0, late=0, most=1)


def test_judge_finds_what_is_lost_on_the_host_and_in_the_store() -> None:
    assert judged(*DONE, ("b", "begin", 2, 0.5)).lost == 1
    assert judged(*DONE, ("b", "begin", 2, 0.5), ("b", "end", 2, 0.6), well=["b"]).lost == 1


def test_judge_finds_second_runs_and_how_many_are_at_work_at_once() -> None:
    found = judged(*DONE, ("b", "begin", 2, 0.2), ("b", "end", 2, 0.5), ("b", "begin", 3, 0.6))
    assert (found.second, found.most) == (1, 2)


def test_judge_measures_how_long_each_lost_slice_waited() -> None:
    found = judged(
        ("a", "asked", 1, 0.9), ("a", "asked", 4, 3.5), ("b", "asked", 2, 0.9),
        ("b", "asked", 5, 4.25), ("b", "asked", 6, 9.0), fault=1.0, taken={"a": 1, "b": 2},
    )  # fmt: skip
    assert (found.first, found.last) == (2.5, 3.25)


def lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
