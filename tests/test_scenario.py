"""One host, everything wrong with it at once: what can be healed is, what must be kept is, and
nothing is lost.

The world is real: git repositories, zombies, a live log writer, an ext4 filesystem filled past its
limit, a commit that waits in an editor. A run runs as people run it, with a HOME and a
configuration of its own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from gitworld import commit, git, merged_worktree, repository, worktree
from program import report, run

from conftest import wait_for
from miyabi_healing.gate.primitives.compression import library

REMOVABLE = ("ff", "merge", "squash", "edited")
ZOMBIES = (
    "import os, time\nfor _ in range(8):\n    if os.fork() == 0:\n        os._exit(0)\n"
    "time.sleep(600)\n"
)
WRITER = """
import os, sys, time
log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
number = 0
while True:
    os.write(log, b"live line %09d\\n" % number)
    number += 1
    time.sleep(0.0005)
"""


@dataclass
class World:
    home: Path
    repo: Path
    other: Path
    disk: Path
    config: Path
    log: Path
    writer: psutil.Popen
    removable: set[str]
    kept: dict[str, str]


@pytest.fixture
def world(
    home: Path, tmp_path: Path, mounted: Callable[..., Path], start: Callable[..., psutil.Popen]
) -> World:
    disk = mounted("ext4", "160M", "disk")
    repo = repository(home / "src" / "app")
    removable, kept = worktrees(repo, home, start)
    other = repository(home / "src" / "other")
    locks(repo, other, tmp_path, start)
    log = logs(home / "logs")
    fill(disk / "home")
    config = home / "config.toml"
    config.write_text(f"""
[disk]
mounts = ["{disk}"]
[git]
repos = ["{home}/src/app", "{home}/src/other"]
[logs]
patterns = ["{home}/logs/*.log"]
[caches]
homes = ["{disk}/home"]
[checks.excessive_worktrees]
threshold = 15
[checks.stale_git_lock]
threshold = 60
[checks.high_memory_usage]
threshold = 99.9
[healers.cleanup_worktrees]
idle_days = 0
[healers.cleanup_disk]
idle_minutes = 0
[healers.prune_logs]
archive_after_days = 0
[healers.kill_zombies]
seen_for = 0
""")
    writer = start(sys.executable, "-S", "-c", WRITER, str(log))
    return World(home, repo, other, disk, config, log, writer, removable, kept)


@pytest.fixture
def zombies(only_zombies: None, start: Callable[..., psutil.Popen]) -> psutil.Popen:
    """A parent of eight zombies that never reaps them."""
    parent = start(sys.executable, "-S", "-c", ZOMBIES)
    wait_for(lambda: sum(each.status() == psutil.STATUS_ZOMBIE for each in parent.children()) == 8)
    return parent


def worktrees(
    repo: Path, home: Path, start: Callable[..., psutil.Popen]
) -> tuple[set[str], dict[str, str]]:
    """24 worktrees besides the main one: those that may go, and those that must stay with the
    reason.
    """
    removable = {
        str(merged_worktree(repo, f"{how}-{number}", how))
        for number in range(3)
        for how in REMOVABLE
    }
    tree = {
        name: merged_worktree(repo, name)
        for name in ("dirty", "untracked", "secret", "detached", "locked", "used", "bisect")
    }
    (tree["dirty"] / "readme").write_text("my edit\n")
    (tree["untracked"] / "new idea.txt").write_text("mine\n")
    (tree["secret"] / ".env").write_text("TOKEN=1\n")
    git(tree["detached"], "checkout", "-q", "--detach")
    commit(tree["detached"], "detached.txt", "on no branch\n")
    git(repo, "worktree", "lock", str(tree["locked"]))
    start("sleep", "600", cwd=tree["used"])
    git(tree["bisect"], "bisect", "start")
    rebasing = worktree(repo, "rebasing")
    commit(rebasing, "readme", "theirs\n")
    commit(repo, "readme", "ours\n")
    git(rebasing, "rebase", "main", check=False)
    unpushed = [worktree(repo, f"unpushed {number}".replace(" ", "-")) for number in range(2)]
    fresh = [worktree(repo, f"fresh-{number}", work=False) for number in range(2)]
    kept = {
        str(tree["dirty"]): "dirty",
        str(tree["untracked"]): "untracked",
        str(tree["secret"]): "ignored files",
        str(tree["detached"]): "detached",
        str(tree["locked"]): "locked",
        str(tree["used"]): "in use",
        str(tree["bisect"]): "in progress",
        str(rebasing): "in progress",
        **{str(path): "not merged" for path in unpushed},
        **{str(path): "fresh" for path in fresh},
    }
    return removable, kept


def locks(repo: Path, other: Path, tmp_path: Path, start: Callable[..., psutil.Popen]) -> None:
    """A lock that a killed git left in one repository, and one in the other that a waiting commit
    holds.
    """
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nexec sleep 600\n")
    editor.chmod(0o755)
    for folder, dies in ((repo, True), (other, False)):
        (folder / "readme").write_text("to be committed\n")
        process = start(
            "git", "commit", "-a", cwd=folder, env={**os.environ, "GIT_EDITOR": str(editor)}
        )
        wait_for(
            lambda p=process: any(each.name() == "sleep" for each in p.children(recursive=True))
        )
        if dies:
            for each in [process, *process.children(recursive=True)]:
                each.send_signal(signal.SIGKILL)
            process.wait()
        old = time.time() - 3600
        os.utime(folder / ".git" / "index.lock", (old, old))
    git(repo, "worktree", "list")


def logs(folder: Path) -> Path:
    """600 MB of logs: closed ones, and one that grows while all this happens."""
    folder.mkdir()
    block = b"".join(
        b"2025-11-26 10:%02d:%02d some service did something %07d\n" % (n // 60 % 60, n % 60, n)
        for n in range(20_000)
    )
    for name, size in (("old-1.log", 150), ("old-2.log", 150), ("live.log", 300)):
        with (folder / name).open("wb") as file:
            for _ in range(size * 1_000_000 // len(block) + 1):
                file.write(block)
    return folder / "live.log"


def fill(home: Path) -> None:
    """Caches of a home, until its filesystem is more than 90 % full; and a file of the person's
    own.
    """
    keep = home / "Documents" / "thesis.txt"
    keep.parent.mkdir(parents=True)
    keep.write_text("years of work\n")
    number = 0
    for folder in (".cargo/registry/cache/index", ".cache/thumbnails/large", ".cache/go-build/00"):
        (home / folder).mkdir(parents=True)
    while percent(home) < 93:
        folder = (".cargo/registry/cache/index", ".cache/thumbnails/large")[number % 2]
        (home / folder / f"part {number}").write_bytes(os.urandom(500_000))
        number += 1


def is_within(path: str, trees: set[str]) -> bool:
    return any(path == tree or path.startswith(f"{tree}/") for tree in trees)


def percent(folder: Path) -> float:
    status = os.statvfs(folder)
    used = status.f_blocks - status.f_bfree
    return 100 * used / (used + status.f_bavail)


def fingerprint(folder: Path, *without: Path) -> dict[str, tuple[int, int, str]]:
    """Every file below a folder: mode, time and content. Git touches times of objects, so those do
    not count.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if any(path.is_relative_to(each) for each in without):
            continue
        status = path.lstat()
        content = (
            hashlib.sha256(path.read_bytes()).hexdigest()
            if path.is_file() and not path.is_symlink()
            else ""
        )
        found[str(path)] = (
            status.st_mode,
            0 if "objects" in path.parts else status.st_mtime_ns,
            content,
        )
    return found


