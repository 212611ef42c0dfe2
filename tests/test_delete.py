"""Disk and caches: measured as df does, cleaned the owner's way first, deleted without following
anything anywhere.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import gatework
import psutil
import pytest

from conftest import wait_for
from miyabi_healing.gate.handlers import delete
from miyabi_healing.gate.handlers.table import apply, recheck
from miyabi_healing.gate.primitives.context import Context, Refused
from miyabi_healing.host import caches, filesystems
from miyabi_healing.host.context import HealerContext
from miyabi_healing.host.readings import Host
from miyabi_healing.model.actions import Outcome
from miyabi_healing.model.config import Budgets, CacheSettings, Config, ConfigError, SafetySettings
from miyabi_healing.model.config import QuarantineSettings as Rules
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.plan import Plan
from miyabi_healing.model.steps import Delete, Purge, Quarantine, Run
from miyabi_healing.runner import registry
from miyabi_healing.state.run_clock import Moment
from miyabi_healing.support import command_errors, commands
from miyabi_healing.support.files import identity_at
from miyabi_healing.support.formatting import DAY

Tool = Callable[..., commands.Result]
Start = Callable[..., psutil.Popen]


def fill(folder: Path, number: int = 3, size: int = 1000) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for each in range(number):
        (folder / f"part {each}").write_bytes(b"x" * size)
    return folder


def context(home: Path) -> Context:
    config = Config(caches=CacheSettings(homes=(str(home),)))
    return Context(Host(config), "run", home.parent / "state", (home,))


def deletion(root: Path, **changes: object) -> Delete:
    device = root.stat().st_dev
    units = tuple(caches.measure_unit(path, device) for path in sorted(root.iterdir()))
    return Delete(target="", reason="", root=root, units=units, **changes)  # type: ignore[arg-type]


# Measuring


@pytest.mark.root
def test_percentages_are_those_of_df(mounted: Callable[..., Path]) -> None:
    point = mounted("ext4", "64M")
    fill(point / "data", 20, 1_000_000)
    found = filesystems.read_mount(str(point))

    def df(*options: str) -> list[str]:
        done = subprocess.run(
            ["df", *options, str(point)], capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()[1].split()

    for option, percent in (("-P", found.blocks_percent), ("-Pi", found.inodes_percent)):
        assert int(df(option)[4].rstrip("%")) == -(-percent // 1)  # df rounds up
    assert found.free == int(df("-P", "-B1")[3])


@pytest.mark.root
def test_out_of_inodes_is_full(mounted: Callable[..., Path]) -> None:
    point = mounted("tmpfs", "8M", options=",nr_inodes=50")
    for number in range(46):
        (point / str(number)).touch()
    found = filesystems.read_mount(str(point))
    assert found.percent > 90
    assert found.tight == "inodes"


def test_one_reading_for_each_device_and_a_clear_error_for_none(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert filesystems.mounts((str(tmp_path), str(tmp_path / "a"))) == (str(tmp_path),)
    assert filesystems.mounts(())[0] == "/"
    assert filesystems.mounts((str(tmp_path), str(tmp_path / "b"))) == (
        str(tmp_path),
        str(tmp_path / "b"),
    )
    with pytest.raises(ConfigError, match=r"disk\.mounts: .*b: no such folder"):
        filesystems.read_folder(str(tmp_path / "b"))


def test_caches_are_found_by_the_list_alone(home: Path) -> None:
    fill(home / ".npm" / "_cacache" / "content-v2")
    fill(home / ".cache" / "JetBrains" / "history")
    fill(home / ".m2" / "repository")
    found = {
        cache.name: cache.allowed for cache in caches.find_caches(CacheSettings(homes=(str(home),)))
    }
    assert found == {"npm": True, "maven": False}
    assert [
        cache.allowed
        for cache in caches.find_caches(CacheSettings(homes=(str(home),), also=("maven",)))
    ] == [True, True]


def test_linked_cache_is_told_not_followed(home: Path, tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere" / "thumbnails")
    (home / ".cache").symlink_to(tmp_path / "elsewhere")
    (home / ".npm").mkdir()
    (home / ".npm" / "_cacache").symlink_to(tmp_path / "elsewhere")
    assert all(cache.trouble for cache in caches.find_caches(CacheSettings(homes=(str(home),))))
    found = plan(home)
    assert found.steps == ()
    assert {kept.reason for kept in found.kept} == {"not followed"}


def test_hard_linked_files_free_nothing(tmp_path: Path) -> None:
    folder = fill(tmp_path / "cache", 2, 10_000)
    os.link(folder / "part 0", tmp_path / "also")
    assert (
        caches.measure_unit(folder, tmp_path.stat().st_dev).bytes
        == (folder / "part 1").stat().st_blocks * 512
    )


# Deleting


def test_deletes_what_was_measured_counts_it_and_lists_it(home: Path) -> None:
    root = fill(home / ".cache" / "thumbnails" / "large", 3, 10_000)
    os.mkfifo(root / "a fifo")
    (root / os.fsdecode(b"\xff\n")).write_text("x")
    (root / "deep" / "er").mkdir(parents=True)
    (root / "deep" / "er" / "file").write_text("x")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "s"))
    step = deletion(root)
    assert recheck(step, context(home)) is None
    done = apply(step, context(home))
    assert list(root.iterdir()) == []
    assert (done.details["files_deleted"], done.freed) == (7, 3 * 12288 + 2 * 4096)
    assert str(root / "part 0") in Path(str(done.details["manifest"])).read_text()


def test_links_inside_are_removed_not_followed(home: Path, tmp_path: Path) -> None:
    victim = fill(tmp_path / "victim")
    root = fill(home / ".cache" / "thumbnails")
    (root / "link").symlink_to(victim)
    apply(deletion(root), context(home))
    assert len(list(victim.iterdir())) == 3
    assert list(root.iterdir()) == []


@pytest.mark.root
def test_filesystem_mounted_inside_is_not_entered(home: Path) -> None:
    root = fill(home / ".cache" / "thumbnails")
    inside = root / "mounted"
    inside.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(inside)], check=True)
    try:
        (inside / "precious").write_text("x")
        done = apply(deletion(root), context(home))
        assert (inside / "precious").exists()
        assert "another filesystem" in str(done.details["not_deleted"])
        assert [path.name for path in root.iterdir()] == ["mounted"]
    finally:
        subprocess.run(["umount", str(inside)], check=True)


@pytest.mark.root
def test_immutable_file_is_told_and_the_rest_goes(mounted: Callable[..., Path]) -> None:
    home = mounted("ext4", "16M") / "home"
    root = fill(home / ".cache" / "thumbnails")
    subprocess.run(["chattr", "+i", str(root / "part 1")], check=True)
    try:
        done = apply(deletion(root), context(home))
    finally:
        subprocess.run(["chattr", "-i", str(root / "part 1")], check=True)
    assert [path.name for path in root.iterdir()] == ["part 1"]
    assert "not permitted" in str(done.details["not_deleted"])


@pytest.mark.parametrize("change", ["replaced", "written", "opened"])
def test_changed_or_used_unit_stays_and_the_others_go(
    home: Path, start: Start, change: str
) -> None:
    root = fill(home / ".cache" / "thumbnails")
    step, where = deletion(root), context(home)
    if change == "replaced":
        (root / "part 0").unlink()
        (root / "part 0").mkdir()
    elif change == "written":
        (root / "part 0").write_text("new")
    else:
        with (root / "part 0").open() as file:
            start("sleep", "100", stdin=file)
    assert recheck(step, where) is None
    done = apply(step, where)
    assert [path.name for path in root.iterdir()] == ["part 0"]
    assert "part 0" in str(done.details["not_deleted"])


def test_step_without_a_unit_that_may_go_is_refused(home: Path) -> None:
    root = fill(home / ".cache" / "thumbnails", 1)
    step = deletion(root)
    (root / "part 0").write_text("new")
    assert "changed since it was measured" in str(recheck(step, context(home)))
    (root / "part 0").unlink()
    assert recheck(step, context(home)) == "it is gone already"


def test_only_known_caches_and_named_folders_are_deleted_from(home: Path, tmp_path: Path) -> None:
    """Whatever a careless healer plans: a person's files are not deleted."""
    thesis = fill(home / "thesis")
    assert (
        recheck(deletion(thesis), context(home)) == "no known cache, and not in [safety] disposable"
    )
    downloads = fill(home / "Downloads")  # on the list of caches, to be set aside
    assert "holds a person's files" in str(recheck(deletion(downloads), context(home)))
    config = Config(
        caches=CacheSettings(homes=(str(home),)),
        safety=SafetySettings(disposable=(str(thesis), str(downloads))),
    )
    named = Context(Host(config), "run", tmp_path / "state", (home, home.parent))
    assert "holds a person's files" in str(recheck(deletion(downloads), named))
    assert "holds a person's files" in str(recheck(deletion(home), named))
    assert (
        recheck(deletion(thesis), Context(Host(config), "run", tmp_path / "state", (home,))) is None
    )
    cache = deletion(fill(home / ".cache" / "thumbnails"))
    assert recheck(cache, context(tmp_path / "elsewhere")) == "outside the allowed roots"


