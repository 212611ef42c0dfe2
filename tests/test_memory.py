"""Memory: measured as the kernel means it, in containers too; and healed without harm or told
truthfully.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from miyabi_healing.gate import execute
from miyabi_healing.gate.handlers.table import apply, recheck
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.host import memory
from miyabi_healing.host.context import HealerContext
from miyabi_healing.host.readings import Host
from miyabi_healing.model.config import Config
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.plan import Plan
from miyabi_healing.model.steps import Reclaim, Run, Signal
from miyabi_healing.runner import registry
from miyabi_healing.support import commands

assert execute
MEGABYTE = 1 << 20


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc and a cgroup tree of the test's own: nothing here may ever reach the machine's."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "sys" / "vm").mkdir(parents=True)
    (tmp_path / "proc" / "sys" / "vm" / "drop_caches").write_text("0\n")
    (tmp_path / "proc" / "meminfo").write_text(
        "MemTotal: 1000000 kB\nMemFree: 1000 kB\nMemAvailable: 60000 kB\n"
    )
    (tmp_path / "proc" / "vmstat").write_text("oom_kill 3\n")
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/box/inner\n")
    (tmp_path / "cgroup").mkdir()
    monkeypatch.setattr(memory, "PROCFS", tmp_path / "proc")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    return tmp_path


def group(kernel: Path, path: str, **files: object) -> None:
    folder = kernel / "cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_host_is_read_as_free_does() -> None:
    line = (
        subprocess.run(["free", "-b"], capture_output=True, text=True, check=True)
        .stdout.splitlines()[1]
        .split()
    )
    found = memory.of_host()
    assert found.total == int(line[1])
    assert abs(found.available - int(line[6])) < 0.02 * found.total
    assert abs(found.percent - psutil.virtual_memory().percent) < 2


def test_available_counts_not_free(kernel: Path) -> None:
    assert memory.read_memory().percent == pytest.approx(94)
    assert memory.read_memory().scope == "host"


def test_tighter_limit_of_a_container_counts_without_its_cache(kernel: Path) -> None:
    (kernel / "proc" / "meminfo").write_text("MemTotal: 1000000 kB\nMemAvailable: 900000 kB\n")
    usage = {
        "memory__max": 256 * MEGABYTE,
        "memory__current": 255 * MEGABYTE,
        "memory__stat": f"inactive_file {153 * MEGABYTE}",
    }
    group(kernel, "box", **usage)
    group(
        kernel, "box/inner", memory__max="max", memory__current=10, memory__stat="inactive_file 0"
    )
    found = memory.read_memory()
    assert found.percent == pytest.approx(39.8, abs=0.1)
    assert found.group == kernel / "cgroup" / "box"


def test_first_version_of_cgroups(kernel: Path) -> None:
    (kernel / "proc" / "meminfo").write_text("MemTotal: 1000000 kB\nMemAvailable: 900000 kB\n")
    (kernel / "proc" / "self" / "cgroup").write_text("9:name=systemd:/\n4:cpu,memory:/job\n0::/\n")
    usage = {
        "memory__limit_in_bytes": 100 * MEGABYTE,
        "memory__usage_in_bytes": 90 * MEGABYTE,
        "memory__stat": "total_inactive_file 0",
    }
    group(kernel, "memory/job", **usage)
    assert memory.read_memory().percent == pytest.approx(90)


@pytest.fixture
def limited() -> Iterator[Path]:
    """A real memory cgroup with 256 MB, where this machine lets us make one."""
    folder = Path("/sys/fs/cgroup/memory") / f"miyabi-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / "memory.limit_in_bytes").write_text(str(256 * MEGABYTE))
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here: {error}")
    yield folder
    end = time.monotonic() + 5
    while True:
        try:
            subprocess.run(["rmdir", str(folder)], check=True, capture_output=True)
            return
        except subprocess.CalledProcessError:
            assert time.monotonic() < end
            time.sleep(0.05)


@pytest.mark.root
def test_page_cache_of_a_real_container_is_not_taken_memory(limited: Path, tmp_path: Path) -> None:
    script = (
        f"import os, sys; open({str(limited / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
        f"f = open({str(tmp_path / 'big')!r}, 'wb')\n"
        "for _ in range(300): f.write(b'x' * 1000000)\n"
        "f.flush(); os.fsync(f.fileno())\n"
        f"sys.path.insert(0, {str(Path(memory.__file__).parents[2])!r})\n"
        "from miyabi_healing.host import memory\n"
        "for m in memory.limited_groups(10**15):\n"
        f"    if m.scope == {str(limited)!r}: print(m.percent)\n"
    )
    paths = f"import sys; sys.path[:] = {sys.path!r}\n"
    done = subprocess.run(
        [sys.executable, "-S", "-c", paths + script], capture_output=True, text=True
    )
    raw = 100 * int((limited / "memory.max_usage_in_bytes").read_text()) / (256 * MEGABYTE)
    assert raw > 90, done.stderr
    assert float(done.stdout) < 60


def test_consumers_can_be_printed() -> None:
    rows = memory.consumers()
    json.dumps(rows)
    assert len(rows) == 5
    assert all(isinstance(row["bytes"], int) for row in rows)


def plan(kernel: Path, **options: object) -> Plan:
    healer, kind = registry.load_healer(
        "clear_cache", registry.builtin("healers") / "clear_cache.py"
    )
    assert kind is not None
    view = HealerContext(Host(Config()), {"memory": memory.read_memory()})
    return healer(
        view, Issue("high_memory_usage", "", "", 94, Limit(90, unit="%")), kind(**options)
    )


def test_default_asks_but_stops_nothing(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "find_program", lambda name: "/usr/bin/npm")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = plan(kernel)
    assert [type(step) for step in found.steps] == [Run, Reclaim]
    assert [each.reason for each in found.kept] == ["not asked for"]
    assert found.goal.text == "below 85 %"
    assert found.min_gain == 1
    assert found.details["out_of_memory_kills"] == 3


def test_without_root_and_npm_it_says_so(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "find_program", lambda name: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = plan(kernel)
    assert found.steps == ()
    assert [each.reason for each in found.kept] == ["tool missing", "needs root", "not asked for"]


def test_reclaim_writes_to_known_control_files_only(kernel: Path, tmp_path: Path) -> None:
    where = Context(Host(Config()), "run", tmp_path / "state")
    drop = kernel / "proc" / "sys" / "vm" / "drop_caches"
    assert recheck(Reclaim(target="", reason="", control=drop, value="1"), where) is None
    apply(Reclaim(target="", reason="", control=drop, value="1"), where)
    assert drop.read_text().strip() == "1"
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for control, value in ((drop, "3"), (victim, "1"), (kernel / "cgroup" / ".." / "victim", "1")):
        assert (
            recheck(Reclaim(target="", reason="", control=control, value=value), where) is not None
        )
    drop.unlink()
    drop.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic"):
        apply(Reclaim(target="", reason="", control=drop, value="1"), where)
    assert victim.read_text() == "precious"


def test_container_short_of_memory_is_asked_itself(
    kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    group(
        kernel,
        "box",
        memory__max=100,
        memory__current=99,
        memory__stat="inactive_file 0",
        memory__reclaim="",
    )
    (step,) = (step for step in plan(kernel).steps if isinstance(step, Reclaim))
    assert step.control == kernel / "cgroup" / "box" / "memory.reclaim"


def test_programs_that_may_be_stopped_go_gently_and_only_while_it_is_needed(kernel: Path) -> None:
    process = subprocess.Popen(["sleep", "98765"], start_new_session=True)
    try:
        found = plan(kernel, may_stop=("sleep",), kill_above=97)
        steps = [
            step for step in found.steps if isinstance(step, Signal) and step.pid == process.pid
        ]
        assert [step.signal for step in steps] == [signal.SIGTERM, signal.SIGKILL]
        assert steps[0].guard() is None  # 94 % is above 90
        assert "not more than 97" in str(steps[1].guard())
        (kernel / "proc" / "meminfo").write_text("MemTotal: 1000000 kB\nMemAvailable: 900000 kB\n")
        assert steps[0].guard() is not None
    finally:
        process.kill()
        process.wait()
