"""In a container: its own root is its own, what is mounted from outside is kept, and a person can
say that it is theirs alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from gitworld import git, merged_worktree, repository
from program import environment, settings

from conftest import PROJECT

LINES = b"".join(b"line %06d, and what it says\n" % number for number in range(60_000))
CONFIG = """
[git]
repos = ["{top}/repo"]
[logs]
patterns = ["{top}/logs/*.log"]
[checks.large_log_files]
threshold = 1
[checks.excessive_worktrees]
threshold = 1
[healers.cleanup_worktrees]
idle_days = 0
[healers.prune_logs]
archive_after_days = 0
[safety]
roots = ["{top}"]
ours_alone = {alone}
"""
# A container as runtimes make them: PIDs and mounts of its own, an overlay as its root, a folder
# from outside.
CONTAINER = """
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root" || exit 77
cd "$1/root"
mkdir -p workspaces old
mount -t proc proc proc
mount --rbind /dev dev
mount --bind "$2" workspaces
pivot_root . old
umount -l old
shift 2
exec "$@"
"""
PLAIN = {
    "COVERAGE_PROCESS_START": None,
    "COVERAGE_PROCESS_CONFIG": None,
    "MIYABI_HEALING__SAFETY__OURS_ALONE": None,
}
OUTSIDE, OWN = Path("/workspaces"), Path("/inner")


def inside(tmp_path: Path, world: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run something in a container that `world` is mounted into, as /workspaces."""
    root = tmp_path / "container"
    root.mkdir(exist_ok=True)
    done = subprocess.run(
        [
            "unshare",
            "--pid",
            "--mount",
            "--fork",
            "--kill-child",
            "--propagation",
            "private",
            "sh",
            "-c",
            CONTAINER,
            "sh",
            str(root),
            str(world),
            *command,
        ],
        env=environment(**PLAIN),
        capture_output=True,
        text=True,
    )
    if done.returncode == 77:
        pytest.skip("no overlay can be mounted here")
    return done


def furnish(folder: Path) -> None:
    """A log, and a repository with a merged worktree and a lock that are all fit to go."""
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "app.log").write_bytes(LINES)
    repo = repository(folder / "repo")
    merged_worktree(repo, "done")
    lock = repo / ".git" / "index.lock"
    lock.touch()
    os.utime(lock, (time.time() - 3600,) * 2)


# The container's own things are made in it: what runs there first
SCRIPT = """
import os, subprocess, sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {project!r}]
import test_container as t
from program import settings
top = Path(sys.argv[1])
os.environ["HOME"] = "/inner-home"
os.mkdir("/inner-home")
Path("/inner-home/.gitconfig").write_text("[safe]\\ndirectory = *\\n")
if top == t.OWN:
    t.furnish(top)
os.makedirs("/conf")
file = settings(Path("/conf"), t.CONFIG.format(top=top, alone=sys.argv[2]))
command = [sys.executable, {program!r}, "--config", file, "--json"]
done = subprocess.run(command, cwd="/", stdout=subprocess.PIPE, text=True)
print(done.stdout)
paths = (top / "logs/app.log", top / "trees/done", top / "repo/.git/index.lock")
left = [str(path) for path in paths if path.exists()]
import json
print(json.dumps(left))
"""


def heal(
    tmp_path: Path, world: Path, top: Path, alone: str = "[]"
) -> tuple[dict[str, Any], list[str]]:
    """Heal in a container what is in `top`; returns the report, and which of the things are
    left.
    """
    script = SCRIPT.format(
        tests=str(PROJECT / "tests"), project=str(PROJECT), program=str(PROJECT / "self_healer.py")
    )
    done = inside(tmp_path, world, sys.executable, "-c", script, str(top), alone)
    assert done.returncode == 0, done.stderr
    *report, left = done.stdout.strip().splitlines()
    return json.loads("\n".join(report)), json.loads(left)


