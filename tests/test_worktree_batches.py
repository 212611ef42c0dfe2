"""Worktrees that are taken away together: each as if it were alone, all of them undone; and undo
that holds whatever has become of the branch meanwhile.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from gatework import work
from gitworld import commit, git, merged_worktree, repository
from judging import context, retire_all, undo_all

from miyabi_healing.gate import batch, recover
from miyabi_healing.gate.handlers import retire_worktree
from miyabi_healing.gate.primitives import quarantine_writer
from miyabi_healing.gate.primitives.context import Context, Refused
from miyabi_healing.model.actions import Outcome
from miyabi_healing.model.config import Budgets
from miyabi_healing.state import quarantine
from miyabi_healing.state.journal import Journal


@pytest.fixture
def repo(home: Path) -> Path:
    return repository(home / "src" / "app")


@pytest.fixture
def trees(repo: Path) -> list[Path]:
    return [merged_worktree(repo, f"tree{number}") for number in range(4)]


def test_all_go_at_once_and_all_come_back(
    repo: Path, trees: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    run = batch.apply_all
    monkeypatch.setattr(
        batch, "apply_all", lambda steps, where: asked.append(tuple(steps)) or run(steps, where)
    )
    where = context(tmp_path, repo)
    assert [str(each.status) for each in retire_all(repo, where)] == ["applied"] * 4
    assert [len(each) for each in asked] == [4]
    assert not any(tree.exists() for tree in trees)
    assert git(repo, "worktree", "list").count("\n") == 0
    assert undo_all(where) == [("undone", "given back")] * 4
    assert all(git(tree, "status", "--porcelain") == "" for tree in trees)
    assert git(repo, "for-each-ref", "refs/miyabi-healing") == ""


def test_where_they_are_now_is_on_disk_before_where_they_were(
    repo: Path, trees: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(retire_worktree, "sync_folder", synced.append)
    where = context(tmp_path, repo)
    retire_all(repo, where)
    entries = {each.folder for each in quarantine.find_entries(where.state)}
    assert set(synced[: len(entries)]) == entries
    assert set(synced[len(entries) :]) == {trees[0].parent, repo / ".git" / "worktrees"}


def test_budget_ends_a_batch_where_it_ends_single_steps(
    repo: Path, trees: list[Path], tmp_path: Path
) -> None:
    found = retire_all(repo, context(tmp_path, repo), Budgets(worktrees=3))
    assert [str(each.status) for each in found] == ["applied"] * 3 + ["vetoed"]
    assert sum(tree.exists() for tree in trees) == 1


def late_edit(tree: Path) -> None:
    (tree / "readme").write_text("at the last moment\n")


def late_commit(tree: Path) -> None:
    commit(tree, "late", "at the last moment\n")


def late_branch(tree: Path) -> None:
    git(tree, "checkout", "-q", "-b", "late")


@pytest.mark.parametrize("change", [late_edit, late_commit, late_branch])
def test_one_that_is_changed_at_the_last_moment_stays_and_the_others_go(
    repo: Path,
    trees: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None],
) -> None:
    take = quarantine_writer.quarantine_path

    def late(where: Context, root: Path, path: Path, *rest: object, **facts: object) -> object:
        if path == trees[2]:
            change(path)
        return take(where, root, path, *rest, **facts)  # type: ignore[arg-type]

    monkeypatch.setattr(quarantine_writer, "quarantine_path", late)
    found = retire_all(repo, context(tmp_path, repo))
    assert [str(each.status) for each in found] == ["applied", "applied", "skipped", "applied"]
    assert "at the last moment" in found[2].message
    assert trees[2].exists()
    assert git(trees[2], "status").startswith("On branch ")
    assert len(quarantine.find_entries(tmp_path / "state")) == 6


def test_one_whose_record_cannot_be_taken_comes_back_and_the_others_go(
    repo: Path, trees: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = quarantine_writer.quarantine_path

    def half(where: Context, root: Path, path: Path, *rest: object, **facts: object) -> object:
        if path.name == "tree1" and root == repo / ".git":
            raise Refused("it was replaced since it was measured")
        return take(where, root, path, *rest, **facts)  # type: ignore[arg-type]

    monkeypatch.setattr(quarantine_writer, "quarantine_path", half)
    found = retire_all(repo, context(tmp_path, repo))
    assert [str(each.status) for each in found] == ["applied", "skipped", "applied", "applied"]
    assert git(trees[1], "status", "--porcelain") == ""
    refs = git(repo, "for-each-ref", "--format=%(refname)", "refs/miyabi-healing").split()
    assert sorted(Path(each).parent.name for each in refs) == ["tree0", "tree2", "tree3"]


def test_interrupted_batch_leaves_all_as_they_were(
    repo: Path, trees: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = quarantine_writer.quarantine_path

    def interrupted(
        where: Context, root: Path, path: Path, *rest: object, **facts: object
    ) -> object:
        if path.name == "tree2" and root == repo / ".git":
            raise KeyboardInterrupt
        return take(where, root, path, *rest, **facts)  # type: ignore[arg-type]

    monkeypatch.setattr(quarantine_writer, "quarantine_path", interrupted)
    where = context(tmp_path, repo)
    with pytest.raises(KeyboardInterrupt):
        retire_all(repo, where)
    assert all(git(tree, "status", "--porcelain") == "" for tree in trees)
    assert git(repo, "for-each-ref", "refs/miyabi-healing") == ""
    with work(where) as prepared:
        assert [row.status for row in prepared.journal.steps("run")] == ["failed"] * 4


def test_outcomes_that_cannot_be_recorded_are_taken_back(
    repo: Path, trees: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Journal.finish

    def broken(self: Journal, number: int, outcome: Outcome) -> None:
        if outcome.status == "applied" and outcome.step.target.endswith("tree2"):
            raise OSError("disk I/O error")
        finish(self, number, outcome)

    monkeypatch.setattr(Journal, "finish", broken)
    found = retire_all(repo, context(tmp_path, repo))
    assert [str(each.status) for each in found][2] == "failed"
    assert trees[2].exists()
    assert git(trees[2], "status", "--porcelain") == ""


KILLED = """
import os, signal, sys
sys.path[:0] = {paths!r}
from pathlib import Path
from judging import context, retire_all
from miyabi_healing.gate.primitives import quarantine_writer
number, take = int(sys.argv[3]), quarantine_writer.quarantine_path
def taken(*arguments, **facts):
    global number
    number -= 1
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return take(*arguments, **facts)
quarantine_writer.quarantine_path = taken
retire_all(Path(sys.argv[1]), context(Path(sys.argv[2]), Path(sys.argv[1])))
"""


@pytest.mark.parametrize("number", [0, 1, 3, 4, 6])
def test_killed_batch_is_taken_back_by_the_next_run(
    repo: Path, trees: list[Path], tmp_path: Path, number: int
) -> None:
    code = KILLED.format(paths=[str(Path(__file__).parent), str(Path(__file__).parent.parent)])
    ended = subprocess.run([sys.executable, "-c", code, str(repo), str(tmp_path), str(number)])
    assert ended.returncode == -signal.SIGKILL
    where = context(tmp_path, repo)
    with work(where) as prepared:
        assert len(recover.recover(where, prepared.journal)) == 4
    assert all(git(tree, "status", "--porcelain") == "" for tree in trees)
    assert git(repo, "for-each-ref", "refs/miyabi-healing") == ""
    assert quarantine.find_entries(tmp_path / "state") == []


# Undo that holds


def retired(repo: Path, tmp_path: Path) -> tuple[Path, Context]:
    tree, where = merged_worktree(repo, "done", "squash"), context(tmp_path, repo)
    assert [str(each.status) for each in retire_all(repo, where)] == ["applied"]
    return tree, where


def test_worktree_comes_back_after_its_branch_was_deleted_and_git_has_collected_garbage(
    repo: Path, tmp_path: Path
) -> None:
    tree, where = retired(repo, tmp_path)
    tip = git(repo, "rev-parse", "done")
    git(repo, "branch", "-q", "-D", "done")
    git(repo, "worktree", "prune")
    git(repo, "reflog", "expire", "--expire=now", "--all")
    git(repo, "gc", "-q", "--prune=now")
    assert undo_all(where) == [("undone", "given back")]
    assert git(tree, "status", "--porcelain", "--branch") == "## done"
    assert git(tree, "rev-parse", "HEAD") == tip
    assert git(repo, "fsck", "--no-dangling") == ""
    assert git(repo, "for-each-ref", "refs/miyabi-healing") == ""


def test_detached_worktree_comes_back_after_what_held_its_commit_is_gone(
    repo: Path, tmp_path: Path
) -> None:
    tree, where = repo.parent / "trees" / "at", context(tmp_path, repo)
    git(repo, "worktree", "add", "-q", "--detach", str(tree), "main")
    tip = commit(tree, "own", "held by a tag\n")
    git(repo, "tag", "held", tip)
    assert [str(each.status) for each in retire_all(repo, where)] == ["applied"]
    git(repo, "tag", "-d", "held")
    git(repo, "gc", "-q", "--prune=now")
    assert undo_all(where) == [("undone", "given back")]
    assert git(tree, "rev-parse", "HEAD") == tip


def moved_branch(repo: Path, tree: Path) -> None:
    git(repo, "branch", "-q", "--force", "done", "main")


def branch_elsewhere(repo: Path, tree: Path) -> None:
    git(repo, "worktree", "add", "-q", str(tree.parent / "again"), "done")


def branch_below(repo: Path, tree: Path) -> None:
    git(repo, "branch", "-q", "-D", "done")
    git(repo, "branch", "-q", "done/again", "refs/miyabi-healing/run/done/tip")


def name_of_another(repo: Path, tree: Path) -> None:
    git(repo, "worktree", "add", "-q", "-b", "other", str(tree))


def record_of_another(repo: Path, tree: Path) -> None:
    git(repo, "worktree", "add", "-q", "-b", "other", str(repo.parent / "done"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (moved_branch, "its branch done is at "),
        (branch_elsewhere, "its branch done is checked out in "),
        (branch_below, "its branch done is gone, and done/again is in the way of it"),
        (name_of_another, "something else is at "),
        (record_of_another, "something else is at "),
    ],
)
def test_undo_that_would_not_be_one_is_refused_before_anything_is_changed(
    repo: Path, tmp_path: Path, change: Callable[[Path, Path], None], told: str
) -> None:
    tree, where = retired(repo, tmp_path)
    change(repo, tree)
    before = git(repo, "for-each-ref"), git(repo, "worktree", "list")
    ((status, message),) = undo_all(where)
    assert (str(status), told in message) == ("refused", True), message
    assert (git(repo, "for-each-ref"), git(repo, "worktree", "list")) == before
    assert len(quarantine.find_entries(where.state)) == 2


def test_what_another_entry_holds_is_kept_for_each_by_itself(repo: Path, tmp_path: Path) -> None:
    """Else purging the one would let the other's commits go."""
    one, other = merged_worktree(repo, "one"), merged_worktree(repo, "other")
    git(one, "checkout", "-q", "--detach")
    lost = commit(one, "lost", "only in the reflogs\n")
    git(one, "checkout", "-q", "one")
    git(other, "checkout", "-q", "--detach", lost)
    git(other, "checkout", "-q", "other")
    for folder in ("first", "second"):
        found = retire_all(repo, context(tmp_path / folder, repo), Budgets(worktrees=1))
        assert str(found[0].status) == "applied"
    held = git(repo, "for-each-ref", "--format=%(objectname)", "refs/miyabi-healing").split()
    assert held.count(lost) == 2
