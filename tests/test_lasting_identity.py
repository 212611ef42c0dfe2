"""A filesystem that is mounted again has another device number: what was done on it can be undone
all the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from program import environment, run
from test_rollback import LINES, archive, context, do, set_aside, state_of, trim, undo_all

from conftest import PROJECT
from miyabi_healing.gate.handlers import log_files as log_handler
from miyabi_healing.state import quarantine
from miyabi_healing.support import file_identity, mount_table

pytestmark = pytest.mark.root


class Disk:
    """A filesystem in a file, on a loop device that can be another one the next time."""

    def __init__(self, kind: str, image: Path, point: Path) -> None:
        self.kind, self.image, self.point = kind, image, point
        self.devices: list[str] = []
        point.mkdir()
        call("truncate", "-s", "320M", image)
        call(f"mkfs.{kind}", "-q", image)
        self.mount()

    def mount(self) -> None:
        self.devices.append(call("losetup", "-f", "--show", self.image))
        call(
            "mount",
            "-o",
            "nouuid" if self.kind == "xfs" else "defaults",
            self.devices[-1],
            self.point,
        )

    def mount_elsewhere(self) -> None:
        """The same filesystem under another number: another image has the old loop device
        meanwhile.
        """
        number = os.stat(self.point).st_dev
        call("umount", self.point)
        call("losetup", "-d", self.devices[-1])
        other = self.image.with_suffix(".other")
        call("truncate", "-s", "1M", other)
        call("losetup", self.devices[-1], other)
        # its number does not come from the device, but from when it is mounted
        if self.kind == "btrfs":
            taken = self.point.with_name("taken")
            taken.mkdir(exist_ok=True)
            call("mount", "-t", "tmpfs", "tmpfs", taken)
        self.mount()
        if os.stat(self.point).st_dev == number:
            pytest.skip("the filesystem kept its number")

    def end(self) -> None:
        for point in (self.point.with_name("taken"), self.point):
            subprocess.run(["umount", "-l", point], capture_output=True)
        for device in self.devices:
            subprocess.run(["losetup", "-d", device], capture_output=True)


def call(*command: object) -> str:
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{command[0]} does not work here: {done.stderr.strip()}")
    return done.stdout.strip()


@pytest.fixture(params=["ext4", "xfs", "btrfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if not (shutil.which(f"mkfs.{request.param}") and shutil.which("losetup")):
        pytest.skip(f"needs losetup and mkfs.{request.param}")
    with contextlib.ExitStack() as held:
        made = Disk.__new__(Disk)
        held.callback(lambda: made.end() if hasattr(made, "devices") else None)
        made.__init__(request.param, tmp_path / "disk.img", tmp_path / "disk")  # type: ignore[misc]
        yield made


def test_identity_is_that_of_filesystem_and_file_and_lasts(disk: Disk) -> None:
    file, other = disk.point / "file", disk.point / "other"
    file.write_text("x")
    other.write_text("x")
    before, stranger = lasting(file), lasting(other)
    assert before.filesystem.startswith("uuid:")
    assert before.born is not None
    disk.mount_elsewhere()
    assert lasting(file) == before
    assert lasting(file).is_known_by({"identity": before.facts})
    assert not lasting(file).is_known_by({"identity": stranger.facts})
    file.unlink()
    for number in range(20):  # the inode is taken again, sooner or later
        (disk.point / f"new {number}").write_text("x")
    assert not any(
        lasting(path).is_known_by({"identity": before.facts}) for path in disk.point.glob("new *")
    )


def lasting(path: Path) -> file_identity.Lasting:
    with path.open("rb") as file:
        found = file_identity.lasting_identity(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        assert file_identity.lasting_identity_at(folder, path.name) == found
    finally:
        os.close(folder)
    return found


@pytest.mark.parametrize("version", ["new", "old"])
def test_shortened_log_comes_back_after_the_disk_got_another_number(
    disk: Disk, version: str
) -> None:
    home = disk.point
    log = home / "app.log"
    log.write_bytes(LINES)
    do(home, trim(log))
    assert log.read_bytes() != LINES
    if version == "old":
        make_old(home)
    disk.mount_elsewhere()
    (result,) = undo_all(home)
    assert (result.status, log.read_bytes() == LINES) == ("undone", True), result


def make_old(home: Path) -> None:
    """What an earlier version wrote: the device's number, and the inode."""
    for held in quarantine.find_entries(state_of(home)):
        facts = {key: value for key, value in held.manifest.items() if key != "identity"}
        facts |= {"device": os.stat(home).st_dev, "inode": held.manifest["identity"]["inode"]}
        (held.folder / "manifest.json").write_text(json.dumps(facts))


