"""Worktrees: counted as git counts, kept for every reason there is, retired so that they come back
whole.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from gitworld import commit, git, merge, merged_worktree, repository, worktree
from judging import context, ignoring, make_idle, plan, put, reason, verdict, view

from conftest import wait_for
from miyabi_healing.gate import execute
from miyabi_healing.gate.handlers.table import apply, recheck
from miyabi_healing.gate.primitives import quarantine_writer
from miyabi_healing.gate.primitives.context import Refused
from miyabi_healing.host import readings, users
from miyabi_healing.host.git import merges, repository_paths, scratch_git
from miyabi_healing.host.git import repositories as git_view
from miyabi_healing.host.git.index import is_ordinary
from miyabi_healing.host.git.last_use import last_use
from miyabi_healing.host.git.worktrees import Waits, WorktreeInspector
from miyabi_healing.model.config import Config, GitSettings, SafetySettings
from miyabi_healing.model.steps import RetireWorktree
from miyabi_healing.support.files import identity_at

assert execute
assert readings


@pytest.fixture
def repo(home: Path) -> Path:
    return repository(home / "src" / "app")


@pytest.mark.parametrize("number", [0, 1, 3])
def test_count_is_what_git_lists(repo: Path, number: int) -> None:
    for each in range(number):
        worktree(repo, f"w{each}")
    shutil.rmtree(repo.parent / "trees" / "w0", ignore_errors=True)  # prunable ones are listed, too
    listed = git(repo, "worktree", "list", "--porcelain", "-z").count("worktree ")
    assert view(repo).worktree_count == listed == number + 1


def test_bare_repository_counts_itself(repo: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(repo), "bare.git")
    git(tmp_path / "bare.git", "worktree", "add", "-q", str(tmp_path / "w"), "main")
    assert view(tmp_path / "bare.git").worktree_count == 2
    assert view(tmp_path / "w").common == tmp_path / "bare.git"


@pytest.mark.parametrize("how", ["ff", "merge", "squash", "edited", "rebase"])
def test_merged_however_it_was_merged(repo: Path, how: str) -> None:
    tree = merged_worktree(repo, "done", how)
    commit(repo, "later", "main moved on\n")
    assert reason(repo, tree) is None


def test_judging_writes_nothing_into_the_repository(repo: Path) -> None:
    tree = merged_worktree(repo, "done", "squash")
    before = state(repo.parent)
    assert reason(repo, tree) is None
    assert state(repo.parent) == before


def state(folder: Path) -> dict[Path, tuple[bytes, int]]:
    """Contents and times; git touches the times of objects that it would have had to write, as a
    protection from gc.
    """
    return {
        path: (
            path.read_bytes() if path.is_file() else b"",
            0 if "objects" in path.parts else path.lstat().st_mtime_ns,
        )
        for path in folder.rglob("*")
    }


def keepers(repo: Path) -> Iterator[tuple[str, Path]]:
    """One worktree for each reason to keep, all of them merged otherwise."""
    tree = merged_worktree(repo, "dirty")
    (tree / "readme").write_text("changed\n")
    yield "dirty", tree
    tree = merged_worktree(repo, "staged")
    (tree / "new").write_text("staged\n")
    git(tree, "add", "new")
    yield "dirty", tree
    tree = merged_worktree(repo, "untracked")
    (tree / "a new\nfile").write_text("mine\n")
    yield "untracked", tree
    tree = merged_worktree(repo, "secret")
    (tree / ".env").write_text("KEY=1\n")
    yield "ignored files", tree
    tree = merged_worktree(repo, "nested")
    git(repo, "init", "-q", str(tree / "node_modules" / "x"))
    yield "ignored files", tree
    tree = merged_worktree(repo, "hidden")
    git(tree, "update-index", "--assume-unchanged", "readme")
    (tree / "readme").write_text("hidden edit\n")
    yield "hidden edits", tree
    tree = merged_worktree(repo, "skipped")
    git(tree, "update-index", "--skip-worktree", "readme")
    (tree / "readme").write_text("hidden edit\n")
    yield "hidden edits", tree
    tree = worktree(repo, "unpushed")
    yield "not merged", tree
    tree = worktree(repo, "fresh", work=False)
    yield "fresh", tree
    tree = merged_worktree(repo, "detached")
    git(tree, "checkout", "-q", "--detach")
    commit(tree, "own", "of no branch\n")
    yield "detached", tree
    tree = merged_worktree(repo, "locked")
    git(repo, "worktree", "lock", "--reason", "on a stick", str(tree))
    yield "locked", tree
    tree = merged_worktree(repo, "bisecting")
    git(tree, "bisect", "start")
    yield "in progress", tree
    tree = merged_worktree(repo, "own-refs")
    git(tree, "update-ref", "refs/worktree/mine", "HEAD")
    yield "refs of its own", tree
    tree = merged_worktree(repo, "moved")
    os.rename(tree, tree.parent / "elsewhere")
    yield "moved or missing", tree


def test_every_reason_to_keep_is_found_and_named(repo: Path) -> None:
    expected = {tree: category for category, tree in keepers(repo)}
    assert {tree: reason(repo, tree) for tree in expected} == expected


def test_half_done_rebase_is_kept(repo: Path) -> None:
    tree = worktree(repo, "rebasing")
    commit(tree, "readme", "theirs\n")
    commit(repo, "readme", "ours\n")
    git(tree, "rebase", "main", check=False)
    assert reason(repo, tree) in ("in progress", "detached")


def test_untracked_files_are_seen_though_status_is_told_to_hide_them(repo: Path) -> None:
    tree = merged_worktree(repo, "done")
    git(repo, "config", "status.showUntrackedFiles", "no")
    (tree / "mine").write_text("x")
    assert reason(repo, tree) == "untracked"


def test_regenerable_ignored_folders_do_not_keep_a_worktree(repo: Path) -> None:
    tree = merged_worktree(repo, "done")
    (tree / "node_modules" / "left-pad").mkdir(parents=True)
    (tree / "node_modules" / "left-pad" / "index.js").write_text("x")
    assert reason(repo, tree) is None


def test_worktree_used_lately_is_kept(repo: Path) -> None:
    tree = merged_worktree(repo, "done")
    assert reason(repo, tree, idle_days=7) == "not idle"


def test_process_inside_keeps_a_worktree(repo: Path) -> None:
    tree = merged_worktree(repo, "done")
    (tree / "node_modules").mkdir()
    with subprocess.Popen(["sleep", "60"], cwd=tree / "node_modules") as sleeper:
        try:
            assert reason(repo, tree) == "in use"
        finally:
            sleeper.kill()
    assert reason(repo, tree) is None


def in_a_container(
    start: Callable[..., psutil.Popen], tree: Path, at: Path, folder: str
) -> psutil.Popen:
    """Somebody in mounts of their own, in which the worktree has another name; in its `folder`,
    with ``.`` for its top.
    """
    at.mkdir()
    script = 'mount --bind "$1" "$2" && cd "$3" && echo ready && exec sleep 100'
    process = start(
        "unshare",
        "--mount",
        "--fork",
        "--kill-child",
        "sh",
        "-c",
        script,
        "sh",
        str(tree),
        str(at),
        str(at / folder),
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.root
@pytest.mark.parametrize("folder", [".", "deep", "/"])
def test_worktree_that_a_container_has_is_kept(
    repo: Path, tmp_path: Path, start: Callable[..., psutil.Popen], folder: str
) -> None:
    tree = merged_worktree(repo, "done")
    (tree / "node_modules" / "deep").mkdir(parents=True)
    process = in_a_container(
        start, tree, tmp_path / "ws", folder.replace("deep", "node_modules/deep")
    )
    assert reason(repo, tree) == "in use"
    process.kill()
    process.wait()
    wait_for(lambda: reason(repo, tree) is None)


@pytest.mark.root
def test_whoever_comes_from_a_container_after_the_recheck_is_found_and_it_is_put_back(
    repo: Path, tmp_path: Path, start: Callable[..., psutil.Popen], monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = merged_worktree(repo, "done")
    (step,) = plan(repo).steps
    assert recheck(step, context(tmp_path, repo)) is None
    in_a_container(start, tree, tmp_path / "ws", ".")
    with pytest.raises(Refused, match="in use at the last moment: by "):
        apply(step, context(tmp_path, repo))
    assert (tree / "readme").exists()


def test_user_of_what_git_knows_of_a_worktree_keeps_it(
    repo: Path, start: Callable[..., psutil.Popen]
) -> None:
    tree = merged_worktree(repo, "done")
    start("sleep", "100", cwd=repo / ".git" / "worktrees" / "done")
    wait_for(lambda: reason(repo, tree) == "in use")


def test_worktree_that_somebody_unseen_could_use_is_kept_also_where_its_folder_is_gone(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, gone = merged_worktree(repo, "done"), merged_worktree(repo, "gone")
    shutil.rmtree(gone)
    assert len(plan(repo, prune_days=0).steps) == 2
    monkeypatch.setattr(users, "container", lambda: "this is a container")
    found = plan(repo, prune_days=0)
    assert found.steps == ()
    assert [each.reason for each in found.kept if each.reason != "main"] == ["could be in use"] * 2
    alone = Config(safety=SafetySettings(ours_alone=(str(repo), str(tree.parent))))
    assert len(plan(repo, alone, prune_days=0).steps) == 2


def test_work_in_any_base_is_merged(repo: Path) -> None:
    """Both main and master are there; either is enough, and neither is a worktree's to lose."""
    old = merged_worktree(repo, "old")
    git(repo, "branch", "master")
    new, work = merged_worktree(repo, "new"), worktree(repo, "work")
    git(repo, "checkout", "-q", "--detach")
    git(repo, "worktree", "add", "-q", str(repo.parent / "trees/master"), "master")
    found = [reason(repo, tree) for tree in (old, new, work, repo.parent / "trees/master")]
    assert found == [None, None, "not merged", "base branch"]
    place = view(repo, Config(git=GitSettings(base="master")))
    asked = {tree.path: WorktreeInspector(place).verdict(tree).reason for tree in place.worktrees()}
    assert asked[old] is None
    assert str(asked[new]).startswith("not merged: ")