def test_two_at_a_time_delete_and_count_as_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for processors in (1, 2):
        monkeypatch.setattr(os, "cpu_count", lambda number=processors: number)
        for number in range(40):
            (tmp_path / "cache" / f"{number % 5}" / f"{number}").mkdir(parents=True)
            (tmp_path / "cache" / f"{number % 5}" / f"{number}" / "file").write_bytes(b"x" * 5000)
        tally, folder = delete.Tally(), os.open(tmp_path, os.O_RDONLY)
        delete.remove_name(folder, "cache", os.stat("cache", dir_fd=folder), tally)
        os.close(folder)
        assert (tally.files, tally.freed, tally.left) == (40, 40 * 8192, [])
        assert list(tmp_path.iterdir()) == []


def test_deleting_that_is_interrupted_stops_at_both_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    for number in range(200):
        (tmp_path / "cache" / f"{number:03}").mkdir(parents=True)
    real = os.rmdir

    def slow(name: str, **options: int) -> None:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        time.sleep(0.01)
        real(name, **options)

    monkeypatch.setattr(os, "rmdir", slow)
    threads, descriptors = threading.active_count(), len(os.listdir("/dev/fd"))
    folder = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(KeyboardInterrupt):
        delete.remove_name(folder, "cache", os.stat("cache", dir_fd=folder), delete.Tally())
    os.close(folder)
    assert (threading.active_count(), len(os.listdir("/dev/fd"))) == (threads, descriptors)
    assert len(list((tmp_path / "cache").iterdir())) > 150


