"""Folders that git does not know any more, and merged branches that nobody has checked out."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from gitworld import commit, git, merged_worktree, repository, worktree
from judging import plan, view

from miyabi_healing.host.git import leftovers


def folders(repo: Path) -> dict[str, str]:
    place = view(repo)
    found = leftovers.leftover_folders(place, place.worktrees())
    return {str(each.path.relative_to(repo.parent)): each.why for each in found}


def branches(repo: Path) -> dict[str, str]:
    place = view(repo)
    return {
        each.name: each.evidence for each in leftovers.leftover_branches(place, place.worktrees())
    }


def orphan(repo: Path, folder: Path, name: str = "gone") -> Path:
    """A folder that says that it is a worktree of a repository, which knows nothing of it."""
    folder.mkdir(parents=True)
    (folder / "file").write_text("x\n")
    (folder / ".git").write_text(f"gitdir: {repo}/.git/worktrees/{name}\n")
    return folder


@pytest.mark.parametrize("place", ["trees/x", "repo/.claude/worktrees/x", "repo/.worktrees/x"])
def test_folder_whose_record_is_gone_is_found(home: Path, place: str) -> None:
    repo = repository(home / "repo")
    worktree(repo, "known")
    orphan(repo, home / place)
    assert folders(repo) == {place: "git's record of it, worktrees/gone, is gone"}


def test_worktree_that_git_knows_is_no_leftover(home: Path) -> None:
    repo = repository(home / "repo")
    for name in ("one", "two"):
        worktree(repo, name)
    (home / "way").symlink_to(home / "trees")
    git(repo, "worktree", "add", "-q", "-b", "three", str(home / "way" / "three"))
    assert folders(repo) == {}


def test_folder_that_was_moved_is_said_to_be_so(home: Path) -> None:
    repo = repository(home / "repo")
    tree = worktree(repo, "work")
    tree.rename(tree.with_name("there"))
    assert folders(repo) == {"trees/there": f"git's record of it, worktrees/work, is of {tree}"}


def test_what_belongs_to_others_is_no_leftover(home: Path) -> None:
    repo, other = repository(home / "repo"), repository(home / "other")
    worktree(repo, "known")
    worktree(other, "theirs")
    orphan(other, home / "trees" / "their-orphan")
    shutil.copytree(other, home / "trees" / "whole")
    (home / "trees" / "plain").mkdir()
    (home / "trees" / "link").symlink_to(orphan(repo, home / "far"))
    (home / "trees" / "odd").mkdir()
    (home / "trees" / "odd" / ".git").write_text("gitdir: \0\n")
    (home / "trees" / "pipe").mkdir()
    os.mkfifo(home / "trees" / "pipe" / ".git")
    assert folders(repo) == {}


@pytest.mark.root
def test_folder_of_another_user_is_no_leftover(home: Path) -> None:
    repo = repository(home / "repo")
    worktree(repo, "known")
    os.chown(orphan(repo, home / "trees" / "theirs"), 1234, 1234)
    assert folders(repo) == {}


def test_report_lists_leftover_folders_with_their_size_and_leaves_them(home: Path) -> None:
    repo = repository(home / "repo")
    tree = worktree(repo, "kept")
    (tree / "edit").write_bytes(bytes(os.urandom(300_000)))
    left = orphan(repo, home / "trees" / "left")
    (left / "big").write_bytes(os.urandom(2_000_000))
    planned = plan(repo)
    assert not planned.steps
    main, first, second = planned.kept
    assert (main.reason, first.target, first.reason) == ("main", str(left), "leftover folder")
    assert first.detail.startswith("2.0 MB, git's record")
    assert (second.target, second.detail[:6]) == (str(tree), "319 kB")


def test_merged_branch_that_nobody_has_checked_out_is_left_over(home: Path) -> None:
    repo = repository(home / "repo")
    merged_worktree(repo, "done")
    git(repo, "worktree", "remove", str(home / "trees" / "done"))
    git(repo, "branch", "untouched")
    found = branches(repo)
    assert set(found) == {"done", "untouched"}
    assert found["done"] == "merged: merging it into main would change nothing"
    assert found["untouched"].endswith("no commit was made on it")


def test_branch_that_somebody_needs_is_not_left_over(home: Path) -> None:
    repo = repository(home / "repo")
    for name in ("checked-out", "rebased", "bisected"):
        merged_worktree(repo, name, "merge")
    interactive = ("-c", "sequence.editor=true", "rebase", "-i", "--exec", "false", "HEAD~1")
    git(home / "trees" / "rebased", *interactive, check=False)
    git(home / "trees" / "bisected", "bisect", "start", "HEAD", "HEAD~1")
    git(home / "trees" / "bisected", "checkout", "-q", "--detach", "HEAD~1")
    git(repo, "checkout", "-q", "-b", "open")
    commit(repo, "open", "work\n")
    assert [each.branch for each in view(repo).worktrees()] == ["", "refs/heads/checked-out", ""]
    assert branches(repo) == {}, "main is the base"


def test_without_a_base_no_branch_is_left_over(home: Path) -> None:
    repo = repository(home / "repo")
    git(repo, "branch", "-m", "main", "strange")
    git(repo, "branch", "other")
    git(repo, "config", "init.defaultBranch", "nowhere")
    assert branches(repo) == {}
