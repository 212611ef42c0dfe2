"""What accounts for a growth: real writers on a real filesystem, whose truth is known."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import growth
import psutil
import pytest
from orphanwork import Nursery
from orphanwork import host as orphan_host
from orphanwork import nursery as nursery
from program import report, run, settings

from conftest import wait_for
from miyabi_healing.host.filesystems import read_mount
from miyabi_healing.host.git.locks import Lock
from miyabi_healing.host.logs import read_log_group
from miyabi_healing.host.look import folders, mount_look, writers
from miyabi_healing.host.look.bound import Bound
from miyabi_healing.host.look.folders import FolderScan
from miyabi_healing.host.look.kills import Kill, kill_of
from miyabi_healing.host.look.log_look import CLOCK_STEP, look_at_logs
from miyabi_healing.host.look.memory_look import look_at_memory
from miyabi_healing.host.memory import Memory
from miyabi_healing.host.processes import Processes
from miyabi_healing.host.readings import Host
from miyabi_healing.host.space.places import Places
from miyabi_healing.model.actions import ActionResult, Outcome, StepStatus
from miyabi_healing.model.because import Because
from miyabi_healing.model.config import CacheSettings, Config
from miyabi_healing.model.identity import Identity
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.look import FolderLook, Look, MountLook, OpenLook, WriterLook
from miyabi_healing.model.results import CheckResult
from miyabi_healing.model.steps import Delete
from miyabi_healing.report.reasons import causes, reasons
from miyabi_healing.report.shares import Growth, Part, memory_growth, mount_growth
from miyabi_healing.runner import simple_reasons
from miyabi_healing.runner.diagnosis import Diagnosis
from miyabi_healing.state import looks
from miyabi_healing.state.journal import Journal

Mounted = Callable[..., Path]
Start = Callable[..., psutil.Popen]
CLOSE = 0.03  # of the truth


def shares(found: Growth) -> dict[str, float]:
    return {each.path: each.bytes / found.total for each in found.named}


@pytest.mark.root
def test_three_writers_have_their_true_shares_and_are_named(mounted: Mounted) -> None:
    disk = mounted("ext4", "128M")
    config = growth.world(disk)
    cache, log = disk / "home/.cache/huggingface/hub", disk / "logs" / "app.log"
    with contextlib.ExitStack() as stack:
        deleted = stack.enter_context(growth.writer("deleted", disk / "tmp" / "x", 10_000_000))
        before = growth.first(disk, config)
        blobs = stack.enter_context(growth.writer("cache", cache, 15_000_000))
        lines = stack.enter_context(growth.writer("log", log, 6_000_000))  # opened since
        for each in (deleted, blobs, lines):
            growth.write(each)
        found = growth.growth(disk, config, before)
        truth = {str(cache): 15 / 31, str(disk / "tmp" / "x"): 10 / 31, str(log): 6 / 31}
        assert shares(found) == pytest.approx(truth, abs=CLOSE)
        assert abs(found.unexplained) < CLOSE
        by_kind = {each.kind: each for each in found.named}
        assert by_kind["deleted"].pid == deleted.pid
        assert by_kind["in place"].pid == lines.pid
        assert by_kind["new files"].what == "the cache of huggingface"
        rows = reasons(found)
    assert [each.what for each in rows][-1] == "unexplained"
    assert sum(each.share or 0 for each in rows) == pytest.approx(1, abs=0.001)
    assert next(each for each in rows if each.deleted).command.startswith("ls -l /proc/")


@pytest.mark.root
def test_what_writers_that_have_ended_left_is_found_all_the_same(mounted: Mounted) -> None:
    disk = mounted("ext4", "64M")
    config = growth.world(disk)
    before = growth.first(disk, config)
    for kind, where, size in (
        ("cache", disk / "src" / "a", 6_000_000),
        ("lines", disk / "logs" / "app.log", 4_000_000),  # its folder's time does not change
    ):
        with growth.writer(kind, where, size) as process:
            growth.write(process)
    found = growth.growth(disk, config, before)
    assert shares(found) == pytest.approx(
        {str(disk / "src" / "a"): 0.6, str(disk / "logs"): 0.4}, abs=CLOSE
    )


@pytest.mark.root
def test_open_file_that_somebody_else_has_written_to_is_not_called_new(mounted: Mounted) -> None:
    disk = mounted("ext4", "64M")
    config = growth.world(disk)
    log = disk / "logs" / "app.log"
    with log.open("ab"), growth.writer("log", log, 1_000_000) as idle:
        growth.write(idle)
        before = growth.first(disk, config)
        assert log.stat().st_ino in {each.inode for each in before.files}
        with growth.writer("lines", log, 4_000_000) as ended:
            growth.write(ended)
        found = growth.growth(disk, config, before)
    assert shares(found) == pytest.approx({str(log.parent): 1}, abs=CLOSE)
    assert [each.kind for each in found.named] == ["files"]


@pytest.mark.root
def test_old_file_that_grew_and_new_one_that_is_open_are_counted_once(mounted: Mounted) -> None:
    disk = mounted("ext4", "64M")
    config = growth.world(disk)
    before = growth.first(disk, config)
    before = replace(before, time=before.time + 0.02)  # what was made just before is older
    old, new = disk / "src" / "a" / "b" / "old", disk / "tmp" / "new"
    with growth.writer("lines", old, 4_000_000) as ended:  # its folder's time does not change
        growth.write(ended)
    with growth.writer("log", new, 6_000_000) as process:
        growth.write(process)
        found = growth.growth(disk, config, before)
    assert shares(found) == pytest.approx({str(old.parent): 0.4, str(new): 0.6}, abs=CLOSE)
    assert found.named[0].pid == process.pid
    assert abs(found.unexplained) < CLOSE


@pytest.mark.root
def test_what_was_removed_meanwhile_is_no_growth_of_others(mounted: Mounted) -> None:
    disk = mounted("ext4", "64M")
    config = growth.world(disk)
    before = growth.first(disk, config)
    (disk / "src" / "a" / "b" / "old").unlink()
    (disk / "tmp" / "new").write_bytes(os.urandom(8_000_000))
    found = growth.growth(disk, config, before)
    assert found.total == pytest.approx(7_000_000, rel=CLOSE)
    assert abs(found.unexplained) < CLOSE


@pytest.mark.root
def test_second_link_of_an_old_file_is_nothing_new(mounted: Mounted) -> None:
    disk = mounted("ext4", "64M")
    config = growth.world(disk)
    before = growth.first(disk, config)
    before = replace(before, folders=(), time=before.time + 0.01)
    (disk / "tmp" / "link").hardlink_to(disk / "src" / "a" / "b" / "old")
    os.utime(disk / "logs" / "app.log")
    (disk / "logs" / "app.log").rename(disk / "tmp" / "app.log")
    after = growth.look(disk, config, before)
    assert sum(each.fresh for each in after.folders) == 0
    (disk / "tmp" / "new").write_bytes(os.urandom(2_000_000))
    (disk / "logs" / "new").hardlink_to(disk / "tmp" / "new")
    after = growth.look(disk, config, before)
    assert sum(each.fresh for each in after.folders) == pytest.approx(2_000_000, rel=CLOSE)


@pytest.mark.root
def test_what_a_look_may_take_is_bounded_and_said(mounted: Mounted) -> None:
    disk = mounted("ext4", "64M")
    config = growth.world(disk)
    before = growth.first(disk, config)
    for number in range(200):
        (disk / "tmp" / str(number)).write_bytes(b"x" * 20_000)
    bound = Bound(cpu=10, entries=100)
    after = mount_look.look_at_mount(str(disk), config, before, bound)
    assert after.partial == "more than 100 entries"
    (said,) = reasons(mount_growth(before, after))
    assert said.grade == "went together"
    assert said.share is None
    assert "not fully looked at: more than 100 entries" in said.text
    spent = Bound(cpu=0)
    mount_look.look_at_mount(str(disk), config, before, spent)
    assert spent.reached


@pytest.mark.root
def test_folder_that_is_too_large_to_be_listed_says_what_was_seen_of_it(mounted: Mounted) -> None:
    disk = mounted("ext4", "64M")
    config = growth.world(disk)
    (disk / "tmp" / "old").write_bytes(os.urandom(2_000_000))
    before = growth.first(disk, config)
    for number in range(300):
        (disk / "tmp" / str(number)).write_bytes(b"x" * 40_000)
    seen = mount_look.look_at_mount(str(disk), config, before, Bound(cpu=10, entries=250))
    (part,) = mount_growth(before, seen).named
    assert part.path == str(disk / "tmp")
    (tmp,) = [each for each in seen.folders if each.path == part.path]
    assert (tmp.inode, tmp.fresh) == (0, part.bytes)
    assert 0 < part.bytes < 300 * 46_000


@pytest.mark.root
def test_folder_that_cannot_be_read_or_has_gone_fails_nothing(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = mounted("ext4", "64M")
    config = growth.world(disk)
    real, shut = os.scandir, str(disk / "tmp")

    def scan(path: str) -> object:
        if path == shut:
            raise PermissionError(13, "Permission denied", path)
        if path == str(disk / "src" / "a"):
            shutil.rmtree(path)
        return real(path)

    before = growth.first(disk, config)
    for name in ("tmp", "src/a"):
        (disk / name / "new").write_bytes(os.urandom(2_000_000))
    monkeypatch.setattr(os, "scandir", scan)
    assert growth.look(disk, config, before).partial == f"{shut} could not be read"


def test_logs_that_grew_are_named_with_who_writes_them(tmp_path: Path) -> None:
    for name in ("a.log", "b.log"):
        (tmp_path / name).write_bytes(b"a line of text\n" * 70_000)
    made = time.time()
    wait_for(lambda: time.time() > made + 2 * CLOCK_STEP)  # what is no older counts as new
    pattern = f"{tmp_path}/*.log"
    before = look_at_logs(read_log_group(pattern), None, Bound(cpu=10))
    born = max(each.stat().st_mtime for each in tmp_path.iterdir())
    before = replace(before, time=min(before.time, born + 0.005))  # however slow the machine is
    with growth.writer("log", tmp_path / "a.log", 3_000_000) as process:
        growth.write(process)
        (tmp_path / "b.log").write_bytes(b"a line of text\n" * 140_000)
        after = look_at_logs(read_log_group(pattern), before, Bound(cpu=10))
    found = mount_growth(before, after)
    assert [(each.path, each.pid) for each in found.named] == [
        (str(tmp_path / "a.log"), process.pid),
        (str(tmp_path / "b.log"), None),
    ]
    assert shares(found) == pytest.approx(
        {str(tmp_path / "a.log"): 0.75, str(tmp_path / "b.log"): 0.25}, abs=CLOSE
    )


# Without a filesystem


def mount(used: int, **more: object) -> MountLook:
    return MountLook(path="/d", device=1, time=1000 + used / 100, used=used, size=10**6, **more)  # type: ignore[arg-type]


def folder(path: str, fresh: int, **more: object) -> FolderLook:
    values = {"inode": 1, "mtime": 0, "bytes": fresh, "files": 1, "fresh": fresh, **more}
    return FolderLook(path=path, **values)  # type: ignore[arg-type]


def test_nothing_is_said_where_too_much_is_unexplained() -> None:
    for explained, said in ((590, False), (610, True)):
        after = mount(1000, folders=(folder("/d/a", explained),))
        assert bool(reasons(mount_growth(mount(0), after))) == said
    much = mount(1000, folders=(folder("/d/a", 1500),))
    assert reasons(mount_growth(mount(0), much)) == ()


def test_small_parts_are_together_with_what_lies_beside_them_or_not_named() -> None:
    many = tuple(folder(f"/d/p/q/{each}", 80) for each in range(5))
    after = mount(1000, folders=(*many, folder("/d/r", 520), folder("/d/s", 50)))
    found = reasons(mount_growth(mount(0), after))
    assert [(each.what, each.share) for each in found] == [
        ("/d/r", 0.52),
        ("/d/p/q", 0.4),
        ("other", 0.05),
        ("unexplained", 0.03),
    ]
    assert causes(found)[-2:] == (found[0].text, found[1].text)


def test_file_that_a_process_has_open_is_no_part_of_its_folder_as_well() -> None:
    file = OpenLook(
        pid=7, start=1, program="app", unit="", inode=9, path="/d/l/a", bytes=100, deleted=False
    )
    before = mount(0, folders=(folder("/d/l", 0, bytes=100),), files=(file,))
    after = mount(
        1000,
        folders=(folder("/d/l", 0, bytes=1100, attributed=1000),),
        files=(replace(file, bytes=1100),),
    )
    assert [(each.path, each.bytes) for each in mount_growth(before, after).parts] == [
        ("/d/l/a", 1000)
    ]
    lost = mount(
        1000, folders=(folder("/d/l", 0),), files=(replace(file, bytes=1100, deleted=True),)
    )
    assert sum(each.bytes for each in mount_growth(before, lost).parts) == 1000


def test_deleted_file_has_no_more_than_its_process_wrote() -> None:
    """Of one that was not looked at before, how large it was then is not known."""
    file = OpenLook(
        pid=7, start=1, program="app", unit="", inode=9, path="/d/x", bytes=9000, deleted=True,
        length=8000,
    )  # fmt: skip
    assert mount_growth(mount(0), mount(1000, files=(file,))).parts == ()
    one = WriterLook(pid=7, start=1, uid=0, program="app", unit="", written=700)
    for written, growth_of_it in ((700, 700), (8000, 9000)):
        after = mount(1000, files=(file,), writers=(replace(one, written=written),))
        assert [each.bytes for each in mount_growth(mount(0), after).parts] == [growth_of_it]


def test_file_has_the_process_that_has_it_open_and_no_other_that_wrote_as_much() -> None:
    file = OpenLook(
        pid=7, start=1, program="app", unit="", inode=9, path="/d/l/a", bytes=1000, deleted=False
    )
    writers = tuple(
        WriterLook(pid=pid, start=1, uid=0, program="app", unit="", written=written)
        for pid, written in ((7, 2000), (8, 1000))
    )
    before = mount(0, folders=(folder("/d/l", 0),))
    after = mount(1000, folders=(folder("/d/l", 0, bytes=1000),), files=(file,), writers=writers)
    assert [(each.path, each.pid) for each in mount_growth(before, after).parts] == [("/d/l/a", 7)]
    alone = mount(1000, folders=(folder("/d/c", 1000),), writers=writers)
    assert [each.pid for each in mount_growth(mount(0), alone).parts] == [8]


# Memory


@pytest.fixture
def group() -> Iterator[Path]:
    """A memory cgroup of the test's own (v1); what is in it has to have ended before it goes."""
    top = Path("/sys/fs/cgroup/memory")
    folder = top / f"miyabi-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here: {error}")
    yield folder
    wait_for(lambda: not subprocess.run(["rmdir", str(folder)], capture_output=True).returncode)


