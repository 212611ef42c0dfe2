"""Worktrees with submodules: one goes where nothing in them would be missed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from gitworld import commit, git, merged_worktree, repository
from judging import context, plan, reason, verdict

from miyabi_healing.gate.handlers.table import apply, recheck

ALLOWED = ("-c", "protocol.file.allow=always")


@pytest.fixture
def repo(home: Path) -> Path:
    """A repository with a submodule, which has one of its own."""
    inner, library = repository(home / "src" / "inner"), repository(home / "src" / "library")
    git(library, *ALLOWED, "submodule", "--quiet", "add", str(inner), "inner")
    git(library, "commit", "-q", "-m", "inner")
    app = repository(home / "src" / "app")
    git(app, *ALLOWED, "submodule", "--quiet", "add", str(library), "vendor/library")
    git(app, "commit", "-q", "-m", "library")
    return app


def tree_with_submodules(repo: Path, name: str = "done") -> Path:
    tree = merged_worktree(repo, name)
    git(tree, *ALLOWED, "submodule", "--quiet", "update", "--init", "--recursive")
    assert (tree / "vendor/library/inner/readme").exists()
    return tree


def test_clean_one_goes(repo: Path, tmp_path: Path) -> None:
    tree = tree_with_submodules(repo)
    assert verdict(repo, tree).reason is None
    (step,) = plan(repo).steps
    there = context(tmp_path, repo)
    assert recheck(step, there) is None
    apply(step, there)
    assert not tree.exists()
    assert not (repo / ".git/worktrees/done").exists()


EDITS: dict[str, Callable[[Path], object]] = {
    "an edit": lambda sub: (sub / "readme").write_text("edited\n"),
    "an untracked file": lambda sub: (sub / "notes").write_text("mine\n"),
    "an ignored file": lambda sub: (sub / ".env").write_text("KEY=1\n"),
    "a hidden edit": lambda sub: (
        git(sub, "update-index", "--assume-unchanged", "readme"),
        (sub / "readme").write_text("edited\n"),
    ),
    "a stash": lambda sub: ((sub / "readme").write_text("edited\n"), git(sub, "stash", "--quiet")),
    "a branch": lambda sub: (
        git(sub, "checkout", "-q", "-b", "mine"),
        commit(sub, "mine", "mine\n"),
        git(sub, "checkout", "-q", "@{-1}"),
    ),
    "a commit that only the reflog knows": lambda sub: (
        commit(sub, "mine", "mine\n"),
        git(sub, "checkout", "-q", "HEAD~1"),
    ),
    "a worktree": lambda sub: git(
        sub, "worktree", "add", "-q", "--detach", f"{str(sub).split('/trees/')[0]}/elsewhere"
    ),
    "a bisect": lambda sub: git(sub, "bisect", "start"),
    "no remote": lambda sub: git(sub, "remote", "remove", "origin"),
}


@pytest.mark.parametrize("submodule", ["vendor/library", "vendor/library/inner"])
@pytest.mark.parametrize("edit", list(EDITS))
def test_one_with_something_in_its_submodules_stays(repo: Path, edit: str, submodule: str) -> None:
    tree = tree_with_submodules(repo)
    EDITS[edit](tree / submodule)
    assert reason(repo, tree) in ("submodules", "dirty", "untracked")


def test_one_with_another_commit_of_its_submodule_checked_out_stays(repo: Path) -> None:
    tree = tree_with_submodules(repo)
    git(tree / "vendor/library", "checkout", "-q", "HEAD~1")
    assert reason(repo, tree) == "dirty"


def test_work_in_a_submodule_that_is_not_checked_out_any_more_keeps_it(repo: Path) -> None:
    tree = tree_with_submodules(repo)
    commit(tree / "vendor/library", "mine", "mine\n")
    git(tree, "submodule", "--quiet", "deinit", "--force", "vendor/library")
    assert reason(repo, tree) == "submodules"


def test_repository_of_its_own_in_the_place_of_a_submodule_keeps_it(repo: Path) -> None:
    tree = tree_with_submodules(repo)
    shutil.rmtree(tree / "vendor/library")
    git(repo, "clone", "-q", str(repo.parent / "library"), str(tree / "vendor/library"))
    assert reason(repo, tree) == "repository inside"


def test_submodule_that_leads_elsewhere_keeps_it(repo: Path) -> None:
    """Whose git folder that is, nobody has looked."""
    tree = tree_with_submodules(repo)
    (tree / "vendor/library/.git").write_text(f"gitdir: {repo}/.git/modules/vendor/library\n")
    assert reason(repo, tree) == "repository inside"


def test_edit_in_a_submodule_after_the_plan_stops_the_step(repo: Path, tmp_path: Path) -> None:
    tree = tree_with_submodules(repo)
    (step,) = plan(repo).steps
    (tree / "vendor/library/inner/readme").write_text("late\n")
    assert str(recheck(step, context(tmp_path, repo))).startswith("submodules: in vendor/library")