def test_without_a_base_nothing_is_merged(repo: Path) -> None:
    tree = merged_worktree(repo, "done")
    git(repo, "branch", "-m", "main", "theirs")
    assert reason(repo, tree) == "base unknown"
    for name in ("develop", "trunk"):  # somebody's work, as long as no remote has one
        git(repo, "branch", "-m", git(repo, "symbolic-ref", "--short", "HEAD"), name)
        assert reason(repo, tree) == "base unknown"


@pytest.mark.parametrize("branch", ["main", "master", "develop", "trunk", "theirs"])
def test_base_of_a_remote_counts_whatever_the_local_one_lacks(
    repo: Path, tmp_path: Path, branch: str
) -> None:
    """It is behind, or not there; and what is in the local one alone counts as well."""
    git(repo, "branch", "-m", "main", branch)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--origin", "github", str(repo), str(clone))
    pulled, local = worktree(clone, "pulled"), merged_worktree(clone, "local")
    git(repo, "fetch", "-q", str(clone), "pulled:pulled")
    merge(repo, "pulled", "squash")
    git(clone, "fetch", "-q", "github")
    assert [reason(clone, tree) for tree in (pulled, local)] == [
        None,
        "not merged" if branch == "theirs" else None,
    ]
    git(clone, "remote", "set-head", "github", "-d")
    assert reason(clone, pulled) == ("base unknown" if branch == "theirs" else None)


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        os.fsdecode(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() and not path.is_symlink() else b"",
        )
        for path in sorted(folder.rglob("*"))
    }