@pytest.fixture
def world(home: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "world"
    furnish(folder)
    repo = folder / "repo"
    for path in (
        repo / ".git" / "worktrees" / "done" / "gitdir",
        folder / "trees" / "done" / ".git",
    ):
        # as the container made it
        path.write_text(path.read_text().replace(str(folder), str(OUTSIDE)))
    return folder


@pytest.mark.root
def test_what_lies_on_its_own_root_is_healed(world: Path, tmp_path: Path) -> None:
    document, left = heal(tmp_path, world, OWN)
    assert left == []
    assert document["summary"] == "Successfully healed 3 issue(s).", document


@pytest.mark.root
def test_what_is_mounted_from_outside_is_kept_and_that_is_said(world: Path, tmp_path: Path) -> None:
    document, left = heal(tmp_path, world, OUTSIDE)
    assert len(left) == 3
    assert (world / "logs" / "app.log").read_bytes() == LINES
    kept = [
        each["detail"]
        for row in document["actions_taken"]
        for each in row["kept"]
        if each["reason"] != "main"
    ]
    assert len(kept) == 3
    assert all(
        "who uses it from outside cannot be seen" in each and "[safety] ours_alone" in each
        for each in kept
    )
    assert any("what lies on mounts from outside was kept" in note for note in document["notes"])
    assert {issue["name"] for issue in document["issues_detected"]} == {
        "stale_git_lock", "large_log_files", "excessive_worktrees"
    }  # fmt: skip


@pytest.mark.root
def test_what_is_mounted_from_outside_is_healed_where_nobody_else_uses_it(
    world: Path, tmp_path: Path
) -> None:
    document, left = heal(tmp_path, world, OUTSIDE, '["/workspaces"]')
    assert left == [], document
    assert document["summary"] == "Successfully healed 3 issue(s)."


@pytest.mark.root
def test_container_that_shares_the_hosts_root_owns_nothing(home: Path, tmp_path: Path) -> None:
    """Only PIDs of its own, as in the case of a sandbox: the root is the host's, and whoever else
    is there is not seen.
    """
    furnish(tmp_path / "top")
    file = settings(home, CONFIG.format(top=tmp_path / "top", alone="[]"))
    done = subprocess.run(
        ["unshare", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child", sys.executable,
         str(PROJECT / "self_healer.py"), "--config", file, "--json"],
        cwd=home, env=environment(**PLAIN), capture_output=True, text=True,
    )  # fmt: skip
    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert all(row["status"] == "skipped" for row in document["actions_taken"])
    assert (tmp_path / "top" / "logs" / "app.log").read_bytes() == LINES


@pytest.mark.root
def test_log_that_is_written_outside_loses_no_line(home: Path, tmp_path: Path) -> None:
    furnish(tmp_path / "top")
    log = tmp_path / "top" / "logs" / "app.log"
    file = settings(home, CONFIG.format(top=tmp_path / "top", alone="[]"))
    with log.open("ab") as writer:
        subprocess.run(
            [
                "unshare",
                "--pid",
                "--mount",
                "--fork",
                "--mount-proc",
                "--kill-child",
                sys.executable,
                str(PROJECT / "self_healer.py"),
                "--config",
                file,
            ],
            cwd=home,
            env=environment(**PLAIN),
            capture_output=True,
        )
        writer.write(b"the next line\n")
    assert log.read_bytes() == LINES + b"the next line\n"


@pytest.mark.root
@pytest.mark.parametrize(
    "way", ["while umount -l /proc 2>&-; do :; done", "mount -t tmpfs tmpfs /proc"]
)
def test_without_processes_to_look_at_the_checks_that_need_them_are_unknown(
    home: Path, tmp_path: Path, start: Callable[..., psutil.Popen], way: str
) -> None:
    repo = repository(tmp_path / "repo")
    lock = repo / ".git" / "index.lock"
    lock.touch()
    os.utime(lock, (time.time() - 3600,) * 2)
    text = (
        f'[git]\nrepos = ["{repo}"]\n[checks.zombie_processes]\nthreshold = 5\n[disk]\nmounts = '
        '["/"]\n'
    )
    file = settings(home, text)
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            f'{way} && exec "$@"',
            "sh",
            sys.executable,
            str(PROJECT / "self_healer.py"),
            "--config",
            file,
            "--json",
        ],
        cwd=home,
        env=environment(**PLAIN),
        capture_output=True,
        text=True,
    )
    document = json.loads(done.stdout)
    assert done.returncode == 3, document
    assert {each["check"] for each in document["errors"]} == {
        "zombie_processes",
        "stale_git_lock",
    }, document["errors"]
    assert lock.exists()
    assert git(repo, "status", "--porcelain") == ""