EATER = """
import sys
held = [bytes(1) * int(sys.argv[2])]
open(sys.argv[1] + "/cgroup.procs", "w").write("0")
print(flush=True)
for line in sys.stdin:
    held.append(b"x" * int(line))
    print(flush=True)
"""


@pytest.mark.root
def test_memory_has_its_growth_by_program(group: Path, start: Start) -> None:
    def reading() -> Memory:
        used = int((group / "memory.usage_in_bytes").read_text())
        return Memory(50, 10**9, 10**9 - used, str(group))

    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    eaters = [start(sys.executable, "-c", EATER, str(group), "0", **pipes) for _ in range(2)]
    for each in eaters:
        each.stdout.readline()
    before = look_at_memory(reading(), Bound(cpu=10))
    for each, size in zip(eaters, (30_000_000, 10_000_000), strict=True):
        each.stdin.write(f"{size}\n")
        each.stdin.flush()
        each.stdout.readline()
    after = look_at_memory(reading(), Bound(cpu=10))
    (part,) = memory_growth(before, after).named
    assert (part.count, part.pid) == (2, eaters[0].pid)
    assert part.bytes == pytest.approx(40_000_000, rel=CLOSE)
    assert abs(memory_growth(before, after).unexplained) < 0.1


# What comes just before. That the kernel's own words are understood, with a git that it has really
# ended, is shown by `benchmarks.growth`: the host counts such ends, and other tests' runs ask.