@pytest.mark.parametrize("version", ["new", "old"])
def test_log_that_was_not_deleted_yet_is_known_again(
    disk: Disk, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between archiving and deleting: the archive goes, and there is no second copy of the
    log.
    """
    home = disk.point
    log = home / "app.log"
    log.write_bytes(LINES)
    with monkeypatch.context() as patch:
        patch.setattr(log_handler, "take_out", lambda *_: None)
        patch.setattr(os, "unlink", lambda *_, **__: None)
        do(home, archive(log))
    if version == "old":
        make_old(home)
    disk.mount_elsewhere()
    assert [each.status for each in undo_all(home)] == ["undone"]
    assert sorted(path.name for path in home.iterdir() if "app.log" in path.name) == ["app.log"]
    assert log.read_bytes() == LINES


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from gatework import plan, work
from test_rollback import context, trim
from miyabi_healing.gate import batch, execute
from miyabi_healing.gate.handlers import log_files as logs
logs.CHUNK = 64 << 10
uses, blank = 0, logs.fallocate
def third(*arguments):
    global uses
    uses += 1
    blank(*arguments)
    if uses == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
logs.fallocate = third
home = Path(sys.argv[1])
with work(context(home)) as prepared:
    execute.carry_out_plan(plan(trim(home / "app.log")), prepared, [])
"""


@pytest.mark.parametrize("uses", [1, 3, 100])
def test_run_killed_in_the_middle_of_a_trim_is_put_right_after_a_reboot(
    disk: Disk, uses: int
) -> None:
    """100: it came as far as collapsing the file, or to its end."""
    home = disk.point
    log = home / "app.log"
    log.write_bytes(LINES)
    script = (
        KILLED if uses < 100 else KILLED.replace("uses == int(sys.argv[2])", "arguments[1] == 8")
    )
    subprocess.run(
        [sys.executable, "-c", script, home, str(uses), str(PROJECT / "tests"), str(PROJECT)],
        env=environment(),
    )
    assert log.read_bytes() != LINES
    disk.mount_elsewhere()
    next_run(home)
    if uses == 100 and disk.kind == "btrfs":
        # it cannot collapse, so the run came to its end
        assert [each.status for each in undo_all(home)] == ["undone"]
    assert log.read_bytes() == LINES
    assert quarantine.find_entries(state_of(home)) == []


def next_run(home: Path) -> list[str]:
    from gatework import work

    from miyabi_healing.gate import recover

    with work(context(home, "next")) as prepared:
        return [result for _row, result in recover.recover(prepared.context, prepared.journal)]


def test_run_before_the_disk_is_there_leaves_it_to_a_later_one(
    disk: Disk, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from gatework import plan, work

    from miyabi_healing.gate import batch, execute

    log = disk.point / "app.log"
    log.write_bytes(LINES)
    where = replace(context(home), roots=(disk.point,))

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, work(where) as prepared:
        patch.setattr(log_handler, "collapse", die)
        patch.setattr(batch, "failed_outcome", die)
        with pytest.raises(Killed):
            execute.carry_out_plan(plan(trim(log)), prepared, [])
    zeros = log.read_bytes()
    assert zeros != LINES
    call("umount", disk.point)
    (said,) = next_run(home)
    assert f"{disk.point}/.miyabi-healing, which is not there now" in said
    assert len(next_run(home)) == 1
    disk.mount()
    assert next_run(home) == ["taken back"]
    assert next_run(home) == []
    assert log.read_bytes() == LINES


def test_another_filesystem_at_the_same_place_is_not_taken_for_it(
    disk: Disk, tmp_path: Path
) -> None:
    """The same layout made anew: same names, same inodes, same content; but not the log that was
    shortened.
    """
    home = disk.point
    log = home / "app.log"
    log.write_bytes(LINES)
    do(home, trim(log))
    left = log.read_bytes()
    (held,) = quarantine.find_entries(state_of(home))
    facts: dict[str, Any] = {
        **held.manifest,
        "identity": {**held.manifest["identity"], "filesystem": "uuid:0123"},
    }
    (held.folder / "manifest.json").write_text(json.dumps(facts))
    (result,) = undo_all(home)
    assert (result.status, "not in its folder any more" in result.message) == ("refused", True)
    assert log.read_bytes() == left


def test_what_is_not_known_of_both_decides_nothing() -> None:
    known = file_identity.Lasting("uuid:ab", 7, 100, 5)
    assert known.facts == {"filesystem": "uuid:ab", "inode": 7, "born_ns": 100, "subvolume": 5}
    for same in (
        {},
        {"filesystem": "ext4:/dev/loop3"},
        {"filesystem": "uuid:ab"},
        {"born_ns": 100},
        {"subvolume": 5},
    ):
        assert known.is_known_by({"identity": {"inode": 7, **same}})
    for other in ({"filesystem": "uuid:cd"}, {"born_ns": 101}, {"subvolume": 6}, {"inode": 8}):
        assert not known.is_known_by({"identity": {"inode": 7, **other}})
    assert known.is_known_by({"device": 64768, "inode": 7})
    assert not known.is_known_by({"device": 64768, "inode": 8})
    assert not known.is_known_by({})
    without = file_identity.Lasting("nfs4:server:/export", 7)
    assert not without.is_known_by({"identity": {"inode": 7, "filesystem": "nfs4:other:/export"}})


def test_filesystem_without_a_uuid_is_named_by_its_device_or_by_what_is_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError

    monkeypatch.setattr(file_identity.fcntl, "ioctl", refuse)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        mount = mount_table.mount_of(folder)
        assert mount is not None
        monkeypatch.setattr(file_identity, "BY_UUID", str(tmp_path / "none"))
        assert file_identity.filesystem(folder) == f"{mount.kind}:{mount.source}"
        by_uuid = tmp_path / "by-uuid"
        by_uuid.mkdir()
        monkeypatch.setattr(file_identity, "BY_UUID", str(by_uuid))
        (by_uuid / "ABCD-12").symlink_to("/dev/null")
        for source, number in (("none", os.stat("/dev/null").st_rdev), ("/dev/null", 0)):
            found = mount_table.MountPoint(1, number, "/", "/x", "vfat", source)
            assert file_identity.by_device(number, found) == "uuid:abcd12"
        assert file_identity.by_device(mount.device, mount) is None
        monkeypatch.setattr(
            mount_table,
            "mount_of",
            lambda _: mount_table.MountPoint(1, 0, "/", "/x", "vfat", "/dev/null"),
        )
        assert file_identity.filesystem(folder) == "uuid:abcd12"
    finally:
        os.close(folder)


def test_program_itself_rolls_back_on_a_disk_with_another_number(disk: Disk, home: Path) -> None:
    (disk.point / "file").write_text("x")
    inside = disk.point / "home"
    inside.mkdir()
    log = inside / "app.log"
    log.write_bytes(LINES)
    do(inside, trim(log), set_aside(inside / "thing"))
    disk.mount_elsewhere()
    done = run("rollback", HOME=str(inside))
    assert (done.returncode, "2 of 2 step(s) were undone." in done.stdout) == (0, True), (
        done.stdout + done.stderr
    )
    assert log.read_bytes() == LINES