def test_lock_of_the_owner_is_honoured(home: Path) -> None:
    root = fill(home / ".cargo" / "registry" / "cache")
    lock = home / ".cargo" / ".package-cache"
    lock.touch()
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Refused, match="locked by its owner"):
            apply(deletion(root, locks=(lock,)), context(home))
    apply(deletion(root, locks=(lock,)), context(home))
    assert list(root.iterdir()) == []


# Owners' tools


def test_tool_answers_fails_and_dies_and_is_told(tmp_path: Path) -> None:
    run: Tool = commands.run_program
    assert run(["echo", "hi"], time_limit=10, cwd=tmp_path).stdout == b"hi\n"
    failed = run(["sh", "-c", "echo first >&2; echo why >&2; exit 3"], time_limit=10, cwd=tmp_path)
    assert (failed.code, failed.complaint) == (3, "why")
    assert run(["sh", "-c", "kill -9 $$"], time_limit=10, cwd=tmp_path).code == -9
    assert run(["sh", "-c", "echo $LC_ALL; pwd"], time_limit=10, cwd=tmp_path).stdout.split() == [
        b"C",
        os.fsencode(tmp_path),
    ]
    assert (
        run(["cat"], time_limit=10, cwd=tmp_path, stdin=b"\0\xff" * 100_000).stdout
        == b"\0\xff" * 100_000
    )
    # nobody reads that
    assert run(["true"], time_limit=10, cwd=tmp_path, stdin=b"x" * 1_000_000).code == 0
    with pytest.raises(command_errors.ToolError, match="not installed"):
        run(["no-such-tool"], time_limit=1, cwd=tmp_path)


def test_time_limit_ends_a_tool_with_its_children(tmp_path: Path) -> None:
    run: Tool = commands.run_program
    mark = tmp_path / "pid"
    with pytest.raises(command_errors.ToolError, match=r"took longer than 0\.5 s"):
        run(["sh", "-c", f"sleep 98 & echo $! > '{mark}'; wait"], time_limit=0.5, cwd=tmp_path)
    pid = int(mark.read_text())
    wait_for(
        lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    )


@pytest.mark.root
def test_tool_runs_as_the_owner() -> None:
    run: Tool = commands.run_program
    assert run(["id", "-u"], time_limit=10, cwd=Path("/"), user=1).stdout == b"1\n"
    groups = run(["id", "-G"], time_limit=10, cwd=Path("/"), user=1).stdout.split()
    assert b"0" not in groups
    with pytest.raises(command_errors.ToolError, match="nobody has the user id"):
        run(["id"], time_limit=10, cwd=Path("/"), user=54321)