def test_retired_worktree_is_whole_in_quarantine_and_its_branch_stays(
    repo: Path, tmp_path: Path
) -> None:
    tree = merged_worktree(repo, "done")
    (tree / "node_modules").mkdir()
    (tree / "node_modules" / "x").write_text("x")
    admin = repo / ".git" / "worktrees" / "done"
    files, kept, tip = snapshot(tree), snapshot(admin), git(repo, "rev-parse", "done")
    (step,) = plan(repo).steps
    done = apply(step, context(tmp_path, repo))
    assert not tree.exists()
    assert git(repo, "worktree", "list").count("\n") == 0
    assert git(repo, "rev-parse", "done") == tip
    entries = done.undo["entries"]
    assert isinstance(entries, list)
    assert snapshot(Path(entries[0]) / "thing") == files
    assert snapshot(Path(entries[1]) / "thing") == kept
    assert Path(entries[0]).stat().st_mode & 0o777 == 0o700
    # what the page on getting things back tells people to do
    os.rename(Path(entries[0]) / "thing", tree)
    os.rename(Path(entries[1]) / "thing", admin)
    assert git(tree, "status", "--porcelain") == ""
    assert git(repo, "worktree", "list").count("\n") == 1


def test_commits_only_its_reflog_knows_survive_garbage_collection(
    repo: Path, tmp_path: Path
) -> None:
    tree = worktree(repo, "amended")
    lost = git(tree, "rev-parse", "HEAD")
    git(tree, "commit", "-q", "--amend", "-m", "better words")
    git(repo, "merge", "-q", "--squash", "amended")
    git(repo, "commit", "-q", "-m", "squashed")
    git(repo, "reflog", "expire", "--expire=now", "refs/heads/amended")
    (step,) = plan_despite_reflog(repo)
    apply(step, context(tmp_path, repo))
    git(repo, "gc", "-q", "--prune=now")
    assert git(repo, "cat-file", "-t", lost) == "commit"