def commits(repo: Path) -> set[str]:
    heads = [(path / "HEAD") for path in (repo / ".git" / "worktrees").iterdir()]
    named = [head.read_text().strip() for head in heads if not head.read_text().startswith("ref:")]
    return set(git(repo, "rev-list", "--all", *named).split())


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("mkfs.ext4"), reason="needs mkfs.ext4")
def test_one_pass_heals_all_that_can_be_healed_and_loses_nothing(
    world: World, zombies: psutil.Popen
) -> None:
    where = ("--config", str(world.config))
    quiet = (world.log, world.home / ".local")
    # below a coding agent or a CI runner nothing is ended, also by these tests
    may_end = "never ended" not in run(*where, "why", str(zombies.pid)).stdout
    if not may_end:
        world.config.write_text(
            world.config.read_text() + "[checks.zombie_processes]\nenabled = false\n"
        )
        zombies.kill()

    # A dry run lists what would be done and changes not one byte.
    before = fingerprint(world.home, *quiet), fingerprint(world.disk)
    code, planned = report("--dry-run", *where, PYTHONDONTWRITEBYTECODE="1")
    assert code == 1
    assert (fingerprint(world.home, *quiet), fingerprint(world.disk)) == before
    assert not (world.home / ".local").exists()
    text = run("--dry-run", *where).stdout
    assert "nothing was changed" in text

    # The run itself.
    known = commits(world.repo)
    code, document = report(*where)
    status = {
        (issue["name"], issue["target"]): issue["healed"] for issue in document["issues_detected"]
    }
    zombies_too = {("zombie_processes", ""): True} if may_end else {}
    assert status == {
        ("excessive_worktrees", str(world.repo)): True,
        ("stale_git_lock", str(world.repo)): True,
        **zombies_too,
        ("large_log_files", f"{world.home}/logs/*.log"): True,
        ("disk_space_critical", str(world.disk)): True,
    }, document
    assert (code, document["overall_success"], document["summary"]) == (
        0,
        True,
        f"Successfully healed {4 + may_end} issue(s).",
    )
    actions = {action["action"]: action for action in document["actions_taken"]}
    names = [issue["name"] for issue in document["issues_detected"]]
    assert names.index("disk_space_critical") > max(
        names.index("excessive_worktrees"), names.index("large_log_files")
    )

    # The same steps as in the dry run.
    listed = {
        action["action"]: [step["target"] for step in action["steps"]]
        for action in planned["actions_taken"]
    }
    assert {
        name: [step["target"] for step in action["steps"]] for name, action in actions.items()
    } == listed

    # Worktrees: twelve had to go, and only removable ones went; the others stay, each with its
    # reason. No commit is lost.
    gone = {each for each in world.removable if not Path(each).exists()}
    assert len(gone) == 25 - 13
    assert all(Path(each).exists() for each in world.kept)
    reasons = {kept["target"]: kept["reason"] for kept in actions["cleanup_worktrees"]["kept"]}
    assert reasons == {str(world.repo): "main", **world.kept}
    assert commits(world.repo) == known
    after = fingerprint(world.home, *quiet, world.home / "logs")
    lost = {
        path
        for path in before[0].keys() - after.keys()
        if not is_within(path, gone) and "/.git/" not in path
    }
    lost -= {path for path in lost if path.startswith(f"{world.home}/logs")}
    assert lost == set()
    changed = {
        path
        for path in before[0].keys() & after.keys()
        if before[0][path][2] != after[path][2] and "/logs/" not in path
    }
    assert changed == set()

    # What went is in quarantine, file by file.
    things = [
        path
        for path in (world.home / ".local").rglob("thing")
        if path.is_dir() and (path / "readme").exists()
    ]
    held = Counter(entry[2] for thing in things for entry in fingerprint(thing).values())
    assert held == Counter(
        before[0][path][2] for path in before[0] if is_within(path, gone) and path not in gone
    )

    # Locks: the stale one is gone and git works again; the held one stays with its commit.
    assert git(world.repo, "status", "--porcelain") == "M readme"
    assert (world.other / ".git" / "index.lock").exists()

    # Zombies, disk, and the person's own file.
    assert not psutil.pid_exists(zombies.pid) or zombies.status() == psutil.STATUS_ZOMBIE
    assert 80 < percent(world.disk) < 85
    assert (world.disk / "home" / "Documents" / "thesis.txt").read_text() == "years of work\n"

    # Logs: archives and file together hold every line once and in order, also those written
    # meanwhile.
    world.writer.kill()
    world.writer.wait()
    live = [line for line in restored(world).splitlines() if line.startswith(b"live line")]
    assert live == [b"live line %09d" % number for number in range(len(live))]
    assert len(live) > 100

    # And now it is a healthy host.
    code, document = report(*where)
    assert code == 0, document


