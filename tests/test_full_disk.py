"""With not one byte free where home, state and caches are, one run heals it, and the journal has
it all.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from program import report, run, settings

from miyabi_healing.model.config import Config
from miyabi_healing.report import text
from miyabi_healing.runner.registry import Folders
from miyabi_healing.runner.resources import Resources
from miyabi_healing.support import paths

LINES = b"".join(b"line %06d, and what it says\n" % number for number in range(20_000))


def fill(folder: Path) -> None:
    with (folder / "filler").open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            while True:
                try:
                    file.write(b"x" * size)
                except OSError:
                    break
    assert os.statvfs(folder).f_bavail == 0


def world(home: Path) -> str:
    """A home with a cache, an old download and logs, on a disk that is full to the last byte."""
    cache = home / ".cache" / "thumbnails"
    cache.mkdir(parents=True)
    for number in range(20):
        (cache / f"{number}.png").write_bytes(os.urandom(1_000_000))
        os.utime(cache / f"{number}.png", (1, 1))
    (home / "logs").mkdir()
    (home / "logs" / "app.log").write_bytes(LINES * 4)
    (home / "thesis").write_text("precious")
    text = f"""
[disk]
mounts = ["{home}"]
[checks.disk_space_critical]
threshold = 90
[healers.cleanup_disk]
idle_minutes = 0
[logs]
patterns = ["{home}/logs/*.log"]
[checks.large_log_files]
threshold = 1
[healers.prune_logs]
keep_lines = 100
"""
    file = settings(home, text)
    time.sleep(0.01)
    fill(home)
    return file


@pytest.mark.root
@pytest.mark.parametrize("filesystem", ["tmpfs", "ext4"])
@pytest.mark.parametrize("passed_before", [True, False], ids=["with ballast", "first run ever"])
def test_disk_that_is_full_to_the_last_byte_is_healed(
    mounted: Callable[..., Path],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    filesystem: str,
    passed_before: bool,
) -> None:
    disk = mounted(filesystem, "96M", options=",mode=0755" if filesystem == "tmpfs" else "")
    monkeypatch.setenv("HOME", str(disk))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / ".gitconfig"))
    if passed_before:
        assert run("pause", "--for", "1s", "--reason", "makes the journal").returncode == 0
        assert (disk / ".local" / "state" / "miyabi-healing" / "ballast").exists()
        time.sleep(1)
    file = world(disk)
    code, document = report("--config", file, cwd=disk)
    assert code == 0, text.render_report(document, False)
    assert document["summary"] == "Successfully healed 2 issue(s)."
    assert (disk / "thesis").read_text() == "precious"
    applied = [
        step
        for action in document["actions_taken"]
        for step in action["steps"]
        if step["status"] == "applied"
    ]
    with sqlite3.connect(
        disk / ".local" / "state" / "miyabi-healing" / "journal.sqlite3"
    ) as journal:
        rows = journal.execute("select id, kind, status from step order by id").fetchall()
    journal.close()
    assert rows == [(step["number"], step["kind"], "applied") for step in applied]
    assert {step["kind"] for step in applied} >= {"delete", "trim log"}
    assert not any(
        paths.fallback_folder(top, disk / ".local" / "state" / "miyabi-healing").exists()
        for top in paths.FALLBACK_TOPS
    )
    assert run("--config", file, "rollback", cwd=disk).returncode in (0, 1)
    assert (disk / "logs" / "app.log").read_bytes() == LINES * 4


@pytest.mark.root
def test_checks_on_a_full_disk_run_without_keeping_what_is_compiled(
    mounted: Callable[..., Path], home: Path
) -> None:
    disk = mounted("ext4", "4M")
    (disk / "test_things.py").write_text(
        "import pytest\n\n\n@pytest.mark.limit(0)\ndef test_things(measure, limit):\n"
        "    assert measure(0, 'nothing') <= limit\n"
    )
    fill(disk)
    with contextlib.suppress(OSError):  # not even a folder can be made
        for number in itertools.count():
            (disk / f"folder {number}").mkdir()
    arguments = ("--dry-run", "--config", settings(home), "--checks", str(disk))
    code, document = report(*arguments, PYTHONDONTWRITEBYTECODE=None)
    assert (code, document["errors"]) == (0, [])
    assert "things" in {each["name"] for each in document["metrics"]}
    assert not (disk / "__pycache__").exists()


@pytest.mark.root
def test_healthy_run_says_that_its_journal_has_no_place(
    mounted: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = mounted("tmpfs", "64k")
    fill(disk)
    monkeypatch.setattr(paths, "FALLBACK_TOPS", (str(disk),))
    resources = Resources(Config(), Folders((), ()), "run", disk / "state", dry_run=False)
    resources.remember([])
    (note,) = resources.notes
    assert note.startswith(f"the journal in {disk}/state cannot be written: ")
    assert note.endswith("; nothing of this run is remembered")
