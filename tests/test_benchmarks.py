"""A benchmark that is ended leaves nothing behind, whatever ends it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

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


def lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