def restored(world: World) -> bytes:
    """The live log as it would be had nobody touched it: its archive, then the file without the
    filler.
    """
    import json

    archives = [
        path.parent for path in (world.home / ".local").rglob("manifest.json")
        if json.loads(path.read_text())["original"] == str(world.log)
    ]  # fmt: skip
    packed = b"".join(
        library().decompress((each / "thing").read_bytes()) for each in sorted(archives)
    )
    return packed + b"\n".join(
        line for line in world.log.read_bytes().lstrip(b"\0").split(b"\n") if line.strip()
    )


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("mkfs.ext4"), reason="needs mkfs.ext4")
def test_what_cannot_be_healed_is_told_truthfully(world: World) -> None:
    """Where no worktree has been idle for long enough, the run ends with 1 and says what it
    kept.
    """
    text = world.config.read_text().replace("idle_days = 0", "idle_days = 30")
    world.config.write_text(text + "[checks.zombie_processes]\nenabled = false\n")
    code, document = report("--config", str(world.config))
    (action,) = (
        each for each in document["actions_taken"] if each["action"] == "cleanup_worktrees"
    )
    assert (code, action["status"]) == (1, "skipped")
    assert action["message"].startswith("Nothing safe to do; kept 25: ")
    assert document["summary"] == (
        "Healed 3/4 issues. 1 left as it is, as nothing safe can be done."
    )
    assert (
        subprocess.run(
            ["git", "-C", str(world.repo), "worktree", "list"], capture_output=True
        ).stdout.count(b"\n")
        == 25
    )