def test_of_several_ends_the_nearest_counts() -> None:
    kills = [Kill(at, pid, 5, "git", "/") for at, pid in ((998.5, 1), (1000.4, 2), (1090, 3))]
    assert [each.pid for each in simple_reasons.of_locks([lock()], kills)] == [2]


def test_line_of_the_kernels_log_is_read() -> None:
    line = (
        b"6,41,81380519976,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,"
        b"mems_allowed=0,oom_memcg=/b,task_memcg=/b/c,task=git, or so,pid=77,uid=5\n"
        b" SUBSYSTEM=x\n"
    )
    assert kill_of(line, 1000) == Kill(82380.519976, 77, 5, "git, or so", "/b/c")
    assert kill_of(b"6,41,81380519976,-;git: oom-kill:task=git,pid=77,uid=5\n", 1000) is None


def lock(**more: object) -> Lock:
    values = {"path": Path("/r/.git/index.lock"), "identity": Identity(1, 2, 0, 0, 0)}
    times = {"mtime": 1000.0, "ctime": 1000.0, "owner": 5}
    return Lock(**{**values, **times, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kill", "said"),
    [
        (Kill(1003, 77, 5, "git", "/build"), True),
        (Kill(1003, 77, 5, "git-pack-objects", "/"), True),
        (Kill(1003, 77, 6, "git", "/"), False),
        (Kill(1003, 77, 5, "gitlab-runner", "/"), False),
        (Kill(2000, 77, 5, "git", "/"), False),
        (Kill(990, 77, 5, "git", "/"), False),
    ],
)
def test_lock_after_a_kill_needs_the_order_and_the_identity(kill: Kill, said: bool) -> None:
    found = simple_reasons.of_locks([lock()], [kill])
    assert [(each.grade, each.pid) for each in found] == (
        [("came just before", 77)] if said else []
    )


@pytest.mark.usefixtures("only_zombies")
def test_zombies_are_told_by_their_parents(start: Start) -> None:
    code = (
        "import os, time\nfor _ in range(3):\n    if os.fork() == 0:\n        os._exit(0)\n"
        "print(flush=True)\ntime.sleep(600)\n"
    )
    parent = start(sys.executable, "-c", code, stdout=subprocess.PIPE)
    parent.stdout.readline()
    wait_for(lambda: sum(each.ppid == parent.pid for each in Processes().zombies(0)) == 3)
    found = {each.pid: each for each in simple_reasons.of_zombies(Processes())}
    assert f"(pid {parent.pid}): 3 of " in found[parent.pid].text


def test_orphans_are_told_by_program_and_what_each_takes(nursery: Nursery) -> None:
    for _ in range(3):
        nursery.orphan("playwright-mcp", 30)
    for _ in range(2):
        nursery.orphan("other-mcp", 15)
    found = simple_reasons.of_orphans(orphan_host().orphans())
    assert [each.what for each in found] == ["3 × playwright-mcp", "2 × other-mcp"]
    assert sum(each.share or 0 for each in found) == pytest.approx(1, abs=0.001)
    assert found[0].share == pytest.approx(0.7, abs=0.06)


@pytest.mark.root
def test_look_for_what_is_foreseen_is_what_the_next_run_compares_with(
    mounted: Mounted, tmp_path: Path
) -> None:
    disk = mounted("ext4", "64M")
    host = Host(growth.world(disk))
    journal = Journal(tmp_path / "journal")

    def foreseen(number: int) -> tuple[str, ...]:
        notes: list[str] = []
        run = Diagnosis(host, lambda: journal, notes.append, left=10)
        found = run.foreseen("disk_space_critical", str(disk))
        run.keep(journal, number, [], 0)
        assert (notes, run.foreseen("worktree_space", "")) == ([], ())
        return found

    assert foreseen(1) == ()
    (disk / "src" / "a" / "new").write_bytes(os.urandom(3_000_000))
    most, said = foreseen(2)
    assert most == f"{disk}/src/a"
    assert said.startswith(f"new files in {disk}/src/a: 3.0 MB, 100 % of the growth of 3.0 MB in ")
    journal.database.close()


# On record


def test_looks_are_stored_bounded_and_a_damaged_one_is_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    because = Because(grade="accounts for", what="a", share=0.5, text="a grew", path="/d/a")
    for number in range(looks.MOST + 5):
        found = (("disk", "/d", (because,)),)
        looks.store_look(journal, number, Look(boot="x", mounts=(mount(number),), because=found))
    journal.write("update look set record = ? where pass = ?", (b"damaged", looks.MOST + 4))
    assert len(journal.all("select pass from look")) == looks.MOST
    assert [each.mounts[0].used for each in looks.looks(journal)][:2] == [
        looks.MOST + 3,
        looks.MOST + 2,
    ]
    assert looks.causes_of(journal, "disk", "/d") == (because,)
    assert looks.causes_of(journal, "disk", "/e") == ()
    assert [each for *_, each in looks.causes_with(journal, "/d/a/b")] == [because]
    assert list(looks.causes_with(journal, "/d/ab")) == []
    journal.database.close()


def test_process_with_very_many_open_files_is_not_listed_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a million descriptors cost nobody anything but who lists them all."""
    listed = os.listdir
    monkeypatch.setattr(
        os, "listdir", lambda path: pytest.fail(path) if "/fd" in str(path) else listed(path)
    )
    bound = Bound(cpu=10)
    with growth.writer("log", tmp_path / "a.log", 4000) as process:
        growth.write(process)
        found = writers.read_writers(os.stat(tmp_path).st_dev, None, {}, bound)
    assert process.pid in {each.pid for each in found.processes}


def test_name_that_is_no_utf_8_loses_no_look(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    path = os.fsdecode(b"/d/\xe9t\xe9")
    folder = FolderLook(path=path, inode=1, mtime=2, bytes=3, files=4)
    record = Look(boot="x", mounts=(replace(mount(1), folders=(folder,)),))
    looks.store_look(journal, 1, record)
    assert list(looks.looks(journal)) == [record]
    journal.database.close()


def test_folder_below_something_that_is_mounted_is_not_even_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount that does not answer would keep who asks waiting for ever."""
    (tmp_path / "dead" / "home" / "cache").mkdir(parents=True)
    (tmp_path / "alive").mkdir()
    row = replace(next(iter(folders.mount_table())), path=str(tmp_path / "dead"))
    monkeypatch.setattr(folders, "mount_table", lambda: [row])
    asked: list[str] = []
    lstat = os.lstat
    monkeypatch.setattr(os, "lstat", lambda path: (asked.append(str(path)), lstat(path))[1])
    top, places = str(tmp_path), Places(CacheSettings(homes=()))
    earlier = folders.Earlier(listed=(f"{top}/dead/home", f"{top}/alive"))
    scan = FolderScan(top, os.stat(top).st_dev, 0, earlier, places, Bound(cpu=10))
    scan.look([f"{top}/dead/home/cache"], [f"{top}/dead/home/cache"], top)
    assert f"{top}/alive" in scan.found
    assert [each for each in asked if each.startswith(f"{top}/dead")] == []


@pytest.mark.parametrize(
    ("group", "unit", "command"),
    [
        ("/system.slice/app.service", "app.service", "systemctl restart app.service"),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/sshd.service",
            "sshd.service of uid 1000",
            "ls -l /proc/7/fd/3",
        ),
    ],
)
def test_unit_of_a_user_is_not_taken_for_one_of_the_system(
    group: str, unit: str, command: str
) -> None:
    """Who names one sshd.service would have its namesake restarted by root."""
    assert writers.unit_name({"": group}) == unit
    part = Part(kind="deleted", path="/d/x", bytes=10, pid=7, unit=unit, descriptor=3)
    (found, _) = reasons(Growth(total=10, seconds=1, parts=(part,)))
    assert found.command == command


