"""Hostile things wherever the program looks, met as root in a whole run: none followed, none hung
on, each reported.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from program import SCHEMA, environment, run, settings

from conftest import PROJECT

NEWLINE, BYTES = "new\nline", os.fsdecode(b"not \xff utf-8")
LINES = b"".join(b"line %06d, and what it says\n" % number for number in range(40_000))
Fingerprint = dict[str, tuple[object, ...]]


def fingerprint(top: Path) -> Fingerprint:
    found: Fingerprint = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
        found[str(path)] = (
            status.st_ino,
            status.st_mode,
            status.st_uid,
            status.st_mtime_ns,
            content,
        )
    return found


def plant(folder: Path, victim: Path, ending: str) -> None:
    """One of each kind, old enough for anything."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"link{ending}").symlink_to(victim / "file")
    (folder / f"folder link{ending}").symlink_to(victim)
    os.link(victim / "file", folder / f"hard{ending}")
    os.mkfifo(folder / f"fifo{ending}")
    os.mknod(folder / f"null{ending}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(folder / f"loop{ending}", stat.S_IFBLK | 0o600, os.makedev(7, 250))
    here = os.getcwd()
    os.chdir(folder)  # the path to bind to may be a hundred bytes long at most
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"socket{ending}")
    os.chdir(here)
    (folder / f"x{ending}").mkdir()
    (folder / f"x{ending}" / "inside").write_text("inside")
    for name in (NEWLINE, BYTES, "immutable"):
        (folder / f"{name}{ending}").write_bytes(LINES)
    for path in folder.iterdir():
        os.utime(path, (1, 1), follow_symlinks=False)


@pytest.fixture
def world(
    mounted: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> tuple[Path, Path]:
    """A home on a disk of its own, with hostile things in its logs, its cache and its downloads;
    and what they point to.
    """
    home, victim = mounted("ext4", "64M"), tmp_path / "victim"
    monkeypatch.setenv("HOME", str(home))
    (home / "elsewhere").mkdir()
    (home / "elsewhere" / "file").write_bytes(LINES)
    victim = home / "elsewhere"
    plant(home / "logs", victim, ".log")
    plant(home / ".cache" / "thumbnails", victim, ".png")
    plant(home / "Downloads", victim, "")
    return home, victim


def configuration(home: Path) -> str:
    return settings(
        home,
        f"""
[disk]
mounts = ["{home}"]
[checks.disk_space_critical]
threshold = 1
[caches]
never = ["journald", "apt", "docker-build", "docker"]
[healers.cleanup_disk]
idle_minutes = 0
downloads_days = 0
move_downloads = true
[logs]
patterns = ["{home}/logs/*.log"]
[checks.large_log_files]
threshold = 1
[healers.prune_logs]
keep_lines = 100
""",
    )


@pytest.mark.root
def test_ten_hostile_things_are_neither_followed_nor_hung_on_and_each_is_reported(
    world: tuple[Path, Path], mounted: Callable[..., Path]
) -> None:
    home, victim = world
    inside = home / ".cache" / "thumbnails" / "mounted"
    inside.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(inside)], check=True)
    immutable = [
        home / "logs" / "immutable.log",
        home / ".cache" / "thumbnails" / "immutable.png",
        home / "Downloads" / "immutable",
    ]
    subprocess.run(["chattr", "+i", *immutable], check=True)
    try:
        (inside / "precious").write_text("x")
        before = fingerprint(victim)
        kept = {path: path.read_bytes() for path in immutable}
        done = run(
            "--json",
            "--config",
            configuration(home),
            cwd=home,
            HOME=str(home),
            COVERAGE_PROCESS_START=None,
        )
        document = json.loads(done.stdout)
        assert fingerprint(victim) == before
        assert (inside / "precious").read_text() == "x"
        assert {path: path.read_bytes() for path in immutable} == kept
    finally:
        subprocess.run(["chattr", "-i", *immutable], check=True)
        subprocess.run(["umount", str(inside)], check=True)
    import jsonschema

    jsonschema.validate(document, SCHEMA)
    assert done.returncode in (0, 1)
    check_logs(home, document)
    check_cache(home, document)
    check_downloads(home, document)


def action(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in document["actions_taken"] if each["action"] == name)


def check_logs(home: Path, document: dict[str, Any]) -> None:
    prune = action(document, "prune_logs")
    reasons = {
        each["target"].rsplit("/", 1)[1]: each["detail"] or each["reason"] for each in prune["kept"]
    }
    expected = {
        "link.log": "a symbolic link",
        "folder link.log": "a symbolic link",
        "hard.log": "it has 4 names",
        "fifo.log": "a FIFO",
        "null.log": "a device",
        "loop.log": "a device",
        "socket.log": "a socket",
        "x.log": "a folder",
        "immutable.log": "immutable",
    }
    assert {name: reasons.get(name) for name in expected} == expected
    applied = {
        step["target"].rsplit("/", 1)[1] for step in prune["steps"] if step["status"] == "applied"
    }
    assert applied == {"new\\nline.log", "not \\xff utf-8.log"}
    assert {path.name for path in (home / "logs").iterdir()} == {
        *expected,
        f"{NEWLINE}.log",
        f"{BYTES}.log",
    }
    assert all(
        (home / "logs" / f"{name}.log").read_bytes().endswith(LINES[-3000:])
        for name in (NEWLINE, BYTES)
    )


def check_cache(home: Path, document: dict[str, Any]) -> None:
    """Names of a cache go, whatever they are; what they point to stays, and what cannot go is
    told.
    """
    clean = action(document, "cleanup_disk")
    told = json.dumps(
        [[each["message"], each["details"].get("not_deleted")] for each in clean["steps"]]
    )
    left = {path.name for path in (home / ".cache" / "thumbnails").iterdir()}
    assert left == {"immutable.png", "mounted"}
    assert "immutable.png: Operation not permitted" in told
    assert "mounted: " in told


def check_downloads(home: Path, document: dict[str, Any]) -> None:
    clean = action(document, "cleanup_disk")
    taken = {
        step["target"].rsplit("/", 1)[1]: step["status"]
        for step in clean["steps"]
        if "/Downloads/" in step["target"]
    }
    assert {name: taken.get(name) for name in ("new\\nline", "not \\xff utf-8")} == {
        "new\\nline": "applied", "not \\xff utf-8": "applied",
    }  # fmt: skip
    assert taken["immutable"] == "skipped"
    left = {path.name for path in (home / "Downloads").iterdir()}
    assert left >= {"link", "folder link", "fifo", "null", "loop", "socket", "x", "immutable"}


@pytest.mark.root
def test_report_for_people_has_a_line_for_each_name(world: tuple[Path, Path]) -> None:
    home, _ = world
    command = [
        sys.executable,
        str(PROJECT / "self_healer.py"),
        "--dry-run",
        "--config",
        configuration(home),
    ]
    done = subprocess.run(
        command, cwd=home, env=environment(HOME=str(home)), capture_output=True, timeout=60
    )
    text = done.stdout.decode("utf-8")
    assert "new\\nline.log" in text
    assert "not \\xff utf-8.log" in text
    assert all(line.isprintable() for line in text.splitlines())
