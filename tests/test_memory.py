"""Memory: measured as the kernel means it, in containers too; and healed without harm or told
truthfully.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from gatework import carry_out

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
from miyabi_healing.report import documents
from miyabi_healing.runner import registry, session
from miyabi_healing.runner.resources import Resources
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


def taken(kernel: Path, **rows: int) -> float:
    """The percentage of a group of 100 MB in which 95 MB are in use, so many of them in files."""
    (kernel / "proc" / "meminfo").write_text("MemTotal: 1000000 kB\nMemAvailable: 900000 kB\n")
    lines = "".join(f"{name} {megabytes * MEGABYTE}\n" for name, megabytes in rows.items())
    limits = {"memory__max": 100 * MEGABYTE, "memory__current": 95 * MEGABYTE}
    group(kernel, "box", memory__stat=lines, **limits)
    return memory.read_memory().percent


def test_active_pages_of_files_can_be_had_back_too(kernel: Path) -> None:
    assert taken(kernel, inactive_file=10, active_file=50) == pytest.approx(35)


def test_pages_that_have_to_be_written_first_are_taken(kernel: Path) -> None:
    rows = {"inactive_file": 10, "active_file": 50, "file_dirty": 30, "file_writeback": 10}
    assert taken(kernel, **rows) == pytest.approx(75)
    assert taken(kernel, file_dirty=30) == pytest.approx(95)


def test_shared_memory_is_taken(kernel: Path) -> None:
    assert taken(kernel, file=60, shmem=60, inactive_anon=60) == pytest.approx(95)


def zfs(kernel: Path, size: int, minimum: int) -> None:
    folder = kernel / "proc/spl/kstat/zfs"
    folder.mkdir(parents=True)
    rows = f"9 1 0x01 147 39984 1 2\nname type data\nc_min 4 {minimum}\nsize 4 {size}\n"
    (folder / "arcstats").write_text(rows)


def test_cache_of_zfs_above_its_minimum_is_available(kernel: Path) -> None:
    assert memory.of_host().percent == pytest.approx(94)
    zfs(kernel, size=500_000 << 10, minimum=100_000 << 10)
    assert memory.of_host().percent == pytest.approx(54)


def test_cache_of_zfs_below_its_minimum_is_taken(kernel: Path) -> None:
    zfs(kernel, size=100_000 << 10, minimum=500_000 << 10)
    assert memory.of_host().percent == pytest.approx(94)


def test_host_s_cache_is_nothing_of_a_container_s_share(kernel: Path) -> None:
    """lxcfs puts another filesystem's file in the place of meminfo."""
    zfs(kernel, size=500_000 << 10, minimum=0)
    other = Path("/dev/shm")
    if not os.access(other, os.W_OK) or other.stat().st_dev == kernel.stat().st_dev:
        pytest.skip("needs a second filesystem")
    meminfo = kernel / "proc/meminfo"
    with tempfile.NamedTemporaryFile(dir=other) as file:
        file.write(meminfo.read_bytes())
        file.flush()
        meminfo.unlink()
        meminfo.symlink_to(file.name)
        assert memory.of_host().percent == pytest.approx(94)


def test_kernel_without_an_estimate_gets_one(kernel: Path) -> None:
    rows = "MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 50 kB\nCached: 300 kB\nShmem: 100 kB\n"
    (kernel / "proc/meminfo").write_text(rows)
    assert memory.of_host().percent == pytest.approx(65)


def pressure(kernel: Path, short: float, long: float, where: str = "proc/pressure/memory") -> None:
    file = kernel / where
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        f"some avg10={short:.2f} avg60={long:.2f} avg300=0.00 total=5\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"
    )


def test_words_say_whether_anything_waits_for_memory(kernel: Path) -> None:
    assert memory.read_memory().words(90) == "94.0 % of the memory is taken (host)"
    pressure(kernel, 0, 0)
    assert "nothing has waited" in memory.read_memory().words(90)
    assert memory.read_memory().words(95) == "94.0 % of the memory is taken (host)"
    pressure(kernel, 12.5, 3)
    assert "waited for memory 12.5 % of the last 10 s and 3 %" in memory.read_memory().words(90)