def test_where_nothing_has_grown_nothing_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "journal")
    config = Config(caches=CacheSettings(homes=(str(tmp_path),)))
    fixtures = {"mount": read_mount(str(tmp_path))}
    issue = Issue("disk_space_critical", str(tmp_path), "", 95, Limit(90, unit="%"))
    used = 50 << 20
    monkeypatch.setattr(mount_look, "used_of", lambda path: (used, 1 << 30))
    monkeypatch.setattr(mount_look, "FolderScan", NoScan)
    counted = []
    for number, now in enumerate((50 << 20, 50 << 20, 80 << 20, 80 << 20, 20 << 20)):
        used = now
        notes: list[str] = []
        found = Diagnosis(Host(config), lambda: journal, notes.append)
        found.explained(issue, fixtures)
        found.keep(journal, number, [], 0)
        assert notes == []
        counted.append(len(found.mounts))
    assert counted == [1, 0, 1, 0, 1]
    assert [each.mounts[0].used >> 20 for each in looks.looks(journal)] == [20, 80, 50]
    journal.database.close()


@pytest.mark.parametrize("status", [StepStatus.APPLIED, StepStatus.PLANNED])
def test_what_was_seen_before_an_early_repair_explains_nothing_after_it(
    tmp_path: Path, status: StepStatus
) -> None:
    journal = Journal(tmp_path / "journal")
    issue = Issue("disk_space_critical", str(tmp_path), "", 88, Limit(90, unit="%"), foreseen=True)
    step = Delete(target="x", reason="", root=tmp_path, units=())
    early = ActionResult("cleanup_disk", issue, outcomes=[Outcome(step, status)])
    record = CheckResult(issue.name, issue.target, issue.limit, early=early)
    found = Diagnosis(Host(Config()), lambda: journal, pytest.fail, left=0.01)
    found.explained(issue, {"mount": read_mount(str(tmp_path))})
    found.keep(journal, 1, [record], 0)
    (look,) = looks.looks(journal)
    assert look.repaired is (status == StepStatus.APPLIED)
    # nor where the run had no reason to look
    Diagnosis(Host(Config()), lambda: journal, pytest.fail).keep(journal, 2, [record], 0)
    assert len(list(looks.looks(journal))) == (2 if look.repaired else 1)
    journal.database.close()


