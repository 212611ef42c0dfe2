"""Git's locks: left behind ones go, and no other ever does."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from gatework import carry_out
from gatework import plan as planned
from gitworld import git, repository, worktree

from conftest import wait_for
from miyabi_healing.gate import execute
from miyabi_healing.gate.handlers.table import apply, recheck
from miyabi_healing.gate.primitives.context import Context, Refused
from miyabi_healing.host import users
from miyabi_healing.host.context import HealerContext
from miyabi_healing.host.git import repositories as git_view
from miyabi_healing.host.git.locks import Holders, locks, stale
from miyabi_healing.host.readings import Host
from miyabi_healing.model.config import Config
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.plan import Plan
from miyabi_healing.runner import registry
from miyabi_healing.support.files import identity_at

assert execute


@pytest.fixture
def repo(home: Path) -> Path:
    return repository(home / "src" / "my app")


def view(repo: Path) -> git_view.Repository:
    return git_view.open_repository(str(repo), Config())


def leave(path: Path, age: float = 3600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (time.time() - age,) * 2)
    return path


def plan(repo: Path, threshold: float = 600) -> Plan:
    place = view(repo)
    healer, kind = registry.load_healer(
        "fix_git_locks", registry.builtin("healers") / "fix_git_locks.py"
    )
    assert kind is None
    return healer(
        HealerContext(Host(place.config), {"repository": place}),
        Issue("stale_git_lock", "", "", 1, Limit(threshold)),
        None,
    )


def context(tmp_path: Path, repo: Path) -> Context:
    return Context(Host(Config()), "run", tmp_path / "state", (repo, repo / ".git"))


@pytest.mark.parametrize(
    "name",
    [
        "index.lock",
        "HEAD.lock",
        "config.lock",
        "packed-refs.lock",
        "next-index-123.lock",
        "refs/heads/topic.lock",
        "logs/refs/heads/main.lock",
        "objects/maintenance.lock",
        "worktrees/linked/index.lock",
    ],
)
def test_every_lock_git_leaves_is_found_and_taken_away(
    repo: Path, tmp_path: Path, name: str
) -> None:
    worktree(repo, "linked")
    lock = leave(repo / ".git" / name)
    (step,) = plan(repo).steps
    assert recheck(step, context(tmp_path, repo)) is None
    assert step.guard() is None
    done = apply(step, context(tmp_path, repo))
    assert not lock.exists()
    assert (Path(str(done.undo["entry"])) / "thing").exists()
    assert plan(repo).goal.met()


@pytest.mark.parametrize(
    "name",
    ["Cargo.lock", "sub/index.lock", ".git/gc.pid", ".git/objects/ab/x.lock", ".git/hooks/x.lock"],
)
def test_other_peoples_lock_files_are_none(repo: Path, name: str) -> None:
    leave(repo / name)
    assert locks(view(repo).common) == ()


@pytest.mark.parametrize(
    "name",
    [
        "gc.pid.lock",
        "next-index-4711.lock",
        "info/sparse-checkout.lock",
        "reftable/tables.list.lock",
        "objects/maintenance.lock",
        "objects/info/commit-graph.lock",
        "objects/info/commit-graphs/commit-graph-chain.lock",
        "objects/pack/multi-pack-index.lock",
        "modules/vendor/x/index.lock",
        "modules/vendor/x/modules/y/refs/heads/main.lock",
        "worktrees/one/modules/z/index.lock",
    ],
)
def test_every_place_that_git_locks_in_is_looked_at(repo: Path, name: str) -> None:
    for module in ("modules/vendor/x", "modules/vendor/x/modules/y", "worktrees/one/modules/z"):
        (repo / ".git" / module / "objects").mkdir(parents=True)
        (repo / ".git" / module / "HEAD").write_text("ref: refs/heads/main\n")
    leave(repo / ".git" / name)
    assert [lock.path for lock in locks(view(repo).common)] == [repo / ".git" / name]


def test_folder_and_link_called_lock_are_none(repo: Path) -> None:
    (repo / ".git" / "x.lock").mkdir()
    (repo / ".git" / "y.lock").symlink_to(repo / "readme")
    assert locks(view(repo).common) == ()


@pytest.mark.parametrize(("age", "expected"), [(599, 0), (601, 1), (-3600, 0)])
def test_only_old_locks_are_stale(repo: Path, age: float, expected: int) -> None:
    leave(repo / ".git" / "index.lock", age)
    assert len(stale(view(repo).folders, 600)) == expected


def waiting_commit(repo: Path, tmp_path: Path, start: Callable[..., psutil.Popen]) -> psutil.Popen:
    """A real ``git commit -a`` that waits in an editor: it holds index.lock without an open
    descriptor.
    """
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nexec sleep 100\n")
    editor.chmod(0o755)
    (repo / "readme").write_text("changed\n")
    process = start("git", "commit", "-a", cwd=repo, env={**os.environ, "GIT_EDITOR": str(editor)})
    wait_for(lambda: any(each.name() == "sleep" for each in process.children(recursive=True)))
    leave(repo / ".git" / "index.lock")
    return process


def test_commit_waiting_in_an_editor_keeps_its_lock(
    repo: Path, tmp_path: Path, start: Callable[..., psutil.Popen]
) -> None:
    waiting_commit(repo, tmp_path, start)
    found = plan(repo)
    assert found.steps == ()
    (kept,) = found.kept
    assert kept.reason == "held"
    assert "git" in kept.detail


def test_editor_that_survived_its_git_keeps_the_lock(
    repo: Path, tmp_path: Path, start: Callable[..., psutil.Popen]
) -> None:
    process = waiting_commit(repo, tmp_path, start)
    editor = next(each for each in process.children(recursive=True) if each.name() == "sleep")
    process.kill()
    process.wait()
    try:
        assert plan(repo).steps == ()
    finally:
        editor.kill()
    wait_for(lambda: not editor.is_running() or editor.status() == psutil.STATUS_ZOMBIE)
    assert len(plan(repo).steps) == 1


def test_lock_of_a_killed_git_goes_and_git_works_again(
    repo: Path, tmp_path: Path, start: Callable[..., psutil.Popen]
) -> None:
    process = waiting_commit(repo, tmp_path, start)
    for each in [process, *process.children(recursive=True)]:  # git first, or it would tidy up
        each.send_signal(signal.SIGKILL)
    process.wait()
    assert (
        "index.lock"
        in subprocess.run(["git", "add", "."], cwd=repo, capture_output=True, text=True).stderr
    )
    wait_for(lambda: plan(repo).steps)
    (step,) = plan(repo).steps
    apply(step, context(tmp_path, repo))
    git(repo, "commit", "-aqm", "works again")


@pytest.mark.parametrize("how", ["open", "GIT_DIR", "relative argument"])
def test_whoever_names_or_opens_it_is_a_holder(
    repo: Path, start: Callable[..., psutil.Popen], how: str
) -> None:
    lock = leave(repo / ".git" / "index.lock")
    if how == "open":
        with lock.open() as file:
            start("sleep", "100", stdin=file)
    elif how == "GIT_DIR":
        start("sleep", "100", env={**os.environ, "GIT_DIR": str(repo / ".git")})
    else:
        start(
            "tail",
            "-f",
            "-n",
            "0",
            ".git/COMMIT_EDITMSG",
            "/dev/null",
            cwd=repo,
            stderr=subprocess.DEVNULL,
        )
    wait_for(lambda: not plan(repo).steps)
    assert plan(repo).kept[0].reason == "held"


def test_bystander_in_the_worktree_holds_nothing(
    repo: Path, start: Callable[..., psutil.Popen]
) -> None:
    leave(repo / ".git" / "index.lock")
    start("sleep", "100", cwd=repo)
    assert len(plan(repo).steps) == 1


def test_lock_taken_anew_after_the_plan_is_refused(repo: Path, tmp_path: Path) -> None:
    lock = leave(repo / ".git" / "index.lock")
    (step,) = plan(repo).steps
    lock.unlink()
    lock.write_text("a living git's")
    assert recheck(step, context(tmp_path, repo)) is not None
    with pytest.raises(Refused):
        apply(step, context(tmp_path, repo))
    assert lock.read_text() == "a living git's"


def test_fresh_lock_is_never_lost_to_a_race(repo: Path, tmp_path: Path) -> None:
    """Another program replaces the lock again and again between the look and the rename: its own
    lock always survives.
    """
    lock = repo / ".git" / "index.lock"
    where = context(tmp_path, repo)
    refused = 0
    for number in range(100):
        leave(lock)
        (step,) = plan(repo).steps if number == 0 else (again(lock),)

        def replace(fresh: str = f"fresh {number}", pause: float = number / 10_000) -> None:
            time.sleep(pause)
            aside = lock.with_name("aside")
            aside.write_text(fresh)
            os.rename(aside, lock)

        thread = threading.Thread(target=replace)
        thread.start()
        try:
            apply(step, where)
        except Refused:
            refused += 1
        thread.join()
        if lock.exists():
            assert lock.read_text() == f"fresh {number}"
            lock.unlink()
        else:
            entries = [path.read_text() for path in (tmp_path / "state").rglob("thing")]
            assert f"fresh {number}" not in entries
    assert 0 < refused < 100  # both ways it can go were met


def again(lock: Path) -> object:
    from miyabi_healing.model.steps import Quarantine

    return Quarantine(target="", reason="", path=lock, identity=identity_at(lock))


def test_holders_are_asked_anew_by_the_guard(
    repo: Path, start: Callable[..., psutil.Popen]
) -> None:
    lock = leave(repo / ".git" / "index.lock")
    (step,) = plan(repo).steps
    with lock.open() as file:
        start("sleep", "100", stdin=file)
    wait_for(step.guard)
    assert Holders(view(repo).folders).reason(locks(view(repo).common)[0], 600) is not None


# In a container the same repository has another path, and the same path may be another repository


def in_a_container(
    start: Callable[..., psutil.Popen],
    mount: Path,
    at: Path,
    *command: str,
    cwd: str = ".",
    **variables: str,
) -> psutil.Popen:
    """Run a program in mounts of its own, with a folder mounted under another name as well."""
    at.mkdir(parents=True, exist_ok=True)
    script = 'mount --bind "$1" "$2" && cd "$2/$3" && shift 3 && echo ready && exec "$@"'
    process = start(
        "unshare",
        "--pid",
        "--mount",
        "--fork",
        "--kill-child",
        "sh",
        "-c",
        script,
        "sh",
        str(mount),
        str(at),
        cwd,
        *command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **variables},
        cwd=at,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def waits(process: psutil.Popen) -> bool:
    return any(each.name() == "sleep" for each in process.children(recursive=True))


@pytest.fixture
def editor(tmp_path: Path) -> str:
    file = tmp_path / "waiting"
    file.write_text("#!/bin/sh\nexec sleep 100\n")
    file.chmod(0o755)
    return str(file)


@pytest.mark.root
@pytest.mark.parametrize("place", ["main", "linked", "linked alone"])
def test_commit_in_a_container_keeps_the_locks(
    repo: Path, tmp_path: Path, start: Callable[..., psutil.Popen], editor: str, place: str
) -> None:
    tree = worktree(repo, "linked")
    lock = repo / ".git" / "index.lock"
    if place == "main":
        (repo / "readme").write_text("changed\n")
        process = in_a_container(
            start, repo, tmp_path / "ws", "git", "commit", "-a", GIT_EDITOR=editor
        )
    elif place == "linked":
        top, inner = repo.parent, str(tree.relative_to(repo.parent))
        (tree / ".git").write_text("gitdir: ../../my app/.git/worktrees/linked\n")
        (tree / "readme").write_text("changed\n")
        process = in_a_container(
            start, top, tmp_path / "ws", "git", "commit", "-a", cwd=inner, GIT_EDITOR=editor
        )
        lock = repo / ".git" / "worktrees" / "linked" / "index.lock"
    else:  # a child of git in a container that was given the linked work tree only
        process = in_a_container(
            start, tree, tmp_path / "ws", "git", "-c", "alias.x=!exec sleep 100", "x"
        )
    wait_for(lambda: waits(process))
    leave(lock)
    found = plan(repo)
    assert found.steps == ()
    assert {each.reason for each in found.kept} == {"held"}
    assert stale(view(repo).folders, 600) == ()
    process.kill()  # and with it all that is in its namespace
    process.wait()
    wait_for(lambda: plan(repo).steps)


@pytest.mark.root
def test_git_in_a_container_that_has_only_a_part_of_the_work_tree_keeps_the_locks(
    repo: Path, tmp_path: Path, start: Callable[..., psutil.Popen]
) -> None:
    (repo / "part").mkdir()
    leave(repo / ".git" / "index.lock")
    process = in_a_container(
        start, repo / "part", tmp_path / "ws", "git", "-c", "alias.x=!exec sleep 100", "x"
    )
    wait_for(lambda: waits(process))
    assert plan(repo).steps == ()


@pytest.mark.root
@pytest.mark.parametrize("how", ["GIT_DIR", "argument"])
def test_whoever_names_it_by_a_containers_path_is_a_holder(
    repo: Path, tmp_path: Path, start: Callable[..., psutil.Popen], how: str
) -> None:
    leave(repo / ".git" / "index.lock")
    git_folder = tmp_path / "ws"
    if how == "GIT_DIR":
        in_a_container(
            start,
            repo / ".git",
            git_folder,
            "env",
            "-C",
            "/",
            "sleep",
            "100",
            GIT_DIR=str(git_folder),
        )
    else:
        command = ("env", "-C", "/", "sh", "-c", "sleep 100; true", f"--git-dir={git_folder}")
        in_a_container(start, repo / ".git", git_folder, *command)
    wait_for(lambda: not plan(repo).steps)


@pytest.mark.root
def test_git_elsewhere_in_a_container_holds_nothing_here(
    repo: Path, tmp_path: Path, start: Callable[..., psutil.Popen], editor: str
) -> None:
    """Another repository on the same disk, even under the very path that ours has outside."""
    other = repository(tmp_path / "other")
    (other / "readme").write_text("changed\n")
    leave(repo / ".git" / "index.lock")
    process = in_a_container(
        start, other, repo, "git", "commit", "-a", GIT_EDITOR=editor, GIT_DIR=str(repo / ".git")
    )
    wait_for(lambda: waits(process))
    alone = in_a_container(
        start, tmp_path / "other", tmp_path / "ws", "git", "-c", "alias.x=!exec sleep 100", "x"
    )
    wait_for(lambda: waits(alone))
    words = ("sh", "-c", "sleep 100; true", f"--git-dir={repo}/.git")
    named = in_a_container(start, other, repo, "env", "-C", "/", *words)
    wait_for(lambda: waits(named))
    assert len(plan(repo).steps) == 1
    leave(other / ".git" / "index.lock")
    assert plan(other).steps == ()


def test_lock_that_somebody_unseen_could_hold_is_an_issue_but_stays(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(repo / ".git" / "index.lock")
    (step,) = plan(repo).steps
    monkeypatch.setattr(users, "container", lambda: "this is a container")
    assert len(stale(view(repo).folders, 600)) == 1
    found = plan(repo)
    assert found.steps == ()
    assert [each.reason for each in found.kept] == ["could be held"]
    assert "who uses it from outside cannot be seen" in found.kept[0].detail
    (outcome,) = carry_out(planned(step), context(tmp_path, repo))
    assert (outcome.status, "could be in use" in outcome.message) == ("skipped", True)