def plan_despite_reflog(repo: Path) -> tuple[RetireWorktree, ...]:
    """The step as it would be, had the branch's own reflog not expired: only the worktree's knows
    the commit now.
    """

    (tree,) = view(repo).worktrees()
    identities = identity_at(tree.admin), identity_at(tree.path)
    return (
        RetireWorktree(
            target="", reason="", path=tree.path, admin=tree.admin, common=repo / ".git",
            admin_identity=identities[0], identity=identities[1],
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("patterns", "file", "missed"),
    [
        (("*.csv",), "data/target/labels.csv", True),
        (("*.pt",), "node_modules/weights.pt", True),
        (("target",), "data/target/labels.csv", False),
        (("node_modules/",), "a/node_modules/x/index.js", False),
        (("vendor/bundle/",), "vendor/bundle/x.rb", False),
        (("bundle/",), "bundle/x.rb", True),
        (("*.egg-info",), "a.egg-info/PKG-INFO", False),
        (("*.key",), "signing.key", True),
        (("*.pyc",), "pkg/a.pyc", False),
        ((".DS_Store",), "pkg/.DS_Store", False),
        ((".claude/",), ".claude/settings.local.json", False),
        ((".claude/",), ".claude/plan.md", True),
        (("*.swp",), ".thesis.txt.swp", True),
    ],
)
def test_ignored_file_counts_by_itself_and_an_ignored_folder_as_what_it_is_known_for(
    repo: Path, patterns: tuple[str, ...], file: str, missed: bool
) -> None:
    """That a folder is only called ``target`` says nothing of what a person has put there."""
    ignoring(repo, *patterns)
    tree = merged_worktree(repo, "done")
    put(tree / file)
    assert reason(repo, tree) == ("ignored files" if missed else None)


def test_copy_of_the_main_worktrees_file_holds_nothing(repo: Path) -> None:
    ignoring(repo, ".env", "conf/", "*.link")
    tree = merged_worktree(repo, "done")
    for top in (repo, tree):
        put(top / ".env", "TOKEN=one\n")
        put(top / "conf/local.toml", "x = 1\n")
    (tree / "a.link").symlink_to(repo / ".env")
    (tree / "dead.link").symlink_to(repo / "gone")
    assert reason(repo, tree) is None
    put(tree / "conf/local.toml", "x = 2\n")
    assert reason(repo, tree) == "ignored files"
    put(tree / "conf/local.toml", "x = 1\n")
    (tree / "b.link").symlink_to("/etc/passwd")
    assert reason(repo, tree) == "ignored files"
    (tree / "b.link").unlink()
    (repo / ".env").unlink()
    assert reason(repo, tree) == "ignored files"


def test_copy_that_is_too_large_to_be_compared_is_kept(repo: Path) -> None:
    ignoring(repo, "*.bin")
    tree = merged_worktree(repo, "done")
    for top in (repo, tree):
        (top / "a.bin").write_bytes(bytes((1 << 20) + 1))
    assert reason(repo, tree) == "ignored files"


def test_folder_of_tools_may_be_a_link_and_a_repository_in_it_is_found(
    repo: Path, tmp_path: Path
) -> None:
    ignoring(repo, "node_modules", "venv")
    tree = merged_worktree(repo, "done")
    (tmp_path / "shared").mkdir()
    (tree / "node_modules").symlink_to(tmp_path / "shared")
    assert reason(repo, tree) is None
    git(repo, "init", "-q", str(tree / "venv/src/mine"))
    assert reason(repo, tree) == "ignored files"


def test_untracked_litter_and_what_an_agent_has_written_hold_nothing(repo: Path) -> None:
    commit_of_settings = put(repo / ".claude/settings.local.json", "{}\n")
    git(repo, "add", "-f", str(commit_of_settings))
    git(repo, "commit", "-q", "-m", "settings")
    tree = merged_worktree(repo, "done")
    put(tree / "pkg/.DS_Store")
    put(tree / ".claude/settings.local.json", "{1}\n")
    assert reason(repo, tree) is None
    git(tree, "add", ".claude/settings.local.json")  # somebody means to commit it
    assert reason(repo, tree) == "dirty"
    git(tree, "reset", "-q")
    put(tree / "pkg/notes.txt")
    assert reason(repo, tree) == "untracked"


def test_detached_worktree_goes_where_a_branch_or_a_tag_holds_its_commit(
    repo: Path, tmp_path: Path
) -> None:
    merged_worktree(repo, "moves-main")
    at = {"old-main": "main~1", "branch": "moves-main", "tag": "main", "alone": "main"}
    trees = {name: repo.parent / "trees" / f"at-{name}" for name in at}
    for name, tree in trees.items():
        git(repo, "worktree", "add", "-q", "--detach", str(tree), at[name])
    for name in ("tag", "alone"):
        commit(trees[name], f"{name}.txt", "of no branch\n")
    git(trees["tag"], "tag", "kept")
    found = {name: reason(repo, tree) for name, tree in trees.items()}
    assert found == {"old-main": None, "branch": None, "tag": None, "alone": "detached"}


def test_worktree_in_which_nobody_ever_began_goes_after_a_longer_time(repo: Path) -> None:
    """Its branch stays; one that only looks so, and has work, is not merged."""
    fresh = worktree(repo, "fresh", work=False)
    lost = merged_worktree(repo, "lost")
    work = worktree(repo, "work")
    for name in ("lost", "work"):
        (repo / ".git/logs/refs/heads" / name).unlink()
    for tree in (fresh, lost, work):
        make_idle(repo, tree, 29)
    assert [reason(repo, tree, 7) for tree in (fresh, lost, work)] == [
        "fresh",
        "no reflog",
        "no reflog",
    ]
    for tree in (fresh, lost, work):
        make_idle(repo, tree, 31)
    assert [reason(repo, tree, 7) for tree in (fresh, lost, work)] == [None, None, "not merged"]


def test_rewritten_reflog_makes_no_worktree_used(repo: Path) -> None:
    """As git gc does. What is written in it counts, not when; what cannot be read counts as now."""
    tree = merged_worktree(repo, "done")
    (place,) = (each for each in view(repo).worktrees() if each.path == tree)
    reflog = place.admin / "logs" / "HEAD"
    old = time.time() - 40 * 86_400
    *before, last = reflog.read_text().splitlines(keepends=True)
    head, tab, words = last.partition("\t")
    who, _seconds, zone = head.rsplit(" ", 2)
    for folder, _folders, names in (*os.walk(tree), *os.walk(place.admin)):
        for name in (*names, "."):
            os.utime(os.path.join(folder, name), (old, old))
    reflog.write_text("".join([*before, f"{who} {int(old)} {zone}{tab}{words}"]))
    assert last_use(place).time == pytest.approx(old, abs=2)
    reflog.write_text("".join([*before, f"{who} {int(old) + 86_400} {zone}{tab}{words}"]))
    assert last_use(place).time == pytest.approx(old + 86_400, abs=2)
    reflog.write_text("no reflog\n")
    assert last_use(place).time == pytest.approx(time.time(), abs=60)
    reflog.unlink()
    assert last_use(place).time == pytest.approx(old, abs=2)


def test_worktree_locked_by_an_agent_that_is_gone_goes_with_its_lock(
    repo: Path, tmp_path: Path
) -> None:
    tree = merged_worktree(repo, "done")
    gone = subprocess.Popen(["true"])
    gone.wait()
    git(repo, "worktree", "lock", "--reason", f"openclaw pid={gone.pid}", str(tree))
    (step,) = plan(repo).steps
    there = context(tmp_path, repo)
    assert recheck(step, there) is None
    apply(step, there)
    assert not tree.exists()
    (kept,) = tmp_path.rglob("locked")
    assert kept.read_text().strip() == f"openclaw pid={gone.pid}"


CHANGES = {
    "an edit": lambda repo, tree: (tree / "readme").write_text("late\n"),
    "a new file": lambda repo, tree: (tree / "late").write_text("late\n"),
    "a commit": lambda repo, tree: commit(tree, "late", "late\n"),
    "a lock": lambda repo, tree: git(repo, "worktree", "lock", str(tree)),
    "the lock of an agent that lives": lambda repo, tree: git(
        repo, "worktree", "lock", "--reason", f"openclaw pid={os.getpid()}", str(tree)
    ),
    "a replacement": lambda repo, tree: (os.rename(tree, tree.with_name("away")), tree.mkdir()),
    "its removal": lambda repo, tree: git(repo, "worktree", "remove", "--force", str(tree)),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_change_between_plan_and_step_stops_it(repo: Path, tmp_path: Path, change: str) -> None:
    tree = merged_worktree(repo, "done")
    (step,) = plan(repo).steps
    assert recheck(step, context(tmp_path, repo)) is None
    CHANGES[change](repo, tree)
    assert recheck(step, context(tmp_path, repo)) is not None


def test_edit_after_the_recheck_is_found_after_the_rename_and_put_back(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = merged_worktree(repo, "done")
    (step,) = plan(repo).steps
    rename = os.rename

    def late(source: object, target: object, **keywords: object) -> None:
        if source == "done":
            (tree / "readme").write_text("at the last moment\n")
        rename(source, target, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "rename", late)
    with pytest.raises(Refused, match="dirty at the last moment"):
        apply(step, context(tmp_path, repo))
    assert (tree / "readme").read_text() == "at the last moment\n"
    assert git(tree, "status", "--porcelain") == "M readme"
    assert not any((tmp_path / "state").rglob("manifest.json"))


def test_worktree_whose_second_half_cannot_be_taken_leaves_no_ref_behind(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = merged_worktree(repo, "done")
    git(tree, "checkout", "-q", "--detach")
    commit(tree, "lost", "only in the reflog\n")
    git(tree, "checkout", "-q", "done")
    (step,) = plan(repo).steps
    take = quarantine_writer.quarantine_path

    def half(*arguments: object, **facts: object) -> quarantine_writer.WrittenEntry:
        if arguments[4] == "worktree-admin":
            raise Refused("it was replaced since it was measured")
        return take(*arguments, **facts)  # type: ignore[arg-type]

    monkeypatch.setattr(quarantine_writer, "quarantine_path", half)
    with pytest.raises(Refused, match="replaced"):
        apply(step, context(tmp_path, repo))
    assert git(tree, "status", "--porcelain") == ""
    assert git(repo, "for-each-ref", "refs/miyabi-healing") == ""


def test_plan_takes_the_longest_unused_first_and_counts_what_it_kept(repo: Path) -> None:
    trees = [merged_worktree(repo, name) for name in ("old", "young", "middle")]
    worktree(repo, "unpushed")
    for days, tree in zip((30, 1, 10), trees, strict=True):
        then = time.time() - days * 86_400
        os.utime(repo / ".git" / "worktrees" / tree.name, (then, then))
    found = plan(repo)
    assert [Path(step.target).name for step in found.steps] == ["old", "middle", "young"]
    assert Counter(each.reason for each in found.kept) == {"main": 1, "not merged": 1}


@pytest.mark.root
@pytest.mark.parametrize("missing", ["disk", "memory"])
def test_merged_work_is_found_without_room_on_the_disk_and_without_a_place_in_memory(
    repo: Path, mounted: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """A full disk is what worktrees are taken away for; asking what is merged writes trees, if only
    for a moment.
    """
    merged_worktree(repo, "done")
    worktree(repo, "open")
    if missing == "disk":
        monkeypatch.setattr(
            tempfile, "tempdir", str(mounted("tmpfs", "64k", options=",nr_inodes=1"))
        )
    else:
        monkeypatch.setattr(scratch_git, "IN_MEMORY", str(repo / "missing"))
    assert WorktreeInspector(git_view.open_repository(str(repo), Config())).merged.keys() == {
        "refs/heads/done"
    }


def test_scratch_folder_that_its_owner_makes_a_trap_of_deletes_nothing_else(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused the first time, a name in it leads somewhere else the second time: deleting goes by
    descriptors, and once.
    """
    victim, unlink = home / "victim", os.unlink
    victim.mkdir()
    (victim / "precious").write_text("precious")

    def hostile(path: str, *, dir_fd: int | None = None) -> None:
        if path == "precious":
            trap.rename(trap.with_name("aside"))
            trap.symlink_to(victim)
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)
        unlink(path, dir_fd=dir_fd)

    with scratch_git.scratch(os.geteuid()) as folder:
        trap = Path(folder) / "trap"
        trap.mkdir()
        (trap / "precious").touch()
        monkeypatch.setattr(os, "unlink", hostile)
    monkeypatch.undo()
    shutil.rmtree(folder, ignore_errors=True)
    assert (victim / "precious").read_text() == "precious"


def test_merge_answers_are_read_with_and_without_conflicts() -> None:
    answer = b"0\0aaa\x00100644 x 1\tf\x00100644 y 2\tf\0\x001\0bbb\0\x001\0ccc\0\0"
    assert merges.clean_merges(answer) == [None, "bbb", "ccc"]


def test_no_repository_is_a_clear_error_of_its_own_check_alone(tmp_path: Path) -> None:
    settings = Config(git=GitSettings(repos=(str(tmp_path),)))
    assert repository_paths.configured(settings).paths == (str(tmp_path),)
    with pytest.raises(git_view.NoRepository, match="not a git repository"):
        git_view.open_repository(str(tmp_path), settings)


def test_patterns_find_repositories_among_other_folders_once_each(
    repo: Path, tmp_path: Path
) -> None:
    worktree(repo, "linked")
    (repo.parent / "no repository").mkdir()
    pattern = str(repo.parent / "*")
    assert repository_paths.configured(
        Config(git=GitSettings(repos=(pattern, str(repo))))
    ).paths == (str(repo),)


@pytest.mark.root
def test_hostile_configuration_does_not_run_programs_as_root(home: Path, tmp_path: Path) -> None:
    """A user's repository names a program to run; asked by root, it runs as the user or not at
    all.
    """
    repo = repository(tmp_path / "theirs" / "app")
    tree = merged_worktree(repo, "done")
    mark = tmp_path / "ran-as"
    mark.mkdir(mode=0o777)
    mark.chmod(0o777)
    script = tmp_path / "evil"
    script.write_text(f"#!/bin/sh\nid -u > {mark}/uid-$(id -u)\ncat\n")
    script.chmod(0o755)
    git(repo, "config", "filter.x.clean", str(script))
    git(repo, "config", "core.fsmonitor", str(script))
    (tree / ".git").touch()
    (repo / ".git" / "info").mkdir(exist_ok=True)
    (repo / ".git" / "info" / "attributes").write_text("* filter=x\n")
    for path in [tmp_path / "theirs", *(tmp_path / "theirs").rglob("*")]:
        os.chown(path, 65534, 65534, follow_symlinks=False)
    for folder in [tmp_path, *tmp_path.parents][:3]:
        folder.chmod(folder.stat().st_mode | 0o055)
    os.utime(tree / "readme")
    reason(repo, tree)
    assert "uid-0" not in os.listdir(mark)


@pytest.mark.parametrize(
    ("how", "sure"),
    [
        ([], True),
        (["update-index", "--assume-unchanged", "readme"], False),
        (["update-index", "--skip-worktree", "readme"], False),
        (["update-index", "--index-version", "4"], False),
        (["update-index", "--split-index"], False),
        (["update-index", "--untracked-cache"], True),
        (
            [
                "update-index",
                "--add",
                "--info-only",
                "--cacheinfo",
                f"100644,{'1' * 40},{'n' * 5000}",
            ],
            True,
        ),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else str(value),
)
def test_index_is_read_as_git_reads_it(repo: Path, how: list[str], sure: bool) -> None:
    for number in range(30):
        (repo / f"{'n' * number}{number}").write_text("x")
    git(repo, "add", ".")
    if how:
        git(repo, *how)
    data = (repo / ".git" / "index").read_bytes()
    marked = [
        line for line in git(repo, "ls-files", "-v").splitlines() if not line.startswith("H ")
    ]
    assert is_ordinary(data) == sure
    assert not (sure and marked)
    assert not is_ordinary(data[:-1])
    assert not is_ordinary(data[:100] + b"?" + data[101:])
    assert not is_ordinary(b"")


@pytest.mark.parametrize(
    "body",
    [b"", b"x" * 30, b"\1" * 200, b"\0" * 62 + b"name" + b"\0" * 6 + b"TREE\xff\xff\xff\xff"],
)
def test_index_that_somebody_made_up_is_git_s_to_read(body: bytes) -> None:
    data = b"DIRC\0\0\0\2\0\0\0\7" + body
    assert not is_ordinary(data + hashlib.sha1(data).digest())


def test_mark_in_an_index_that_lies_about_its_version_is_seen(repo: Path) -> None:
    """Git reads what follows the flags of an entry, whatever version the index says it is."""
    git(repo, "update-index", "--skip-worktree", "readme")
    index = repo / ".git" / "index"
    data = index.read_bytes()
    assert data[7] == 3
    data = data[:7] + b"\2" + data[8:-20]
    index.write_bytes(data + hashlib.sha1(data).digest())
    assert "S readme" in git(repo, "ls-files", "-v")
    assert not is_ordinary(index.read_bytes())


def test_as_a_stranger_nothing_can_be_told(repo: Path) -> None:
    tree = merged_worktree(repo, "done")
    place = replace(view(repo), common=repo / "nowhere")
    assert WorktreeInspector(place).by_the_branch is not None
    (found,) = view(repo).worktrees()
    broken = WorktreeInspector(place).verdict(found).reason
    assert broken is not None
    assert broken.category == "not readable"
    assert sys.platform
    assert tree.exists()


def settled(repo: Path, tmp_path: Path) -> bool:
    """Whether what is planned for the one worktree is carried out, with all that the gate asks."""
    steps = plan(repo).steps
    there = context(tmp_path, repo.parent)
    for step in steps:
        assert recheck(step, there) is None
        apply(step, there)
    return bool(steps)


@pytest.mark.parametrize("layout", ["ordinary", "separate"])
def test_copies_and_links_are_known_as_such_to_the_last(
    repo: Path, tmp_path: Path, layout: str
) -> None:
    """Also once its files are in quarantine, where a relative link leads nowhere."""
    if layout == "separate":
        git(repo, "init", "-q", "--separate-git-dir", str(repo.parent / "app.git"))
    ignoring(repo, ".env", "*.link")
    tree = merged_worktree(repo, "done")
    for top in (repo, tree):
        put(top / ".env", "TOKEN=one\n")
        (top / "same.link").symlink_to("readme")
    (tree / "into.link").symlink_to(os.path.relpath(repo / ".env", tree))
    assert settled(repo, tmp_path)
    assert not tree.exists()


def test_file_that_main_only_reaches_through_a_link_into_the_worktree_is_no_copy(
    repo: Path,
) -> None:
    ignoring(repo, "conf")
    tree = merged_worktree(repo, "done")
    put(tree / "conf/secret", "only here\n")
    (repo / "conf").symlink_to(tree / "conf")
    assert reason(repo, tree) == "ignored files"


def test_link_to_something_of_its_own_is_no_link_into_the_main_worktree(repo: Path) -> None:
    """Though it lies below that, as agents' worktrees do."""
    ignoring(repo, "*.link", "trees/")
    tree = repo / "trees" / "inside"
    git(repo, "worktree", "add", "-q", "--detach", str(tree), "main")
    (tree / "a.link").symlink_to("readme")
    assert reason(repo, tree) == "ignored files"


def test_commits_that_a_detached_worktree_has_left_keep_it_as_long_as_git_would(repo: Path) -> None:
    tree = worktree(repo, "left", work=False)
    git(tree, "checkout", "-q", "--detach")
    lost = commit(tree, "own", "of no branch\n")
    git(tree, "checkout", "-q", "main~0")
    found = verdict(repo, tree).reason
    assert found is not None
    assert found.category == "detached"
    assert found.remedy == f"git -C {tree} branch NAME {lost[:7]} keeps it"
    git(repo, "branch", "saved", lost)
    assert reason(repo, tree) is None
    git(repo, "branch", "-D", "saved")
    make_idle(repo, tree, 31)
    assert reason(repo, tree) is None


def test_detached_worktree_whose_commit_git_does_not_have_is_kept(repo: Path) -> None:
    tree = worktree(repo, "broken", work=False)
    git(tree, "checkout", "-q", "--detach")
    (repo / ".git/worktrees/broken/HEAD").write_text(f"{'1' * 40}\n")
    assert reason(repo, tree) == "detached"


def test_folder_of_tools_that_cannot_be_read_keeps_it(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be a repository in it."""
    tree = merged_worktree(repo, "done")
    put(tree / "node_modules/a/index.js")
    scandir = os.scandir

    def refuse(path: object) -> object:
        if str(path).endswith("node_modules/a"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", refuse)
    assert reason(repo, tree) == "not readable"


def test_verdict_says_what_it_rests_on(repo: Path) -> None:
    ignoring(repo, ".env", "node_modules/")
    tree = merged_worktree(repo, "done")
    for top in (repo, tree):
        put(top / ".env", "TOKEN=one\n")
    put(tree / "node_modules/x")
    make_idle(repo, tree, 10)
    found = verdict(repo, tree, Waits(7))
    assert found.reason is None
    used, merged, content = found.evidence
    assert used.startswith("last used 10 days ago")
    assert merged.startswith("merged: ")
    assert content.endswith(".env, node_modules/")
