"""Memory that no program's size explains: what is in swap, and files that are kept in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from program import report, run, settings

from conftest import PROJECT
from miyabi_healing.host import memory, memory_rows, memory_users, swap, tmpfs
from miyabi_healing.host.process_status import read_process
from miyabi_healing.host.readings import Host
from miyabi_healing.host.swap import Swap
from miyabi_healing.host.tmpfs import TmpfsUse
from miyabi_healing.model.config import Config
from miyabi_healing.model.results import Measurement
from miyabi_healing.runner import fixtures

MEGABYTE = 1 << 20
SHARED = Path("/dev/shm")
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's /proc")


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc of the test's own."""
    proc = tmp_path / "proc"
    (proc / "pressure").mkdir(parents=True)
    monkeypatch.setattr(memory, "PROCFS", proc)
    monkeypatch.setattr(swap, "_LOOK", 0.05)
    return proc


def swapped(kernel: Path, total: int, free: int, available: int, cached: int = 0) -> Swap:
    rows = {"MemTotal": 1000, "MemFree": 10, "MemAvailable": available}
    rows |= {"SwapTotal": total, "SwapFree": free, "SwapCached": cached}
    (kernel / "meminfo").write_text("".join(f"{name}: {kb} kB\n" for name, kb in rows.items()))
    return swap.read_swap()


def waited(kernel: Path, percent: float) -> None:
    text = f"some avg10={percent} avg60=0.00 avg300=0.00 total=5\n"
    (kernel / "pressure/memory").write_text(text)


def test_host_without_swap_is_well(kernel: Path) -> None:
    found = swapped(kernel, 0, 0, 5)
    assert (found.percent, found.words) == (0, "There is no swap")


def test_what_is_in_memory_as_well_is_free(kernel: Path) -> None:
    assert swapped(kernel, 100, 10, 120, cached=40).percent == pytest.approx(50)


def test_full_swap_is_an_issue_where_memory_is_short(kernel: Path) -> None:
    waited(kernel, 0)
    found = swapped(kernel, 100, 2, 120)
    assert found.percent == pytest.approx(98)
    assert found.harmless(above=90) == ""
    assert "12 % of the memory is available" in found.words


def test_full_swap_is_harmless_where_memory_is_there_and_nothing_waits(kernel: Path) -> None:
    waited(kernel, 0.5)
    assert "harmless" in swapped(kernel, 100, 2, 600).harmless(above=90)
    assert swapped(kernel, 100, 50, 600).harmless(above=90) == ""


def test_full_swap_is_an_issue_where_programs_wait_for_it(kernel: Path) -> None:
    waited(kernel, 20)
    assert swapped(kernel, 100, 2, 600).harmless(above=90) == ""


@pytest.mark.parametrize(("each_look", "busy"), [((5, 5), False), ((5, 9), True)])
def test_kernel_that_tells_no_pressure_is_asked_what_comes_back(
    kernel: Path, monkeypatch: pytest.MonkeyPatch, each_look: tuple[int, int], busy: bool
) -> None:
    vmstat = kernel / "vmstat"
    vmstat.write_text(f"pswpin {each_look[0]}\n")
    later = f"pswpin {each_look[1]}\n"
    monkeypatch.setattr(time, "sleep", lambda _: vmstat.write_text(later))
    assert swap.is_read_back() is busy


@on_linux
def test_who_is_in_swap_is_read_off_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    ourselves = read_process(os.getpid())
    assert ourselves
    assert memory_users.swap_by_program([replace(ourselves, kernel=True)]) == ()
    monkeypatch.setattr(memory_users, "_swapped", lambda pid: 5 * MEGABYTE)
    (found,) = memory_users.swap_by_program([ourselves, ourselves])
    assert (found.bytes, len(found.processes)) == (10 * MEGABYTE, 2)


@pytest.fixture
def file_in_memory() -> Iterator[Path]:
    if not SHARED.is_dir() or SHARED.stat().st_dev not in {each[2] for each in tmpfs.read_mounts()}:
        pytest.skip("/dev/shm is no tmpfs here")
    file = SHARED / f"miyabi-test-{os.getpid()}"
    file.write_bytes(b"x" * (64 * MEGABYTE))
    yield file
    file.unlink()


@on_linux
def test_file_in_memory_is_counted_and_named(file_in_memory: Path) -> None:
    found = Host(Config()).tmpfs()
    assert [each[2] for each in found.mounts].count(SHARED.stat().st_dev) == 1
    assert found.percent >= 100 * 64 * MEGABYTE / memory.of_host().total
    rows = [row for row in found.users() if row["folder"] == str(SHARED)]
    assert len(rows) == 1
    assert f"{file_in_memory.name} 67.1 MB" in str(rows[0]["text"])


