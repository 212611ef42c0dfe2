"""What comes back on real filesystems when things on them are deleted; what is one filesystem."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from program import report, settings
from test_delete import carry_out, fill, plan

from miyabi_healing.gate.primitives.room import came_back
from miyabi_healing.host import filesystems
from miyabi_healing.host.context import HealerContext
from miyabi_healing.host.readings import Host
from miyabi_healing.model.actions import ActionResult
from miyabi_healing.model.config import CacheSettings, Config
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.report import wording
from miyabi_healing.runner import registry
from miyabi_healing.support.flush import flush_filesystem
from miyabi_healing.support.mount_table import parse_mount

Mounted = Callable[..., Path]
SIZES = {"ext4": "64M", "btrfs": "160M", "xfs": "320M", "tmpfs": "64M"}


def run(*argv: object) -> None:
    done = subprocess.run([str(each) for each in argv], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def filled(home: Path, megabytes: int = 12) -> Path:
    root = home / ".cache/thumbnails"
    root.mkdir(parents=True)
    for number in range(megabytes):
        (root / str(number)).write_bytes(os.urandom(1_000_000))
    flush_filesystem(root, 10)
    return root


@pytest.mark.root
@pytest.mark.parametrize("kind", SIZES)
def test_no_more_is_deleted_than_has_to_be_on_any_filesystem(mounted: Mounted, kind: str) -> None:
    """btrfs and xfs free late: asked at once they say that nothing came back."""
    home = mounted(kind, SIZES[kind]) / "home"
    root = filled(home)
    before = filesystems.read_mount(str(home))
    share = 100 * 12_000_000 / before.size
    planned = plan(home, clear=before.blocks_percent - share / 3, idle_minutes=0)
    outcomes = carry_out(planned, home)
    assert not any(each.stop for each in outcomes)
    assert {each.status for each in outcomes} == {"applied", "not needed"}
    assert 1 <= len(list(root.iterdir())) < 12
    assert all(each.freed == each.step.bytes for each in outcomes if each.status == "applied")


@pytest.mark.root
def test_deleting_stops_where_a_snapshot_holds_it_all(mounted: Mounted) -> None:
    disk = mounted("btrfs", SIZES["btrfs"])
    run("btrfs", "subvolume", "create", disk / "home")
    root = filled(disk / "home")
    run("btrfs", "subvolume", "snapshot", "-r", disk / "home", disk / "snapshot")
    planned = plan(disk / "home", idle_minutes=0)
    first, *others = carry_out(planned, disk / "home")
    assert first.status == "applied"
    assert "no room came back: snapshots probably hold them" in first.message
    assert first.freed < first.step.bytes / 10
    assert others
    said = "an earlier step ended the plan"
    assert {(each.status, each.message) for each in others} == {("vetoed", said)}
    told = ActionResult("x", Issue("x", "", "", 9, Limit(1)), planned, [first, *others])
    assert told.counts["caches_cleaned"] == 0
    assert first.stop in wording.message(told, dry_run=False)
    assert list(root.iterdir())


@pytest.mark.parametrize(
    ("gone", "gain", "freed"),
    [
        (10_000_000, 9_000_000, 10_000_000),  # others write as well
        (10_000_000, 3_000_000, 3_000_000),  # snapshots or copies have the rest
        (10_000_000, -5_000_000, 0),
        (400_000, 0, 400_000),  # too little to be told from what others write
    ],
)
def test_what_most_of_it_stays_of_counts_by_the_filesystem(
    gone: int, gain: int, freed: int
) -> None:
    assert came_back(gone, gain) == freed


@pytest.mark.root
def test_deleting_stops_where_copies_share_the_blocks(mounted: Mounted) -> None:
    disk = mounted("xfs", SIZES["xfs"])
    root = filled(disk / "home")
    done = subprocess.run(["cp", "-r", "--reflink=always", root, disk / "copy"])
    if done.returncode:
        pytest.skip("this xfs has no shared blocks")
    flush_filesystem(root, 10)
    first, *others = carry_out(plan(disk / "home", idle_minutes=0), disk / "home")
    assert "copies that share their blocks" in first.stop
    assert {each.status for each in others} == {"vetoed"}


@pytest.mark.root
def test_tool_after_which_no_room_came_back_ends_the_plan(
    mounted: Mounted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_cache_ways import tool

    from miyabi_healing.host.cache_owners import CacheOwners

    monkeypatch.setattr(CacheOwners, "of", lambda self, cache: None)
    disk = mounted("btrfs", SIZES["btrfs"])
    run("btrfs", "subvolume", "create", disk / "home")
    root = disk / "home/.cache/pip/http-v2"
    root.mkdir(parents=True)
    (root / "a").write_bytes(os.urandom(5_000_000))
    fill(disk / "home/.cache/thumbnails/large", 3, 1_000_000)
    run("btrfs", "subvolume", "snapshot", "-r", disk / "home", disk / "snapshot")
    flush_filesystem(root, 10)
    monkeypatch.setenv("PATH", tool(tmp_path / "bin", "pip", f"rm -r '{root}'"))
    planned = plan(disk / "home", idle_minutes=0)
    asked = next(step for step in planned.steps if step.estimated)
    (first, *others) = carry_out(
        type(planned)((asked, *(each for each in planned.steps if each is not asked)),
                      planned.goal),
        disk / "home",
    )  # fmt: skip
    assert (first.freed < 500_000, first.in_vain) == (True, True)
    assert "no room came back" in first.stop
    assert {each.status for each in others} == {"vetoed"}


# One filesystem


@pytest.mark.root
def test_subvolumes_and_bind_mounts_are_one_filesystem(mounted: Mounted, tmp_path: Path) -> None:
    disk = mounted("btrfs", SIZES["btrfs"])
    for name in ("home", "srv"):
        run("btrfs", "subvolume", "create", disk / name)
    (tmp_path / "bound").mkdir()
    (tmp_path / "again").mkdir()
    run("mount", "--bind", disk / "srv", tmp_path / "bound")
    device = next(each for each, point, *_ in filesystems.partitions() if point == str(disk))
    run("mount", "-o", "subvol=home", device, tmp_path / "again")
    try:
        places = [disk, disk / "home", disk / "srv", tmp_path / "bound", tmp_path / "again"]
        assert len({os.stat(each).st_dev for each in places}) == 3
        assert filesystems.mounts(tuple(map(str, places))) == (str(disk),)
        measured = [path for path in filesystems.mounts(()) if path.startswith(str(tmp_path))]
        assert len(measured) == 1
    finally:
        run("umount", tmp_path / "again")
        run("umount", tmp_path / "bound")


@pytest.mark.root
def test_cache_on_another_subvolume_is_on_the_filesystem(mounted: Mounted) -> None:
    disk = mounted("btrfs", SIZES["btrfs"])
    run("btrfs", "subvolume", "create", disk / "home")
    fill(disk / "home/.cache/thumbnails")
    healer, kind = registry.load_healer(
        "cleanup_disk", registry.builtin("healers") / "cleanup_disk.py"
    )
    assert kind is not None
    config = Config(caches=CacheSettings(homes=(str(disk / "home"),)))
    view = HealerContext(Host(config), {"mount": filesystems.read_mount(str(disk))})
    found = healer(view, Issue("x", str(disk), "", 95, Limit(90, unit="%")), kind(idle_minutes=0))
    assert [step.kind for step in found.steps] == ["delete"]


# Read-only


def break_by_an_error(disk: Path) -> None:
    """As ext4 does it itself when it finds damage."""
    device = next(each for each, point, *_ in filesystems.partitions() if point == str(disk))
    switch = Path("/sys/fs/ext4", os.path.basename(device), "trigger_fs_error")
    if not switch.exists():
        pytest.skip("this kernel cannot be told to find an error")
    switch.write_text("1")


@pytest.mark.root
def test_filesystem_that_an_error_made_read_only_is_an_issue_that_nothing_is_deleted_for(
    mounted: Mounted, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = mounted("ext4", SIZES["ext4"], options=",errors=remount-ro")
    filled(disk / "home", 2)
    assert filesystems.read_mount(str(disk)).percent < 50
    break_by_an_error(disk)
    assert str(disk) in filesystems.mounts(())
    text = f"""