def limit_of(group: Path) -> Path:
    """The file that a real cgroup's limit is in, by its version; a group without the controller has
    none.
    """
    one = group.parent.name == "memory"
    return group / ("memory.limit_in_bytes" if one else "memory.max")


@pytest.fixture
def limited() -> Iterator[Path]:
    """A real memory cgroup with 256 MB, where this machine lets us make one."""
    one = Path("/sys/fs/cgroup/memory").is_dir()
    folder = Path("/sys/fs/cgroup", "memory" if one else "", f"miyabi-test-{os.getpid()}")
    try:
        folder.mkdir()
        limit_of(folder).write_text(str(256 * MEGABYTE))
    except OSError as error:
        subprocess.run(["rmdir", str(folder)], capture_output=True)
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
    new = limit_of(limited).name == "memory.max"
    highest = limited / ("memory.peak" if new else "memory.max_usage_in_bytes")
    raw = 100 * int(highest.read_text()) / (256 * MEGABYTE)
    assert raw > 90, done.stderr
    assert float(done.stdout) < 60


def test_consumers_can_be_printed() -> None:
    rows = memory.read_memory().users()
    json.dumps(rows)
    assert 0 < len(rows) <= 5
    sizes = [row["bytes"] for row in rows if isinstance(row["bytes"], int)]
    assert sizes == sorted(sizes, reverse=True)


def plan(kernel: Path, **options: object) -> Plan:
    healer, kind = registry.load_healer(
        "clear_cache", registry.builtin("healers") / "clear_cache.py"
    )
    assert kind is not None
    view = HealerContext(Host(Config()), {"memory": memory.read_memory()})
    return healer(
        view, Issue("high_memory_usage", "", "", 94, Limit(90, unit="%")), kind(**options)
    )