@on_linux
def test_small_tmpfs_is_no_user_of_the_memory(file_in_memory: Path) -> None:
    device = file_in_memory.stat().st_dev
    reading = memory.Memory(95.0, 1 << 50, 0, "host")
    assert memory.tmpfs_of(reading) == []
    smaller = replace(reading, total=100 * MEGABYTE)
    assert device in [each[2] for each in memory.tmpfs_of(smaller)]


@on_linux
def test_looking_into_one_ends_in_time(
    file_in_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_rows, "_SECONDS", -1.0)
    folder = file_in_memory.with_suffix(".d")
    folder.mkdir()
    try:
        named = dict(memory_rows.largest(str(SHARED), SHARED.stat().st_dev))
    finally:
        folder.rmdir()
    assert named.get(folder.name) is None
    assert memory_rows.largest(str(SHARED), device=1) == []


LOOK = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1])\n"
    "from miyabi_healing.host import tmpfs\n"
    "print(json.dumps([each[:2] for each in tmpfs.read_mounts()]))\n"
)


@pytest.mark.root
@on_linux
def test_what_is_mounted_over_one_is_not_taken_for_it(tmp_path: Path) -> None:
    """In a mount namespace of its own: one with a blank in its name, and one that is covered."""
    script = (
        'mkdir "$1/a b" "$1/under" "$1/real" && mount -t tmpfs tmpfs "$1/a b" && '
        'mount -t tmpfs tmpfs "$1/under" && head -c 3000000 /dev/zero > "$1/a b/file" && '
        'head -c 9000000 /dev/zero > "$1/under/file" && mount --bind "$1/real" "$1/under" && '
        'exec "$2" -S -c "$3" "$4"'
    )
    path = json.dumps([str(PROJECT), *sys.path])
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    done = subprocess.run(
        [*command, str(tmp_path), sys.executable, LOOK, path], capture_output=True, text=True
    )
    if "unshare" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    found = {name: taken for taken, name in json.loads(done.stdout)}
    assert 3_000_000 <= found[f"{tmp_path}/a b"] < 3_100_000
    assert f"{tmp_path}/under" not in found


def test_share_of_the_memory_is_what_counts() -> None:
    mounts = ((300, "/dev/shm", 5), (100, "/tmp", 6))
    found = TmpfsUse(mounts, 1000)
    assert found.percent == pytest.approx(40)
    assert found.words == "Files in tmpfs take 400 B, 40.0 % of the memory"


ALL_OF_IT = """
[checks.high_memory_usage]
threshold = 0
[checks.tmpfs_usage]
threshold = 0
[checks.swap_usage]
threshold = 90
"""


@on_linux
def test_who_uses_it_stands_in_every_format(home: Path, file_in_memory: Path) -> None:
    """Text, JSON by its schema, the line for Nagios, and what status remembers of it."""
    file = settings(home, ALL_OF_IT)
    _, document = report("--config", file)
    issues = {row["name"]: row for row in document["issues_detected"]}
    assert set(issues) == {"high_memory_usage", "tmpfs_usage"}
    users = issues["high_memory_usage"]["used_by"]
    assert len(users) <= 5
    (action,) = document["actions_taken"]
    assert {"name", "pid", "bytes"} <= set(action["details"]["top_consumers"][0])
    assert file_in_memory.name in str(issues["tmpfs_usage"]["used_by"])
    largest = users[0]["name"]
    others = ("--nagios", "status")
    outputs = [run("--config", file, words).stdout for words in others]
    text = run("--dry-run", "--config", file).stdout
    assert f"used by {largest}" in text
    assert f"used by files in {SHARED}" in text
    for output in (*outputs, text):
        assert "of the memory is taken" in output
        assert f"files in {SHARED}" in output
        assert "most: " in output


def test_measure_stands_where_nobody_can_be_named() -> None:
    def hidden() -> list[dict[str, object]]:
        raise OSError("no processes are to be seen")

    measured: Measurement = {"value": 95.0, "description": "much"}
    fixtures._add_users(measured, hidden)
    assert measured == {
        "value": 95.0,
        "description": "much; by whom cannot be told: no processes are to be seen",
    }


def test_healthy_host_asks_nobody_who_uses_it(home: Path) -> None:
    text = ALL_OF_IT.replace("threshold = 0", "threshold = 100")
    code, document = report("--config", settings(home, text))
    assert (code, document["issues_detected"]) == (0, [])
    assert "most: " not in str(document["metrics"])
