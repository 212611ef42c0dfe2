"""Filesystems as they are measured, and what a full one is told to be full of."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_delete import carry_out, fill, plan

from miyabi_healing.host import cache_rows, caches, filesystems
from miyabi_healing.host.context import HealerContext
from miyabi_healing.host.readings import Host
from miyabi_healing.model.config import CacheSettings, Config
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.plan import Plan
from miyabi_healing.model.steps import Delete, Run
from miyabi_healing.runner import registry
from miyabi_healing.support import commands

OF_SYSTEM = caches.of_system  # of folders of our own

Start = Callable[..., psutil.Popen]
MAC = [
    ("/dev/disk3s1s1", "/"),
    ("/dev/disk3s6", "/System/Volumes/VM"),
    ("/dev/disk3s2", "/System/Volumes/Preboot"),
    ("/dev/disk1s2", "/System/Volumes/xarts"),
    ("/dev/disk3s5", "/System/Volumes/Data"),
    ("/dev/disk5s1", "/Volumes/Backup"),
    ("/dev/disk5s2", "/Volumes/More"),
]


# Measuring


@pytest.mark.root
def test_reserved_blocks_are_nobodys(mounted: Callable[..., Path]) -> None:
    """ext4 keeps some for root: a normal user meets 100 % while blocks are left."""
    point = mounted("ext4", "64M")
    subprocess.run(
        ["tune2fs", "-m", "20", str(point.with_name(f"{point.name}.img"))],
        capture_output=True,
        check=False,
    )
    device = next(each.device for each in psutil.disk_partitions() if each.mountpoint == str(point))
    subprocess.run(["tune2fs", "-m", "20", device], capture_output=True, check=True)
    fill(point / "data", 40, 1_000_000)
    found = filesystems.read_mount(str(point))
    lines = subprocess.run(
        ["df", "-P", "-B1", str(point)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    _, size, used, free, percent, _ = lines[1].split()
    assert (found.free, found.size) == (int(free), int(used) + int(free))
    assert found.size < int(size) * 0.85
    assert int(percent.rstrip("%")) == -(-found.blocks_percent // 1)


@given(st.integers(-(2**40), 2**63), st.integers(0, 2**63))
def test_share_is_a_percentage_whatever_a_filesystem_claims(used: int, available: int) -> None:
    assert filesystems.share(used, available) >= 0
    if used >= 0:
        assert filesystems.share(used, available) <= 100


@pytest.mark.root
def test_real_filesystems_are_the_ones_that_can_be_cleaned(mounted: Callable[..., Path]) -> None:
    writable, fixed, memory = mounted("ext4", "16M"), mounted("ext4", "16M"), mounted("tmpfs", "1M")
    subprocess.run(["mount", "-o", "remount,ro", str(fixed)], check=True)
    paths = filesystems.mounts(())
    assert paths[0] == "/"
    assert str(writable) in paths
    assert not {str(fixed), str(memory)} & set(paths)
    devices = [os.stat(path).st_dev for path in paths]
    assert len(set(devices)) == len(devices)


def test_volumes_of_one_apple_container_are_read_once() -> None:
    assert filesystems.apple(MAC) == ["/System/Volumes/Data", "/Volumes/Backup"]
    assert filesystems.apple(reversed(MAC)) == ["/System/Volumes/Data", "/Volumes/Backup"]
    assert filesystems.apple([("/dev/disk1s1", "/")]) == ["/"]


def test_mac_without_writable_volumes_still_has_its_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    sealed = SimpleNamespace(
        device="/dev/disk3s1s1", mountpoint="/", fstype="apfs", opts="ro,local"
    )
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: [sealed])
    assert filesystems.real() == ["/"]


def test_configured_home_is_expanded(home: Path) -> None:
    assert filesystems.mounts(("~",)) == (str(home),)


@pytest.mark.root
def test_mounts_are_read_as_psutil_reads_them(mounted: Callable[..., Path]) -> None:
    mounted("ext4", "16M", name="two words\tand\\one")
    theirs = [
        (each.device, each.mountpoint, each.fstype, each.opts)
        for each in psutil.disk_partitions(all=False)
    ]
    assert list(filesystems.partitions()) == theirs
    assert any(point.endswith("two words\tand\\one") for _, point, _, _ in theirs)


# The healer


def test_one_look_for_deleted_files_however_many_are_open(home: Path, start: Start) -> None:
    """Several deleted files of one process are one row with all their bytes, and a file with a name
    is none.
    """
    names = [home / f"ghost {number}" for number in range(3)]
    for name in names:
        name.write_bytes(b"x" * 30_000_000)
    script = (
        "import sys, time; files = [open(name) for name in sys.argv[1:]]; print(flush=True); "
        "time.sleep(100)"
    )
    process = start(sys.executable, "-c", script, *map(str, names), stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    names[0].unlink()
    names[1].unlink()
    rows = plan(home).details["deleted_but_open"]
    assert isinstance(rows, list)
    (row,) = (row for row in rows if row["pid"] == process.pid)
    assert 60_000_000 <= row["bytes"] < 61_000_000


@pytest.fixture
def public() -> Iterator[Path]:
    """A home in a place that other users can reach."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        home = Path(folder, "home")
        home.mkdir()
        yield home