[disk]
mounts = ["{disk}"]
[checks.disk_space_critical]
threshold = 90
[caches]
homes = ["{disk}/home"]
[healers.cleanup_disk]
idle_minutes = 0
"""
    code, document = report("--config", settings(home, text))
    assert code == 1
    (issue,) = document["issues_detected"]
    assert issue["description"] == (
        f"{disk} has become read-only by an error, nothing can be written to it"
    )
    assert (issue["severity"], issue["metric_value"]) == ("critical", 100)
    (action,) = document["actions_taken"]
    assert (action["status"], action["steps"]) == ("skipped", [])
    (kept,) = action["kept"]
    assert (kept["target"], kept["reason"]) == (str(disk), "read-only")
    assert "run fsck" in kept["detail"]


@pytest.mark.root
def test_filesystem_that_a_person_mounted_read_only_is_fine(mounted: Mounted) -> None:
    disk = mounted("ext4", SIZES["ext4"])
    run("mount", "-o", "remount,ro", disk)
    assert filesystems.read_mount(str(disk)).read_only == ""
    assert str(disk) not in filesystems.mounts(())


@pytest.mark.parametrize(
    ("options", "of_filesystem", "other", "said"),
    [
        ("rw,relatime", "rw,errors=remount-ro,emergency_ro", "rw", "ext4: emergency_ro"),
        ("rw,relatime", "ro,errors=remount-ro", "rw", "ext4: mounted to be written to, and read-"),
        ("ro,relatime", "ro", "ro", ""),
        ("rw,relatime", "rw", "rw", ""),
        ("rw,relatime", "ro", "ro", ""),  # by its other mount
        ("ro,relatime", "rw", "rw", ""),  # a bind mount that is read-only
    ],
)
def test_error_is_told_from_a_persons_option(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: str,
    of_filesystem: str,
    other: str,
    said: str,
) -> None:
    rows = tuple(
        parse_mount(f"{n} 1 8:1 / /{n} {each} shared:1 - ext4 /dev/sda1 {of_filesystem}".encode())
        for n, each in enumerate((options, other))
    )
    monkeypatch.setattr(filesystems, "_mount_at", lambda path, table: rows[0])
    found = filesystems.made_read_only(tmp_path, rows)
    assert found.startswith(said)
    assert bool(found) is bool(said)
