"""A full disk with 23 kinds of eaters: what goes by default, what is named, and what is a person's
stays.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from eaters import COSTLY, EATERS, GOES, PERSONAL, TRAPS, Eater, build
from program import report, settings

from miyabi_healing.host import filesystems

Mounted = Callable[..., Path]
SIZE = 1_000_000


def left(home: Path, each: Eater) -> set[str]:
    """Which files of an eater are there."""
    return {name for name in each.files if (home / each.path / name).exists()}


def fill_up(home: Path, percent: float) -> None:
    status = os.statvfs(home)
    used = status.f_blocks - status.f_bfree
    more = int(((used + status.f_bavail) * percent / 100 - used) * status.f_frsize)
    with (home / "videos.bin").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, more)


@pytest.mark.root
@pytest.mark.skipif(not shutil.which("debugfs"), reason="needs debugfs")
def test_all_that_may_go_goes_the_rest_is_named_and_nothing_of_a_persons_is_touched(
    home: Path, mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = mounted("ext4", "128M")
    build(disk, SIZE)
    fill_up(disk, 97)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / ".gitconfig"))
    monkeypatch.setenv("HOME", str(disk))
    text = f"""
[disk]
mounts = ["{disk}"]
[checks.disk_space_critical]
threshold = 90
clear = 50
[healers.cleanup_disk]
idle_minutes = 60
"""
    before = filesystems.read_mount(str(disk))
    # no tools: what they do is tested where they are
    _code, document = report("--config", settings(home, text), PATH="/nonexistent")
    (action,) = document["actions_taken"]
    by_fate = {fate: [each for each in EATERS if each.fate == fate] for fate in (GOES, COSTLY)}
    linked = ".bun/install/cache/left-pad@1.0.0"
    assert {each.name: left(disk, each) for each in by_fate[GOES] if left(disk, each)} == {}, action
    freed = action["details"]["bytes_freed"]
    after = filesystems.read_mount(str(disk))
    # a file with another name frees nothing
    expected = len(by_fate[GOES]) * SIZE - SIZE // 2
    assert expected <= freed < expected * 1.1
    assert after.free - before.free > expected * 0.9
    assert not (disk / linked).exists()
    for each in EATERS:
        if each.fate != GOES:
            assert left(disk, each) == set(each.files), each.name
    for name in TRAPS:
        assert (disk / name).exists(), name
    assert (disk / ".cache/uv").is_symlink()
    kept = {row["target"]: row for row in action["kept"]}
    for each in by_fate[COSTLY]:
        row = kept[str(disk / each.path)]
        assert row["reason"] == "costly", each.name
        assert "name '" in row["detail"]
    for each in EATERS:
        if each.fate == PERSONAL:
            row = kept[str(disk / each.path)]
            assert row["reason"] == "a person's"
            assert all(name.rsplit("/")[-1] in row["detail"] for name in each.files)
    assert kept[str(disk / ".cache/uv")]["reason"] == "not followed"
    assert kept[str(disk / ".vscode-server/cli/servers")]["reason"] == "newest"