def kept_by_nobody(home: Path) -> dict[str, str]:
    """What is kept, and why, when another user makes the plan; there must be no step in it."""
    plan(home)  # an interpreter in root's home cannot import as somebody else
    os.seteuid(65534)
    try:
        found = plan(home, idle_minutes=0)
    finally:
        os.seteuid(0)
    assert found.steps == ()
    return {kept.target: f"{kept.reason}: {kept.detail}" for kept in found.kept}


@pytest.mark.root
def test_folder_that_may_not_be_read_is_told(public: Path) -> None:
    fill(public / "Downloads").chmod(0)
    os.chown(public, 65534, 65534)
    assert kept_by_nobody(public) == {str(public / "Downloads"): "not readable: Permission denied"}


@pytest.mark.root
def test_homes_of_others_are_left_to_them(public: Path) -> None:
    fill(public / "Downloads")
    fill(public / ".cache" / "thumbnails")
    assert kept_by_nobody(public) == {str(public): "another user's: "}


def test_system_keepers_are_asked_where_their_data_is(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gently first, Docker's images last and only if asked for; all this for root, and for the
    filesystem they are on.
    """
    healer, kind = registry.load_healer(
        "cleanup_disk", registry.builtin("healers") / "cleanup_disk.py"
    )
    assert kind is not None
    monkeypatch.setattr(caches, "of_system", OF_SYSTEM)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(commands, "find_program", lambda name, owner=None: f"/bin/{name}")
    moved = {
        f"our-{name}": replace(
            each,
            folders=tuple(f"{tmp_path}{folder}" for folder in each.folders),
            needs=each.needs and f"{tmp_path}{each.needs}",
        )
        for name, each in cache_rows.kinds(CacheSettings()).items()
        if each.of_system
    }
    for folder in ("var/log/journal", "var/lib/docker", "var/run", "var/cache/apt/archives"):
        (tmp_path / folder).mkdir(parents=True)

    def found(*also: str, mount: str = str(tmp_path)) -> Plan:
        ours = ("journald", "apt", "docker-build", "docker")
        rules = CacheSettings(homes=(str(home),), also=also, never=ours, define=moved)
        view = HealerContext(Host(Config(caches=rules)), {"mount": filesystems.read_mount(mount)})
        plan: Plan = healer(
            view, Issue("disk_space_critical", "/", "", 95, Limit(90, unit="%")), kind()
        )
        return plan

    def argv(*also: str, mount: str = str(tmp_path)) -> list[tuple[str, ...]]:
        return [step.argv[:3] for step in found(*also, mount=mount).steps if isinstance(step, Run)]

    journal, apt = ("journalctl", "--vacuum-size=500M"), ("apt-get", "clean")
    assert argv("our-docker") == [journal]  # no daemon
    (tmp_path / "var/run/docker.sock").touch()
    gentle = [journal, ("docker", "builder", "prune")]
    assert argv() == gentle
    assert argv("our-docker", "our-apt") == [*gentle, apt, ("docker", "image", "prune")]
    assert argv("our-docker", mount="/proc") == []
    monkeypatch.setattr(os, "geteuid", lambda: home.stat().st_uid + 1)
    assert argv("our-docker") == []
    told = {each.target: each for each in found("our-docker").kept if each.reason == "needs root"}
    assert told[f"{tmp_path}/var/lib/docker"].detail == caches.NEEDS_ROOT


@pytest.mark.root
def test_filesystem_without_inodes_is_cleaned_just_enough(mounted: Callable[..., Path]) -> None:
    """Nearly no bytes are used: it is the number of files that the steps are cut by, and that the
    goal looks at.
    """
    home = mounted("tmpfs", "64M", options=",nr_inodes=5000") / "home"
    fill(home / ".cache" / "thumbnails", 4_900, 1)
    assert filesystems.read_mount(str(home)).percent > 95
    found: Plan = plan(home, clear=70, idle_minutes=0)
    assert [len(step.units) for step in found.steps if isinstance(step, Delete)] == [
        1000,
        1000,
        1000,
        1000,
        900,
    ]
    statuses = [each.status for each in carry_out(found, home)]
    assert statuses == ["applied"] * 2 + ["not needed"] * 3
    assert filesystems.read_mount(str(home)).percent < 70


def test_view_of_the_healer_is_the_failing_filesystem(home: Path) -> None:
    """Caches on another device are told and left: cleaning them would not help the one that is
    full.
    """
    fill(home / ".cache" / "thumbnails")
    healer, kind = registry.load_healer(
        "cleanup_disk", registry.builtin("healers") / "cleanup_disk.py"
    )
    assert kind is not None
    view = HealerContext(
        Host(Config(caches=CacheSettings(homes=(str(home),)))),
        {"mount": filesystems.read_mount("/dev/shm")},
    )
    found = healer(
        view,
        Issue("disk_space_critical", "/dev/shm", "", 95, Limit(90, unit="%")),
        kind(idle_minutes=0),
    )
    assert [kept.reason for kept in found.kept] == ["other filesystem"]
    assert found.steps == ()
    assert found.goal.text == "below 85 %"
