"""Worktrees in every kind of repository that git makes: judged right, retired and given back whole.

What the installed git cannot make is skipped, and what only an older one cannot read, too.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from gitworld import commit, git, merge, worktree
from judging import context, reason, retire_all, undo_all, verdict, view

from miyabi_healing.host.git.worktrees import Waits
from miyabi_healing.support.command_errors import ToolError

_SAID = subprocess.check_output(["git", "version"], text=True)
VERSION = tuple(int(each) for each in _SAID.split()[2].split(".")[:2])
Make = Callable[[Path], Path]


def since(*version: int) -> pytest.MarkDecorator:
    words = ".".join(map(str, version))
    return pytest.mark.skipif(version > VERSION, reason=f"only git {words} or newer makes such")


def before(*version: int) -> pytest.MarkDecorator:
    words = ".".join(map(str, version))
    return pytest.mark.skipif(version <= VERSION, reason=f"git {words} can read it")


def made(*arguments: str) -> Make:
    def make(folder: Path) -> Path:
        folder.mkdir(parents=True)
        git(folder, "init", "-q", "-b", "main", *arguments)
        (folder / ".gitignore").write_text("node_modules/\n.env\n")
        git(folder, "add", ".")
        commit(folder, "readme", "one\n")
        return folder

    return make


def with_relative_paths(folder: Path) -> Path:
    repo = made()(folder)
    git(repo, "config", "worktree.useRelativePaths", "true")
    return repo


def cloned(*arguments: str) -> Make:
    """A clone that does not have all of its remote."""

    def make(folder: Path) -> Path:
        remote = made()(folder.parent / "remote")
        for number in range(3):
            commit(remote, "readme", f"version {number}\n")
        git(remote, "config", "uploadpack.allowFilter", "true")
        git(folder.parent, "clone", "-q", *arguments, f"file://{remote}", str(folder))
        return folder

    return make


def bare(below: str) -> Make:
    """A bare repository, its worktrees around or in the git folder; ``main`` is one of them."""

    def make(folder: Path) -> Path:
        remote = made()(folder.parent / "remote")
        git(remote, "clone", "-q", "--bare", ".", str(folder / below))
        if below == ".bare":
            (folder / ".git").write_text("gitdir: ./.bare\n")
        git(folder, "worktree", "add", "-q", "main", "main")
        return folder

    return make


def with_base_in_a_linked_one(folder: Path) -> Path:
    repo = made()(folder)
    git(repo, "checkout", "-q", "-b", "other")
    git(repo, "worktree", "add", "-q", "main", "main")
    return repo


def with_git_folder_elsewhere(folder: Path) -> Path:
    return made("--separate-git-dir", str(folder.parent / "separate.git"))(folder)


LAYOUTS = [
    pytest.param(made("--object-format=sha256"), id="sha256"),
    pytest.param(cloned("--depth=1"), id="shallow"),
    pytest.param(cloned("--filter=blob:none"), id="without blobs"),
    pytest.param(cloned("--filter=tree:0"), id="without trees"),
    pytest.param(with_git_folder_elsewhere, id="separate"),
    pytest.param(bare(".bare"), id="bare beside"),
    pytest.param(bare(".git"), id="bare inside"),
    pytest.param(bare(""), id="bare around"),
    pytest.param(with_base_in_a_linked_one, id="base linked"),
    pytest.param(made("--ref-format=reftable"), id="reftable", marks=since(2, 45)),
    pytest.param(
        made("--ref-format=reftable", "--object-format=sha256"),
        id="reftable sha256",
        marks=since(2, 45),
    ),
    pytest.param(with_relative_paths, id="relative", marks=since(2, 48)),
]
EVERY = pytest.mark.parametrize("make", LAYOUTS)


@pytest.fixture
def repo(home: Path, make: Make) -> Path:
    return make(home / "src" / "app")


def checked_out(repo: Path) -> Path:
    """Where the base branch is checked out."""
    return repo / "main" if (repo / "main").is_dir() else repo


def state_of(repo: Path, *trees: Path) -> tuple[str, ...]:
    asked = (("status", "--porcelain", "--branch"), ("rev-parse", "HEAD"), ("reflog", "HEAD"))
    return (*(git(tree, *each) for tree in trees for each in asked), git(repo, "for-each-ref"))


@EVERY
def test_safe_ones_go_and_come_back_whole(repo: Path, tmp_path: Path) -> None:
    trees = [worktree(repo, "done"), worktree(repo, "detached")]
    git(trees[0], "checkout", "-q", "--detach")
    alone = commit(trees[0], "alone", "its reflog alone knows it\n")
    git(trees[0], "checkout", "-q", "done")
    for tree in trees:
        merge(checked_out(repo), tree.name, "merge")
    git(trees[1], "checkout", "-q", "--detach")
    before, where = state_of(repo, *trees), context(tmp_path, tmp_path)
    count = view(repo).worktree_count
    assert [str(each.status) for each in retire_all(repo, where)] == ["applied"] * 2
    assert not any(tree.exists() for tree in trees)
    assert view(repo).worktree_count == count - 2
    git(repo, "branch", "-q", "-D", "done")
    git(repo, "gc", "-q", "--prune=now")
    assert {each[1] for each in undo_all(where)} == {"given back"}
    assert state_of(repo, *trees) == before
    git(repo, "cat-file", "-e", f"{alone}^{{tree}}")


def keepers(repo: Path) -> dict[str, str]:
    """A worktree for each reason that git has to be asked for; all merged but for that."""
    main = checked_out(repo)
    worktree(repo, "unmerged")
    worktree(repo, "unused", work=False)
    trees = {name: worktree(repo, name) for name in ("gone", "left", "picks", "refs", "unborn")}
    for name in trees:
        merge(main, name, "merge")
    for name in ("gone", "left"):
        git(trees[name], "checkout", "-q", "--detach")
        commit(trees[name], "alone", f"of no branch {name}\n")
    git(trees["left"], "checkout", "-q", "--detach", "main")
    git(trees["picks"], "cherry-pick", "picks", check=False)  # empty: no file shows it
    git(trees["refs"], "update-ref", "refs/worktree/mine", "HEAD")
    git(trees["unborn"], "checkout", "-q", "--orphan", "nothing")
    return {
        "unmerged": "not merged",
        "unused": "no reflog" if main != repo and not (repo / "readme").exists() else "fresh",
        "gone": "detached",
        "left": "detached",
        "picks": "in progress",
        "refs": "refs of its own",
        "unborn": "no commits",
    }


@EVERY
def test_every_reason_that_git_tells_is_told(repo: Path) -> None:
    wanted = keepers(repo)
    trees = {name: repo.parent / "trees" / name for name in wanted}
    assert {name: reason(repo, tree) for name, tree in trees.items()} == wanted


@EVERY
def test_one_that_becomes_the_base_stays(repo: Path) -> None:
    tree = worktree(repo, "tree")
    git(checked_out(repo), "checkout", "-q", "-b", "another")
    git(tree, "checkout", "-q", "main")
    assert reason(repo, tree) == "base branch", verdict(repo, tree).words


REFTABLE = pytest.mark.parametrize(
    "make", [pytest.param(made("--ref-format=reftable"), id="reftable", marks=since(2, 45))]
)
ORDINARY = pytest.mark.parametrize("make", [pytest.param(made(), id="ordinary")])


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(made(), id="files"),
        pytest.param(made("--ref-format=reftable"), id="reftable", marks=since(2, 45)),
    ],
)
def test_commit_that_is_only_left_in_the_reflog_keeps(repo: Path) -> None:
    """Of two entries gc has dropped the one that led there, and not the one that led away."""
    tree = worktree(repo, "tree")
    merge(repo, "tree", "merge")
    git(tree, "checkout", "-q", "--detach")
    alone = commit(tree, "alone", "of no branch\n")
    git(tree, "checkout", "-q", "--detach", "main")
    git(tree, "reflog", "delete", "HEAD@{1}")
    assert alone not in git(tree, "log", "-g", "--format=%H")
    assert reason(repo, tree) == "detached"


@REFTABLE
def test_reflogs_are_read_as_git_shows_them(repo: Path) -> None:
    tree = worktree(repo, "tree")
    for number in range(120):  # more than one block of one table holds
        git(tree, "commit", "-q", "--allow-empty", "-m", f"{number} {'long ' * 40}")
    git(tree, "reflog", "delete", "HEAD@{5}")
    (found,) = view(repo).worktrees()
    shown = git(tree, "log", "-g", "--format=%H %gd", "--date=unix").splitlines()
    assert [f"{each.new} HEAD@{{{each.time:.0f}}}" for each in reversed(found.reflog)] == shown
    git(tree, "reflog", "expire", "--expire=all", "HEAD")
    assert found.reflog == ()


@REFTABLE
def test_damaged_table_keeps_and_is_said(repo: Path) -> None:
    tree = worktree(repo, "tree", work=False)
    merge(repo, "tree", "merge")
    for table in (repo / ".git" / "worktrees" / "tree" / "reftable").glob("*.ref"):
        table.chmod(0o600)
        data = table.read_bytes()
        table.write_bytes(data[:-10] + b"?" + data[-9:])
    (found,) = view(repo).worktrees()
    with pytest.raises(OSError, match="no reftable"):
        assert found.reflog
    assert reason(repo, tree) == "not readable"
    assert view(repo).worktree_count == 2


@REFTABLE
def test_idle_counts_from_the_reflog(repo: Path) -> None:
    tree = worktree(repo, "tree")
    merge(repo, "tree", "merge")
    long_ago = time.time() - 100 * 86_400
    admin = view(repo).worktrees()[0].admin
    for folder, _, names in (*os.walk(tree), *os.walk(admin)):
        for name in (*names, "."):
            os.utime(os.path.join(folder, name), (long_ago, long_ago))
    said = verdict(repo, tree, Waits(7)).reason
    assert said is not None
    assert (said.category, "(its reflog)" in said.detail) == ("not idle", True)


@pytest.mark.parametrize("name", ["reftable", "worktrees/tree/reftable"])
@ORDINARY
def test_locks_of_tables_are_found(repo: Path, name: str) -> None:
    worktree(repo, "tree")
    lock = repo / ".git" / name / "tables.list.lock"
    lock.parent.mkdir()
    lock.touch()
    os.utime(lock, (1, 1))
    assert [each.path for each in view(repo).stale_locks(600)] == [lock]


@ORDINARY
@pytest.mark.parametrize(
    ("extension", "does"),
    [
        pytest.param("refStorage=reftable", "as reftable", marks=before(2, 45)),
        pytest.param("relativeWorktrees=true", "relative paths", marks=before(2, 48)),
        ("fromTheFuture=true", "uses fromthefuture"),
    ],
)
def test_what_this_git_is_too_old_for_is_counted_and_kept_and_said(
    repo: Path, extension: str, does: str
) -> None:
    tree = worktree(repo, "tree")
    name, _, value = extension.partition("=")
    git(repo, "config", f"extensions.{name}", value)
    git_version = ".".join(map(str, VERSION))
    (repo / ".git" / "config").write_text(
        (repo / ".git" / "config").read_text().replace("version = 0", "version = 1")
    )
    if name == "refStorage":
        (repo / ".git" / "worktrees" / "tree" / "HEAD").write_text("ref: refs/heads/.invalid\n")
    found = verdict(repo, tree)
    assert found.reason is not None
    assert found.reason.category == "not readable"
    assert does in found.reason.detail
    assert f"which git {git_version} cannot read" in found.reason.detail
    assert view(repo).worktree_count == 2
    assert view(repo).stale_locks(600) == ()


@ORDINARY
@pytest.mark.parametrize("missing", [False, True])
def test_relative_links_are_followed(repo: Path, missing: bool, tmp_path: Path) -> None:
    """As git 2.48 and newer write them, worktree.useRelativePaths."""
    tree = worktree(repo, "tree")
    merge(repo, "tree", "merge")
    admin = repo / ".git" / "worktrees" / "tree"
    (tree / ".git").write_text(f"gitdir: {os.path.relpath(admin, tree)}\n")
    (admin / "gitdir").write_text(f"{os.path.relpath(tree / '.git', admin)}\n")
    (found,) = view(repo).worktrees()
    assert (found.path, found.linked_back) == (tree, True)
    if missing:
        os.rename(tree, tree.parent / "elsewhere")
        # one that is not merged goes once its folder was deleted; this one was moved
        assert "is " in str(verdict(repo, tree).reason)
        assert verdict(repo, tree).reason is not None
        return
    before, where = state_of(repo, tree), context(tmp_path, tmp_path)
    assert [str(each.status) for each in retire_all(repo, where)] == ["applied"]
    undo_all(where)
    assert state_of(repo, tree) == before


PARTIAL = pytest.mark.parametrize(
    "make", [pytest.param(cloned("--filter=blob:none"), id="partial")]
)


@pytest.fixture
def lacking(repo: Path) -> str:
    """The blob of a commit that was fetched, and is not here itself."""
    commit(repo.parent / "remote", "big", "what nobody has here\n")
    git(repo, "fetch", "-q")
    listed = git(repo, "rev-list", "--objects", "--missing=print", "HEAD..origin/main")
    return listed.partition("?")[2]


@PARTIAL
def test_what_a_clone_lacks_is_not_fetched(repo: Path, lacking: str) -> None:
    with pytest.raises(ToolError):
        view(repo).git("cat-file", "-p", lacking)
    assert f"?{lacking}" in git(repo, "rev-list", "--objects", "--missing=print", "origin/main")


@PARTIAL
def test_what_a_clone_lacks_is_not_asked_for_where_nothing_rests_on_it(
    repo: Path, lacking: str
) -> None:
    tree = worktree(repo, "tree", work=False)
    git(tree, "update-ref", "refs/heads/tree", "origin/main")  # its index is an older commit's
    (tree / "similar").write_text("what nobody has here, nearly\n")
    git(tree, "add", "similar")  # whether that was renamed, only the content would tell
    assert reason(repo, tree) == "dirty", verdict(repo, tree).words
    assert f"?{lacking}" in git(repo, "rev-list", "--objects", "--missing=print", "origin/main")


@PARTIAL
def test_merge_that_a_clone_lacks_the_files_of_keeps_and_is_said(repo: Path) -> None:
    done = worktree(repo, "done")
    merge(repo, "done", "merge")
    open_work = worktree(repo, "open", work=False)
    commit(open_work, "readme", "changed here as well\n")
    commit(repo.parent / "remote", "readme", "what nobody has here\n")
    git(repo, "fetch", "-q")
    said = verdict(repo, open_work).reason
    assert said is not None
    assert (said.category, "could not be told" in said.detail) == ("not merged", True)
    assert reason(repo, done) is None


BARE = pytest.mark.parametrize("make", [pytest.param(bare(".bare"), id="bare beside")])


@BARE
@pytest.mark.parametrize(
    ("where", "text", "kept"),
    [
        ("main", "KEY=1\n", None),  # the base branch's worktree stays as a main one does
        ("main", "KEY=2\n", "ignored files"),
        ("other", "KEY=1\n", "ignored files"),  # it may go itself
        ("", "KEY=1\n", None),  # beside the git folder, in no worktree
    ],
)
def test_copies_where_there_is_no_main_worktree(
    repo: Path, where: str, text: str, kept: str | None
) -> None:
    git(repo, "worktree", "add", "-q", "-b", "other", "other", "main")
    tree = worktree(repo, "tree")
    merge(repo / "main", "tree", "merge")
    (repo / where / ".env").write_text(text)
    (tree / ".env").write_text("KEY=1\n")
    assert reason(repo, tree) == kept


@pytest.mark.parametrize("make", [pytest.param(bare(""), id="bare"), pytest.param(made(), id="no")])
def test_file_of_another_worktree_below_is_no_copy(repo: Path) -> None:
    git(repo, "worktree", "add", "-q", "-b", "other", "other", "main")
    tree = worktree(repo, "tree")
    merge(checked_out(repo), "tree", "merge")
    (tree / "other").mkdir()
    for folder in (tree, repo):
        (folder / "other" / ".env").write_text("KEY=1\n")
    assert reason(repo, tree) == "ignored files"


@REFTABLE
def test_what_was_begun_in_a_submodule_keeps(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DEFAULT_REF_FORMAT", "reftable")
    library = made()(repo.parent / "library")
    allowed = ("-c", "protocol.file.allow=always")
    git(repo, *allowed, "submodule", "add", "-q", str(library), "lib")
    git(repo, "commit", "-q", "-m", "a library")
    tree = worktree(repo, "tree")
    merge(repo, "tree", "merge")
    git(tree, *allowed, "submodule", "update", "-q", "--init")
    assert reason(repo, tree) is None
    git(tree / "lib", "cherry-pick", "HEAD", check=False)
    assert reason(repo, tree) == "submodules"


@BARE
def test_copy_in_a_submodule_where_there_is_no_main_worktree(repo: Path) -> None:
    library = made()(repo.parent / "library")
    allowed = ("-c", "protocol.file.allow=always")
    git(repo / "main", *allowed, "submodule", "add", "-q", str(library), "lib")
    git(repo / "main", "commit", "-q", "-m", "a library")
    tree = worktree(repo, "tree")
    merge(repo / "main", "tree", "merge")
    git(tree, *allowed, "submodule", "update", "-q", "--init")
    (tree / "lib" / ".env").write_text("KEY=1\n")
    assert reason(repo, tree) == "submodules"
    (repo / "main" / "lib" / ".env").write_text("KEY=1\n")
    assert reason(repo, tree) is None