def test_tool_is_not_run_beside_its_own_kind(tmp_path: Path, start: Start) -> None:
    program = tmp_path / "npm"
    program.write_text("#!/bin/sh\nsleep 100\n")
    program.chmod(0o755)
    step = Run(target="", reason="", argv=("true",), time_limit=5, unless_running=("npm",))
    assert recheck(step, context(tmp_path)) is None
    start(str(program))
    wait_for(lambda: recheck(step, context(tmp_path)))
    assert "is running" in str(recheck(step, context(tmp_path)))


def test_failing_and_missing_tools_are_told(tmp_path: Path) -> None:
    with pytest.raises(command_errors.ToolError, match="ended with status 1"):
        apply(Run(target="", reason="", argv=("false",), time_limit=5), context(tmp_path))
    missing = Run(target="", reason="", argv=("no-such-tool",), time_limit=5)
    assert recheck(missing, context(tmp_path)) == "no-such-tool is not installed"


@pytest.mark.skipif(commands.find_program("npm") is None, reason="needs npm")
def test_real_npm_tidies_a_real_cache(home: Path) -> None:
    fill(home / ".npm" / "_cacache" / "content-v2" / "sha512" / "aa" / "bb")
    (cache,) = caches.find_caches(CacheSettings(homes=(str(home),)))
    done = apply(
        Run(target="", reason="", argv=cache.command(cache.kind.gentle), time_limit=60),
        context(home),
    )
    assert "Finished" in str(done.details["said"])


# The healer


def plan(home: Path, clear: float = 0, **options: float) -> Plan:
    healer, kind = registry.load_healer(
        "cleanup_disk", registry.builtin("healers") / "cleanup_disk.py"
    )
    assert kind is not None
    config = Config(caches=CacheSettings(homes=(str(home),)))
    view = HealerContext(Host(config), {"mount": filesystems.read_mount(str(home))})
    found = healer(
        view,
        Issue("disk_space_critical", str(home), "", 95, Limit(90, unit="%", clear_at=clear)),
        kind(**options),
    )
    assert isinstance(found, Plan)
    return found


def carry_out(found: Plan, home: Path, **budget: int) -> list[Outcome]:
    return gatework.carry_out(found, context(home), budgets=Budgets(**budget))  # type: ignore[arg-type]


@pytest.mark.root
def test_full_filesystem_is_cleaned_just_enough(mounted: Callable[..., Path]) -> None:
    home = mounted("ext4", "64M") / "home"
    (home / ".cache" / "thumbnails").mkdir(parents=True)
    (home / "thesis").write_text("precious")
    number = 0
    while filesystems.read_mount(str(home)).percent < 92:
        (home / ".cache" / "thumbnails" / str(number)).write_bytes(b"x" * 200_000)
        number += 1
    outcomes = carry_out(plan(home, clear=85, idle_minutes=0), home)
    assert 75 < filesystems.read_mount(str(home)).percent < 85
    assert {each.status for each in outcomes} == {"applied", "not needed"}
    assert (home / "thesis").read_text() == "precious"


def test_young_and_open_parts_stay(home: Path, start: Start) -> None:
    root = fill(home / ".cache" / "thumbnails")
    with (root / "part 0").open() as file:
        start("sleep", "100", stdin=file)
    wait_for(lambda: {"in use"} <= {kept.reason for kept in plan(home, idle_minutes=0).kept})
    (step,) = plan(home, idle_minutes=0).steps
    assert isinstance(step, Delete)
    assert [unit.path.name for unit in step.units] == ["part 1", "part 2"]
    assert {kept.reason: kept.detail for kept in plan(home).kept}["not idle"].startswith(
        "2 part(s)"
    )


def test_budget_of_files_is_the_gates(home: Path) -> None:
    fill(home / ".cache" / "thumbnails", 5)
    outcomes = carry_out(plan(home, idle_minutes=0), home, files=4)
    assert [(each.status, each.message) for each in outcomes] == [
        ("vetoed", "budget: 4 files a run")
    ]
    assert len(list((home / ".cache" / "thumbnails").iterdir())) == 5


