"""Whose a lock of git is: its holder is looked for in its own worktree, and nowhere else."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from gitworld import git, repository, worktree

from conftest import wait_for
from miyabi_healing.host.git import repositories
from miyabi_healing.host.git.lock_places import holding_sites
from miyabi_healing.host.git.locks import OldLocks
from miyabi_healing.model.config import Config

Start = Callable[..., psutil.Popen]


@pytest.fixture
def repo(home: Path) -> Path:
    return repository(home / "src" / "app")


@pytest.fixture
def editor(tmp_path: Path) -> str:
    file = tmp_path / "waiting"
    file.write_text("#!/bin/sh\nexec sleep 100\n")
    file.chmod(0o755)
    return str(file)


@pytest.fixture
def terminal() -> Iterator[int]:
    ours, theirs = pty.openpty()
    yield theirs
    os.close(ours)
    os.close(theirs)


def old(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (1, 1))
    return path


def judged(repo: Path) -> OldLocks:
    return repositories.open_repository(str(repo), Config()).old_locks(600)


def stale(repo: Path) -> set[Path]:
    return {lock.path for lock in judged(repo).stale}


def reason(repo: Path, lock: Path) -> str:
    return next((why for each, why in judged(repo).kept if each.path == lock), "")


def waits(process: psutil.Popen, name: str) -> None:
    wait_for(lambda: any(each.name() == name for each in process.children(recursive=True)))


def commit_in(tree: Path, start: Start, editor: str) -> psutil.Popen:
    """A real ``git commit -a`` that waits in an editor; its lock is old."""
    (tree / "readme").write_text("changed\n")
    process = start("git", "commit", "-a", cwd=tree, env={**os.environ, "GIT_EDITOR": editor})
    waits(process, "sleep")
    return process


@pytest.mark.skipif(not shutil.which("less"), reason="it needs a pager")
def test_pager_in_another_worktree_holds_nothing(repo: Path, start: Start, terminal: int) -> None:
    reading, broken = worktree(repo, "reading"), worktree(repo, "broken")
    locks = [old(repo / ".git" / name) for name in ("index.lock", "worktrees/broken/index.lock")]
    shared, own = (
        old(repo / ".git" / name) for name in ("packed-refs.lock", "worktrees/reading/index.lock")
    )
    environment = {**os.environ, "PAGER": "less", "LESS": "R", "TERM": "xterm"}
    process = start(
        "git", "-p", "log", cwd=reading, env=environment,
        stdin=terminal, stdout=terminal, stderr=terminal,
    )  # fmt: skip
    waits(process, "less")
    assert stale(repo) == set(locks)
    assert f"at work in {reading}" in reason(repo, own)
    assert f"git log (pid {process.pid}" in reason(repo, shared)
    assert broken.exists()


@pytest.mark.parametrize("place", ["main", "linked"])
def test_commit_in_an_editor_holds_its_own_worktrees_lock(
    repo: Path, start: Start, editor: str, place: str
) -> None:
    tree = worktree(repo, "linked")
    mine, others = repo / ".git" / "index.lock", repo / ".git/worktrees/linked/index.lock"
    where = repo
    if place == "linked":
        where, mine, others = tree, others, mine
    process = commit_in(where, start, editor)
    old(mine), old(others)
    assert stale(repo) == {others}
    assert reason(repo, mine).startswith(f"may be held by git commit (pid {process.pid}, for ")


def test_worktree_within_the_main_one_is_not_the_main_one(
    repo: Path, start: Start, editor: str
) -> None:
    inside = repo / ".trees" / "inside"
    git(repo, "worktree", "add", "-q", str(inside))
    commit_in(inside, start, editor)
    own, main = repo / ".git/worktrees/inside/index.lock", repo / ".git/index.lock"
    old(own), old(main)
    assert stale(repo) == {main}, judged(repo).kept


def test_worktree_that_was_moved_by_hand_is_known_by_its_git_file(
    repo: Path, start: Start, editor: str
) -> None:
    tree = worktree(repo, "linked")
    moved = tree.rename(repo / "moved")
    commit_in(moved, start, editor)
    own, main = repo / ".git/worktrees/linked/index.lock", repo / ".git/index.lock"
    old(own), old(main)
    assert stale(repo) == {main}, judged(repo).kept


@pytest.mark.parametrize(
    "words",
    [
        ("--git-dir", ".git/worktrees/linked", "log"),
        ("--work-tree=../trees/linked", "log"),
        ("GIT_DIR=.git/worktrees/linked", "log"),
        ("GIT_WORK_TREE=../trees/linked", "log"),
        ("log", "../trees/linked"),
    ],
    ids=" ".join,
)
def test_git_in_the_main_worktree_that_names_another_one_holds_for_that(
    repo: Path, start: Start, home: Path, words: tuple[str, ...]
) -> None:
    worktree(repo, "linked"), worktree(repo, "other")
    named, other = (
        old(repo / ".git/worktrees" / name / "index.lock") for name in ("linked", "other")
    )
    environment = dict(os.environ)
    if words[0].startswith("GIT_"):
        name, _, value = words[0].partition("=")
        environment[name], words = value, words[1:]
    called_git(repo, start, home, words, environment)
    assert stale(repo) == {other}
    assert reason(repo, named)


def called_git(
    folder: Path,
    start: Start,
    home: Path,
    words: tuple[str, ...],
    environment: dict[str, str] | None = None,
) -> psutil.Popen:
    """A process that is git by its name and its words, and waits."""
    program = home / "bin" / "git"
    if not program.exists():
        program.parent.mkdir()
        program.symlink_to(sys.executable)
    script = "import time; print(flush=True); time.sleep(100)"
    process = start(
        str(program), "-c", script, *words, cwd=folder, env=environment, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"\n"
    return process


@pytest.mark.parametrize(
    ("command", "holds"),
    [
        ("worktree add ../x", True),
        ("gc --auto", True),
        ("maintenance run", True),
        ("branch -m a b", True),
        ("an-alias", True),
        ("fetch --all", False),
        ("status", False),
    ],
)
def test_what_reaches_into_other_worktrees_holds_their_locks(
    repo: Path, start: Start, home: Path, command: str, holds: bool
) -> None:
    reading = worktree(repo, "reading")
    worktree(repo, "broken")
    lock = old(repo / ".git/worktrees/broken/index.lock")
    called_git(reading, start, home, tuple(command.split()))
    assert stale(repo) == (set() if holds else {lock})


@pytest.mark.parametrize(("command", "holds"), [("commit", True), ("gc", True), ("log", True)])
def test_git_at_work_in_the_git_folder_holds_the_main_worktrees_locks(
    repo: Path, start: Start, home: Path, command: str, holds: bool
) -> None:
    lock = old(repo / ".git/index.lock")
    called_git(repo / ".git", start, home, (command,))
    assert bool(reason(repo, lock)) == holds


@pytest.mark.parametrize("command", ["fsmonitor--daemon", "cat-file"])
def test_what_never_locks_holds_nothing(repo: Path, start: Start, home: Path, command: str) -> None:
    lock = old(repo / ".git/index.lock")
    called_git(repo, start, home, (command, "run"))
    assert stale(repo) == {lock}


def test_child_of_git_in_another_worktree_holds_nothing(repo: Path, start: Start) -> None:
    reading = worktree(repo, "reading")
    worktree(repo, "broken")
    lock = old(repo / ".git/worktrees/broken/index.lock")
    git_command = ("git", "-c", "core.pager=sleep 100 #", "-p", "log")
    ours, theirs = pty.openpty()
    try:
        process = start(*git_command, cwd=reading, stdin=theirs, stdout=theirs, stderr=theirs)
        waits(process, "sleep")
        assert stale(repo) == {lock}
    finally:
        os.close(ours), os.close(theirs)


def test_editor_that_names_the_main_worktrees_file_holds_for_that_alone(
    repo: Path, start: Start
) -> None:
    worktree(repo, "linked")
    linked, main = repo / ".git/worktrees/linked/index.lock", repo / ".git/index.lock"
    old(linked), old(main)
    message = repo / ".git" / "COMMIT_EDITMSG"
    start("tail", "-f", str(message), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for(lambda: stale(repo) == {linked})


def test_who_names_the_whole_git_folder_holds_all_of_it(repo: Path, start: Start) -> None:
    worktree(repo, "linked")
    linked, main = repo / ".git/worktrees/linked/index.lock", repo / ".git/index.lock"
    old(linked), old(main)
    start("sh", "-c", "sleep 100; true", f"{repo}/.git")
    wait_for(lambda: not stale(repo))


def test_folder_whose_name_only_begins_like_the_git_folder_is_another(
    repo: Path, start: Start
) -> None:
    lock = old(repo / ".git/index.lock")
    start("sh", "-c", "echo ready; sleep 100", f"{repo}/.github/workflows")
    assert stale(repo) == {lock}


def test_submodules_lock_is_held_by_its_work_tree_the_superproject_and_its_own_worktrees(
    repo: Path, home: Path, start: Start, editor: str
) -> None:
    git(repo, "-c", "protocol.file.allow=always", "submodule", "add", "-q",
        str(repository(home / "vendor")), "vendor/x")  # fmt: skip
    git(repo, "commit", "-qam", "a submodule")
    git(repo / "vendor/x", "worktree", "add", "-q", "-b", "w", str(home / "elsewhere"))
    worktree(repo, "linked")
    module = repo / ".git/modules/vendor/x"
    linked = old(repo / ".git/worktrees/linked/index.lock")
    at_work = commit_in(repo / "vendor/x", start, editor)
    locks = [old(module / "index.lock"), old(module / "refs/heads/main.lock")]
    assert stale(repo) == {linked}
    for each in [at_work, *at_work.children(recursive=True)]:
        each.kill()
    wait_for(lambda: stale(repo) == {linked, *locks})
    commit_in(home / "elsewhere", start, editor)
    locks.append(old(module / "worktrees/elsewhere/index.lock"))
    main = old(repo / ".git/index.lock")
    assert stale(repo) == {linked, main}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("index.lock", {""}),
        ("HEAD.lock", {""}),
        ("ORIG_HEAD.lock", {""}),
        ("next-index-4711.lock", {""}),
        ("logs/HEAD.lock", {""}),
        ("refs/bisect/bad.lock", {""}),
        ("refs/worktree/x.lock", {""}),
        ("info/sparse-checkout.lock", {""}),
        ("refs/heads/topic.lock", None),
        ("refs/heads/worktrees/x/y.lock", None),
        ("refs/stash.lock", None),
        ("packed-refs.lock", None),
        ("config.lock", None),
        ("shallow.lock", None),
        ("gc.pid.lock", None),
        ("objects/info/commit-graph.lock", None),
        ("worktrees/a/index.lock", {"worktrees/a"}),
        ("worktrees/a/logs/HEAD.lock", {"worktrees/a"}),
        ("worktrees/unknown/HEAD.lock", {"worktrees/unknown"}),
        ("worktrees/a/modules/m/index.lock", {"worktrees/a"}),
        ("modules/m/index.lock", {"", "modules/m/worktrees/w"}),
        ("modules/m/worktrees/w/index.lock", {"modules/m/worktrees/w"}),
        # the name of a submodule, which is a path
        ("modules/deep/worktrees/n/index.lock", {"", "modules/m/worktrees/w"}),
    ],
)
def test_which_worktrees_can_hold_a_lock(path: str, expected: set[str] | None) -> None:
    sites = {"", "worktrees/a", "worktrees/b", "modules/m/worktrees/w"}
    found = holding_sites(path, sites)
    assert found == (None if expected is None else frozenset(expected))