class NoScan:
    """Finds nothing."""

    def __init__(self, *arguments: object) -> None:
        self.found: dict[str, FolderLook] = {}
        self.unread: list[str] = []

    def look(self, *arguments: object) -> None:
        pass


def test_what_goes_wrong_on_the_way_is_a_note_and_fails_nothing(tmp_path: Path) -> None:
    def broken() -> Journal:
        raise OSError(5, "Input/output error")

    notes: list[str] = []
    found = Diagnosis(Host(Config()), broken, notes.append)
    issue = Issue("disk_space_critical", str(tmp_path), "", 95, Limit(90, unit="%"))
    assert found.explained(issue, {"mount": read_mount(str(tmp_path))}) == issue
    assert notes == ["what grows was not fully looked at: OSError: [Errno 5] Input/output error"]


@pytest.mark.root
def test_run_says_why_and_one_in_which_nothing_grew_looks_at_nothing(
    home: Path, mounted: Mounted
) -> None:
    disk = mounted("ext4", "64M")
    growth.world(disk)
    text = (
        f'[disk]\nmounts = ["{disk}"]\n[caches]\nhomes = ["{disk}/home"]\n'
        'never = ["journald", "docker-build"]\n[checks.disk_space_critical]\nthreshold = 1\n'
    )
    where = ("--config", settings(home, f"{text}[healers.cleanup_disk]\nenabled = false\n"))
    _, document = report(*where)
    assert "because" not in document["issues_detected"][0]
    with growth.writer("deleted", disk / "tmp" / "x", 5_000_000) as process:
        growth.write(process)
        (disk / "tmp" / "new").write_bytes(os.urandom(5_000_000))
        _, document = report(*where)
        rows = document["issues_detected"][0]["because"]
        assert [row["what"] for row in rows] == [f"{disk}/tmp/x", f"{disk}/tmp", "unexplained"] or [
            row["what"] for row in rows
        ] == [f"{disk}/tmp", f"{disk}/tmp/x", "unexplained"]
        assert {row["what"]: row.get("pid") for row in rows}[f"{disk}/tmp/x"] == process.pid
        _, again = report("--config", settings(home, text), "--dry-run")
    assert again["issues_detected"][0]["because"] == rows
    told = [each for each in again["actions_taken"][0]["kept"] if each["decide"]]
    assert [each["reason"] for each in told][-1] == "deleted but open"
    assert told[-1]["command"].startswith(f"ls -l /proc/{process.pid}/fd/")
    database = next(home.rglob("journal.sqlite3"))
    journal = Journal(database, read_only=True)
    assert len(list(looks.looks(journal))) == 2
    journal.database.close()
    assert (
        f"  Part of what grew (disk_space_critical {disk}): new files in "
        in run(*where, "why", str(disk / "tmp" / "new")).stdout
    )