def test_host_gains_nothing_from_dropping_what_counts_as_available(
    kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = plan(kernel)
    assert found.steps == ()
    assert [each.reason for each in found.kept] == ["nothing to gain", "not asked for"]
    assert found.goal.text == "below 85 %"
    assert found.min_gain == 1
    assert found.details["out_of_memory_kills"] == 3
    assert found.details["top_consumers"]


def test_no_program_is_started_whatever_is_short(
    kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "find_program", lambda name: f"/usr/bin/{name}")
    group(kernel, "box", **nearly_full(slab=5 * MEGABYTE), memory__reclaim="")
    assert not [step for step in plan(kernel).steps if isinstance(step, Run)]


def test_without_root_it_says_that_the_kernel_cannot_be_asked(
    kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    group(kernel, "box", **nearly_full(slab=5 * MEGABYTE), memory__reclaim="")
    found = plan(kernel)
    assert found.steps == ()
    assert [each.reason for each in found.kept] == ["needs root", "not asked for"]


def nearly_full(slab: int = 0, **rows: int) -> dict[str, object]:
    """Of a group of version 2 with 100 MB, in which 99 MB are taken."""
    lines = "".join(f"{name} {size}\n" for name, size in {"slab_reclaimable": slab, **rows}.items())
    return {"memory__max": 100 * MEGABYTE, "memory__current": 99 * MEGABYTE, "memory__stat": lines}


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


def test_container_is_asked_for_what_its_measure_would_gain(
    kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    group(kernel, "box", **nearly_full(slab=5 * MEGABYTE), memory__reclaim="")
    (step,) = (step for step in plan(kernel).steps if isinstance(step, Reclaim))
    assert step.control == kernel / "cgroup" / "box" / "memory.reclaim"
    assert step.value == str(5 * MEGABYTE)


@pytest.mark.parametrize(("kernel_memory", "asked"), [(2, False), (8, True)])
def test_container_of_the_first_version_is_asked_only_for_much(
    kernel: Path, monkeypatch: pytest.MonkeyPatch, kernel_memory: int, asked: bool
) -> None:
    """All of its cached files go with it, and a part of that memory cannot be had back."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (kernel / "proc" / "self" / "cgroup").write_text("4:cpu,memory:/job\n")
    files = {
        "memory__limit_in_bytes": 100 * MEGABYTE,
        "memory__usage_in_bytes": 99 * MEGABYTE,
        "memory__kmem__usage_in_bytes": kernel_memory * MEGABYTE,
        "memory__stat": "total_inactive_file 0",
        "memory__force_empty": "",
    }
    group(kernel, "memory/job", **files)
    steps = [
        (step.control.name, step.value) for step in plan(kernel).steps if isinstance(step, Reclaim)
    ]
    assert steps == ([("memory.force_empty", "0")] if asked else [])


def test_container_is_not_asked_for_what_is_available_already(
    kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    group(kernel, "box", **nearly_full(slab=1000), memory__reclaim="")
    found = plan(kernel)
    assert found.steps == ()
    assert found.kept[0].reason == "nothing to gain"


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program of the name sleep-for-a-test that nobody would miss."""
    script = tmp_path / "sleep-for-a-test.py"
    script.write_text("import time; time.sleep(600)")
    process = subprocess.Popen([sys.executable, "-S", script], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def signals(found: Plan, pid: int) -> list[Signal]:
    return [step for step in found.steps if isinstance(step, Signal) and step.pid == pid]


def test_programs_that_may_be_stopped_go_gently_and_only_while_it_is_needed(
    kernel: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    steps = signals(plan(kernel, may_stop=("sleep-for-*",), kill_above=97), sleeper.pid)
    assert [step.signal for step in steps] == [signal.SIGTERM, signal.SIGKILL]
    assert steps[0].guard is not None
    assert steps[1].guard is not None
    assert steps[0].guard() is None  # 94 % is above 90
    assert "not more than 97" in str(steps[1].guard())
    nearly_all = "MemTotal: 1000000 kB\nMemAvailable: 10000 kB\n"
    (kernel / "proc" / "meminfo").write_text(nearly_all)
    assert steps[1].guard() is None
    again = signals(plan(kernel, may_stop=("sleep-for-*",), kill_above=97), sleeper.pid)
    (kernel / "proc" / "meminfo").write_text(nearly_all)
    assert again[1].guard() == "it was not asked to end"
    (kernel / "proc" / "meminfo").write_text("MemTotal: 1000000 kB\nMemAvailable: 900000 kB\n")
    assert steps[0].guard() is not None


def test_nothing_is_stopped_while_nothing_waits_for_memory(
    kernel: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    (step, _) = signals(plan(kernel, may_stop=("sleep-for-a-test",)), sleeper.pid)
    assert step.guard is not None
    pressure(kernel, 0, 0)
    assert "nothing has waited" in str(step.guard())
    pressure(kernel, 0, 0.5)
    assert step.guard() is None
    pressure(kernel, 0, 0)
    # so little is left that the next one who asks is killed
    (kernel / "proc/meminfo").write_text("MemTotal: 1000000 kB\nMemAvailable: 10000 kB\n")
    assert step.guard() is None


def test_pattern_means_the_program_and_none_of_its_arguments(kernel: Path, tmp_path: Path) -> None:
    notes = tmp_path / "chrome-for-a-test"
    notes.write_text("x\n")
    readers = [
        subprocess.Popen(["tail", "-f", notes], stdout=subprocess.DEVNULL, start_new_session=True),
        subprocess.Popen(
            [sys.executable, "-S", "-c", "import time; time.sleep(600)", notes.name],
            start_new_session=True,
        ),
    ]
    try:
        assert plan(kernel, may_stop=("chrome-for-a-test",)).steps == ()
    finally:
        for each in readers:
            each.kill()
            each.wait()


RUNAWAY = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "Path(sys.argv[1], 'cgroup.procs').write_text('0') if sys.argv[1] else None\n"
    "x = b'x' * (int(sys.argv[2]) << 20)\n"
    "print('ready', flush=True)\n"
    "time.sleep(600)\n"
)


def look_at(group: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have memory measured as from inside a real cgroup."""
    (folder / "proc/self").mkdir(parents=True)
    line = f"4:memory:/{group.name}\n" if group.parent.name == "memory" else f"0::/{group.name}\n"
    (folder / "proc/self/cgroup").write_text(line)
    (folder / "proc/meminfo").write_text(Path("/proc/meminfo").read_text())
    monkeypatch.setattr(memory, "PROCFS", folder / "proc")


NAMES = (
    "import os, sys, time\n"
    "from pathlib import Path\n"
    "Path(sys.argv[1], 'cgroup.procs').write_text('0')\n"
    "for number in range(130_000): os.path.lexists(f'{sys.argv[2]}/{number}')\n"
    "free = 59 - (int(Path(sys.argv[1], sys.argv[3]).read_text()) >> 20)\n"
    "x = b'x' * (free << 20)\n"
    "print('ready', flush=True)\n"
    "time.sleep(600)\n"
)


@pytest.mark.root
def test_names_that_the_kernel_remembers_are_given_back(
    limited: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program has asked for 130,000 files that there are not: the kernel keeps each answer."""
    limit = limit_of(limited)
    usage = "memory.current" if limit.name == "memory.max" else "memory.usage_in_bytes"
    limit.write_text(str(64 * MEGABYTE))
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", NAMES, limited, tmp_path, usage],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        look_at(limited, tmp_path, monkeypatch)
        assert memory.read_memory().percent > 90
        (outcome,) = carry_out(plan(tmp_path), Context(Host(Config()), "run", tmp_path / "state"))
        assert outcome.status == "applied"
        assert memory.read_memory().percent < 85
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


@pytest.mark.root
def test_runaway_in_a_real_container_is_ended_and_nobody_besides(
    limited: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest one that is named and inside goes; then enough is available."""
    look_at(limited, tmp_path, monkeypatch)
    (tmp_path / "runaway-for-a-test").write_text(RUNAWAY)
    (tmp_path / "worker-for-a-test").write_text(RUNAWAY)
    started = [
        subprocess.Popen(
            [sys.executable, "-S", tmp_path / f"{name}-for-a-test", where, str(size)],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        for name, where, size in (
            ("runaway", limited, 150),
            ("runaway", limited, 10),
            ("worker", limited, 70),
            ("runaway", "", 200),
        )
    ]
    try:
        for each in started:
            assert each.stdout
            assert each.stdout.readline() == b"ready\n"
        assert memory.read_memory().group == limited
        healing = plan(tmp_path, may_stop=("runaway-for-a-test",), patience=5.0)
        outcomes = carry_out(healing, Context(Host(Config()), "run", tmp_path / "state"))
        assert memory.read_memory().percent < 85
        assert started[0].wait(5) == -signal.SIGTERM
        assert [each.poll() for each in started[1:]] == [None] * 3
        applied = [each for each in outcomes if each.status == "applied"]
        assert len(applied) == 1
        rows = healing.details["top_consumers"]
        assert isinstance(rows, list)
        assert [(row["name"], row["count"]) for row in rows] == [
            ("runaway-for-a-test", 2),
            ("worker-for-a-test", 1),
        ]
    finally:
        for each in started:
            each.kill()
            each.communicate()


def resources(kernel: Path) -> Resources:
    folders = registry.checks_folders(Config())
    return Resources(Config(), folders, "run", kernel / "state", dry_run=False)


@pytest.mark.parametrize(("after", "good"), [(3, True), (5, False)])
def test_run_in_which_the_kernel_killed_has_failed(kernel: Path, after: int, good: bool) -> None:
    given = resources(kernel)
    given.begin("run")
    (kernel / "proc/vmstat").write_text(f"oom_kill {after}\n")
    report = {"tests": [{"nodeid": "one", "outcome": "passed", "call": {}}]}
    document = documents.build_report(report, given.result({}))
    assert document["overall_success"] is good
    assert document.get("out_of_memory_kills") == (None if good else 2)
    assert ("the kernel ended 2 process(es)" in document["summary"]) is not good
    assert ("healthy" in document["summary"]) is good
    assert session._verdict(document) == (0 if good else 1)


def test_kills_in_our_own_cgroups_count_where_the_host_s_are_hidden(kernel: Path) -> None:
    (kernel / "proc/vmstat").write_text("nr_free_pages 3\n")
    assert memory.out_of_memory_kills() == 0
    group(kernel, "box", memory__events="oom 5\noom_kill 4\n")
    assert memory.out_of_memory_kills() == 4
