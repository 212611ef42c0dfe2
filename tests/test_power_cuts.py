"""The power fails in the middle of a step: what the disk has then is enough for the next run to
lose nothing.

The world is an ext4 in an image file, that file on a filesystem which can clone files
(ioctl_ficlone(2)): a clone is the disk as it is at that moment, without whatever was not written
out yet. Clones are taken while a step is carried out, each is mounted in the place of the first,
recovered, and rolled back.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import kill_matrix
import pytest

from miyabi_healing.state import quarantine

pytestmark = [pytest.mark.root, pytest.mark.slow]
FICLONE = 0x40049409  # linux/fs.h
CUTS = int(os.environ.get("POWER_CUTS", "12"))  # for each kind of step
KINDS = ("quarantine", "archive log", "archive logs", "trim log", "retire worktree", "purge")


def clone(source: Path, target: Path) -> None:
    with source.open("rb") as old, target.open("xb") as new:
        fcntl.ioctl(new, FICLONE, old.fileno())


def call(*argv: object) -> str:
    done = subprocess.run([str(each) for each in argv], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def disk(tmp_path: Path, mounted: Callable[..., Path], home: Path) -> Iterator[Path]:
    """The image of an ext4, on a btrfs; its folder ``world`` is where it is to be mounted."""
    if not shutil.which("mkfs.btrfs"):
        pytest.skip("needs mkfs.btrfs, on which files can be cloned")
    place = mounted("btrfs", "512M")
    image = place / "disk.img"
    image.touch()
    os.truncate(image, 48 << 20)
    call("mkfs.ext4", "-q", image)
    (tmp_path / "world").mkdir()
    yield image
    subprocess.run(["umount", "-lq", str(tmp_path / "world")], capture_output=True)


def traced(action: Callable[[], object], cut: Callable[[int], None]) -> int:
    """Do something, and call `cut` with a number at each line of the gate and the journal that is
    reached.
    """
    number, times = 0, Counter[tuple[str, int]]()

    def local(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal number
        line = (frame.f_code.co_filename, frame.f_lineno)
        times[line] += event == "line"
        if event == "line" and times[line] <= 3:
            cut(number)
            number += 1
        return local

    sys.settrace(
        lambda frame, *_: local if frame.f_code.co_filename.startswith(kill_matrix.TRACED) else None
    )
    try:
        action()
    finally:
        sys.settrace(None)
    return number


def carry_out(top: Path, kind: str, image: Path, chosen: set[int]) -> int:
    def cut(number: int) -> None:
        if number in chosen:
            clone(image, image.with_name(f"{number}.cut"))

    return traced(lambda: kill_matrix.perform(top, kind), cut)


# whoever looks for holders waits for those that do not answer
@pytest.mark.usefixtures("only_mounts")
@pytest.mark.parametrize("kind", KINDS)
def test_power_cut_at_any_moment_loses_nothing(kind: str, disk: Path, tmp_path: Path) -> None:
    world = tmp_path / "world"
    top = world / "top"
    call("mount", "-o", "loop", disk, world)
    kill_matrix.build(kind, top / "home")
    before = kill_matrix.snapshot(top / "home")
    if kind == "purge":
        kill_matrix.in_child(lambda: kill_matrix.perform(top, "quarantine"))
    call("umount", world)
    clone(disk, disk.with_name("first"))

    call("mount", "-o", "loop", disk, world)
    points = kill_matrix.in_child(lambda: carry_out(top, kind, disk, set()))[1]
    call("umount", world)
    disk.unlink()
    clone(disk.with_name("first"), disk)
    call("mount", "-o", "loop", disk, world)
    chosen = {points * number // CUTS for number in range(CUTS)}
    kill_matrix.in_child(lambda: carry_out(top, kind, disk, chosen))
    call("umount", world)

    cuts = sorted(disk.parent.glob("*.cut"), key=lambda path: int(path.stem))
    problems = [
        f"{cut.stem} of {points}: {said}"
        for cut in cuts
        if (said := problem(cut, world, kind, before))
    ]
    print(f"{kind}: the power was cut at {len(cuts)} of {points} points")
    assert problems == []
    assert len(cuts) == len(chosen)


def problem(image: Path, world: Path, kind: str, before: kill_matrix.Snapshot) -> str | None:
    """What is not as it was after the next run, and a rollback, on a disk that lost its power."""
    call("mount", "-o", "loop", image, world)
    try:
        top = world / "top"
        _, seen = kill_matrix.in_child(lambda: kill_matrix.next_run(top))
        if seen is None or seen["again"] or seen["check"] != "ok" or seen["open"]:
            return f"the next run: {seen}"
        purged = kind == "purge" and not quarantine.find_entries(top / "state")
        _, undone = kill_matrix.in_child(lambda: kill_matrix.roll_back(top))
        after = kill_matrix.snapshot(top / "home")
        if after != before and not purged:
            names = [
                name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
            ]
            return f"not as before: {sorted(names)[:5]} {seen} {undone}"
        held = [each.manifest for each in quarantine.find_entries(top / "state")]
        return f"left behind: {held} {seen} {undone}" if held else None
    finally:
        call("umount", world)