def test_old_downloads_are_set_aside_last_and_free_nothing_yet(home: Path) -> None:
    fill(home / "Downloads", 2, 10_000)
    old = home / "Downloads" / "part 0"
    os.utime(old, (0, 0))
    # its ctime is of now, whatever its mtime says
    assert {kept.reason for kept in plan(home, move_downloads=True).kept} == {"recent"}
    (first, second) = plan(home, downloads_days=0, move_downloads=True).steps
    assert isinstance(first, Quarantine)
    assert (first.bytes, first.later) == (0, 12288)
    done = apply(first, context(home))
    assert not old.exists()
    thing = Path(str(done.undo["entry"])) / "thing"
    assert (thing.read_bytes(), thing.stat().st_mtime) == (b"x" * 10_000, 0)
    assert second.target.endswith("part 1")


def test_deleted_but_open_files_are_in_the_diagnosis(home: Path, start: Start) -> None:
    ghost = home / "ghost"
    ghost.write_bytes(b"x" * 50_000_000)
    with ghost.open() as file:
        process = start("sleep", "100", stdin=file)
    ghost.unlink()
    wait_for(lambda: any(row["pid"] == process.pid for row in rows(plan(home))))
    (row,) = (row for row in rows(plan(home)) if row["pid"] == process.pid)
    assert int(str(row["bytes"])) >= 50_000_000


def rows(found: Plan) -> list[dict[str, object]]:
    listed = found.details["deleted_but_open"]
    assert isinstance(listed, list)
    return listed


# Quarantine


@pytest.mark.root
def test_quarantine_is_on_the_filesystem_of_the_thing(
    home: Path, mounted: Callable[..., Path]
) -> None:
    other = mounted("ext4", "16M")
    thing = other / "folder" / "thing"
    fill(thing)
    step = Quarantine(target="", reason="", path=thing, identity=identity_at(thing))
    where = Context(Host(Config()), "run", home / "state", (other,))
    entry = Path(str(apply(step, where).undo["entry"]))
    assert entry.is_relative_to(other / ".miyabi-healing")
    assert len(list((entry / "thing").iterdir())) == 3
    assert (other / ".miyabi-healing").stat().st_mode & 0o777 == 0o700


def test_link_on_the_way_is_not_followed(home: Path, tmp_path: Path) -> None:
    fill(tmp_path / "victim")
    (home / "link").symlink_to(tmp_path / "victim")
    path = home / "link" / "part 0"
    step = Quarantine(target="", reason="", path=path, identity=identity_at(path))
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        apply(step, context(home))
    assert (tmp_path / "victim" / "part 0").exists()


def test_quarantine_somebody_else_prepared_is_not_used(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "quarantine").symlink_to(tmp_path / "trap")
    (tmp_path / "trap").mkdir(mode=0o777)
    from miyabi_healing.gate.primitives import quarantine_locations

    with pytest.raises(PermissionError, match="not a private folder of ours"):
        quarantine_locations.private_folder(state / "quarantine")
    (state / "open").mkdir()
    (state / "open").chmod(0o755)
    with pytest.raises(PermissionError, match="not a private folder of ours"):
        quarantine_locations.private_folder(state / "open")


def test_quarantine_is_purged_before_its_time_only_where_the_configuration_lets_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Last of all, the oldest first, and only what is older than that by both clocks."""
    state = home / ".local" / "state" / "miyabi-healing"
    seen, now = 50 * DAY, time.time()
    for days, by_runs, name in (
        (10, 9, "older"),
        (8, 8, "old"),
        (1, 9, "young"),
        (10, 1, "unseen"),
        (-99, 20, "future"),
    ):
        where = Context(
            Host(Config()),
            "run",
            state,
            (home,),
            now=Moment(now, now, seen - by_runs * DAY, "clock"),
        )
        (home / name).write_text("x")
        step = Quarantine(target="", reason="", path=home / name, identity=identity_at(home / name))
        folder = Path(str(apply(step, where).undo["entry"]))
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**manifest, "time": now - days * DAY}))

    def early(days: float | None) -> list[str]:
        config = Config(caches=CacheSettings(homes=(str(home),)), quarantine=Rules(early_days=days))
        healer, kind = registry.load_healer(
            "cleanup_disk", registry.builtin("healers") / "cleanup_disk.py"
        )
        assert kind is not None
        view = HealerContext(
            Host(config),
            {"mount": filesystems.read_mount(str(home))},
            lambda: Moment(now, now, seen, "clock"),
        )
        steps = healer(view, Issue("disk_space_critical", "", "", 99, Limit(90)), kind()).steps
        return [each.reason.rsplit("/", 1)[1] for each in steps if isinstance(each, Purge)]

    assert early(None) == []
    assert early(7) == ["future", "older", "old"]
