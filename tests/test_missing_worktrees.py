"""Worktrees whose folder is not there: the record of one that was deleted goes, that of one that is
only out of reach stays.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from gitworld import commit, git, merged_worktree, repository, worktree
from judging import context, make_idle, plan, reason, verdict

from miyabi_healing.gate.handlers.table import apply, recheck
from miyabi_healing.host.git import missing_worktrees
from miyabi_healing.host.git.worktrees import Waits
from miyabi_healing.model.steps import RetireWorktree


@pytest.fixture
def repo(home: Path) -> Path:
    return repository(home / "src" / "app")


def record(repo: Path, name: str) -> Path:
    return repo / ".git" / "worktrees" / name


@pytest.mark.parametrize("how", ["deleted", "emptied"])
def test_record_of_a_merged_one_that_was_deleted_goes_and_comes_back(
    repo: Path, tmp_path: Path, how: str
) -> None:
    tree = merged_worktree(repo, "gone")
    shutil.rmtree(tree)
    if how == "emptied":
        tree.mkdir()
    (step,) = plan(repo).steps
    assert isinstance(step, RetireWorktree)
    assert (step.path, step.counts) == (None, "pruned")
    assert "its folder was deleted" in step.reason
    there = context(tmp_path, repo)
    assert recheck(step, there) is None
    apply(step, there)
    assert not record(repo, "gone").exists()
    assert git(repo, "rev-parse", "gone")


def test_record_of_one_that_is_not_merged_waits_as_git_does(repo: Path) -> None:
    tree = worktree(repo, "work")
    make_idle(repo, tree, 40)
    shutil.rmtree(tree)
    found = verdict(repo, tree, Waits(7, 90)).reason
    assert found is not None
    assert found.category == "moved or missing"
    assert "90 days after its last use, and that was 40 days ago" in found.detail
    assert verdict(repo, tree, Waits(7, 30)).reason is None


def test_record_used_lately_waits(repo: Path) -> None:
    tree = merged_worktree(repo, "gone")
    shutil.rmtree(tree)
    assert reason(repo, tree, idle_days=7) == "not idle"


@pytest.mark.parametrize("value", ["never", "false"])
def test_git_was_told_to_keep_records_for_ever(repo: Path, value: str) -> None:
    tree = merged_worktree(repo, "gone")
    shutil.rmtree(tree)
    git(repo, "config", "gc.worktreePruneExpire", value)
    assert reason(repo, tree) == "moved or missing"
    git(repo, "config", "gc.worktreePruneExpire", "2.weeks.ago")
    assert reason(repo, tree) is None


def test_folder_around_it_is_not_there_either(repo: Path, tmp_path: Path) -> None:
    """It lies on a disk that is not mounted now, or its path is one inside a container."""
    tree = merged_worktree(repo, "usb")
    os.rename(tree.parent, tmp_path / "unplugged")
    assert reason(repo, tree) == "moved or missing"
    (record(repo, "usb") / "gitdir").write_text("/home/agent-of-nobody/workspace/.git\n")
    assert reason(repo, Path("/home/agent-of-nobody/workspace")) == "moved or missing"


@pytest.mark.parametrize("point", ["trees", "trees/gone"])
def test_disk_that_fstab_names_and_that_is_not_mounted(
    repo: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Its mount point is an empty folder then, on the same filesystem as all else."""
    tree = merged_worktree(repo, "gone")
    shutil.rmtree(tree)
    tree.mkdir()
    assert reason(repo, tree) is None
    monkeypatch.setattr(
        missing_worktrees, "_named_in_fstab", lambda: iter([str(repo.parent / point)])
    )
    assert reason(repo, tree) == "moved or missing"


def test_place_for_disks_that_has_none_mounted(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = merged_worktree(repo, "gone")
    shutil.rmtree(tree)
    monkeypatch.setattr(missing_worktrees, "_FOR_DISKS", (str(repo.parent),))
    assert reason(repo, tree) == "moved or missing"


@pytest.mark.parametrize("place", ["trees/elsewhere", "elsewhere"])
def test_one_that_was_moved_near_by_is_found_and_named(repo: Path, place: str) -> None:
    tree = merged_worktree(repo, "moved")
    merged_worktree(repo, "other")
    os.rename(tree, repo.parent / place)
    found = verdict(repo, tree).reason
    assert found is not None
    assert (found.category, found.remedy) == (
        "moved or missing",
        f"git worktree repair {repo.parent / place}",
    )


def test_what_was_added_and_never_committed_keeps_the_record(repo: Path) -> None:
    """It is in git's index alone, also where the folder is gone."""
    tree = merged_worktree(repo, "gone")
    (tree / "added").write_text("only here\n")
    git(tree, "add", "added")
    shutil.rmtree(tree)
    assert reason(repo, tree) == "dirty"


def test_commits_of_a_detached_one_keep_the_record(repo: Path) -> None:
    tree = worktree(repo, "gone", work=False)
    git(tree, "checkout", "-q", "--detach")
    commit(tree, "own", "of no branch\n")
    shutil.rmtree(tree)
    assert verdict(repo, tree, Waits(0, 0)).words.startswith("detached: no branch or tag holds")


def test_another_folder_at_its_path_is_nothing_to_us(repo: Path) -> None:
    tree = merged_worktree(repo, "gone")
    shutil.rmtree(tree)
    tree.mkdir()
    (tree / "notes").write_text("mine\n")
    assert reason(repo, tree) == "moved or missing"


def test_folder_that_is_back_stops_the_step(repo: Path, tmp_path: Path) -> None:
    tree = merged_worktree(repo, "gone")
    os.rename(tree, tmp_path / "aside")
    (step,) = plan(repo).steps
    os.rename(tmp_path / "aside", tree)
    assert recheck(step, context(tmp_path, repo)) == "its folder is back"
