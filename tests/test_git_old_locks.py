"""Every old lock is told: healed, or kept with who holds it or why; those of a user's own
configuration, too.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from gitworld import git, repository, worktree
from program import report, run, settings

from conftest import wait_for
from miyabi_healing.host.git import lock_places, locks, repositories
from miyabi_healing.host.git.user_configuration import UserConfiguration
from miyabi_healing.model.config import CacheSettings, Config

Start = Callable[..., psutil.Popen]


@pytest.fixture
def repo(home: Path) -> Path:
    return repository(home / "src" / "app")


def leave(path: Path, age: float = 3600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (time.time() - age,) * 2)
    return path


def judged(repo: Path) -> locks.OldLocks:
    return repositories.open_repository(str(repo), Config()).old_locks(600)


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.time
    monkeypatch.setattr(locks.time, "time", lambda: now() + seconds)


def waiting_commit(tree: Path, start: Start, tmp_path: Path) -> psutil.Popen:
    editor = tmp_path / "waiting"
    editor.write_text("#!/bin/sh\nexec sleep 100\n")
    editor.chmod(0o755)
    (tree / "readme").write_text("changed\n")
    process = start("git", "commit", "-a", cwd=tree, env={**os.environ, "GIT_EDITOR": str(editor)})
    wait_for(lambda: any(each.name() == "sleep" for each in process.children(recursive=True)))
    return process


# What the report says


@pytest.mark.parametrize("how", ["--json", "text"])
def test_held_lock_is_no_issue_but_a_note_with_its_holder(
    repo: Path, home: Path, start: Start, tmp_path: Path, how: str
) -> None:
    process = waiting_commit(repo, start, tmp_path)
    lock = leave(repo / ".git" / "index.lock", 7200)
    file = settings(home)
    if how == "text":
        done = run("--config", file, "--dry-run", cwd=repo)
        assert done.returncode == 0
        said = "".join(done.stdout.split())
        words = f"{lock} is 2 h old and kept: may be held by git commit (pid {process.pid}"
        assert words.replace(" ", "") in said
        return
    code, document = report("--config", file, "--dry-run", cwd=repo)
    assert (code, document["issues_detected"]) == (0, [])
    (metric,) = (each for each in document["metrics"] if each["name"] == "stale_git_lock")
    assert (metric["value"], metric["outcome"]) == (0, "passed")
    (note,) = document["notes"]
    assert note.startswith(f"{lock} is 2 h old and kept: may be held by git commit")
    assert f"at work in {repo}" in note


def test_held_lock_beside_a_stale_one_is_said_once(
    repo: Path, home: Path, start: Start, tmp_path: Path
) -> None:
    tree = worktree(repo, "linked")
    waiting_commit(tree, start, tmp_path)
    held, left = (repo / ".git" / each for each in ("worktrees/linked/index.lock", "index.lock"))
    leave(held), leave(left)
    _code, document = report("--config", settings(home), "--dry-run", cwd=repo)
    (action,) = document["actions_taken"]
    assert [step["target"] for step in action["steps"]] == [str(left)]
    assert [each["target"] for each in action["kept"]] == [str(held)]
    assert "git commit" in action["kept"][0]["detail"]
    assert document["notes"] == []


def test_very_many_kept_locks_are_named_up_to_a_dozen(repo: Path, start: Start) -> None:
    for number in range(20):
        leave(repo / ".git/refs/heads" / f"{number:02}.lock")
    start("sleep", "100", env={**os.environ, "GIT_DIR": str(repo / ".git")})
    wait_for(lambda: not judged(repo).stale)
    notes = judged(repo).notes
    assert len(notes) == 13
    assert notes[-1].startswith("8 more old locks beside ")


# A time in the future is no age


def test_lock_with_a_time_in_the_future_is_named(repo: Path, home: Path) -> None:
    lock = leave(repo / ".git" / "config.lock", -5400)
    code, document = report("--config", settings(home), "--dry-run", cwd=repo)
    (note,) = document["notes"]
    assert code == 0
    assert note.startswith(f"{lock} ")
    assert "lies 90 min in the future" in note


def test_lock_with_a_time_in_the_future_is_as_old_as_its_last_change(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = leave(repo / ".git" / "config.lock", -90 * 86_400)
    assert judged(repo).stale == ()
    later(monkeypatch, 3600)
    (found,) = judged(repo).stale
    assert found.path == lock
    assert 3500 < found.age < 3700


def test_lock_all_of_whose_times_lie_in_the_future_is_kept_with_the_way_out(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(repo / ".git" / "config.lock", -90 * 86_400)
    later(monkeypatch, -3600)
    (note,) = judged(repo).notes
    assert "its age cannot be told" in note
    assert "remove it by hand" in note


def test_new_lock_of_a_server_whose_clock_is_a_little_ahead_is_not_worth_a_word(repo: Path) -> None:
    leave(repo / ".git" / "config.lock", -5)
    assert judged(repo) == locks.OldLocks()


# A user's own configuration


def configured(home: Path) -> list[str]:
    return lock_places.locked_configurations(Config(caches=CacheSettings(homes=(str(home),))))


def own(home: Path) -> UserConfiguration:
    return UserConfiguration(str(home), Config())


@pytest.mark.parametrize(
    "name",
    [
        ".gitconfig.lock",
        ".git-credentials.lock",
        ".config/git/config.lock",
        ".config/git/credentials.lock",
    ],
)
def test_lock_of_a_users_configuration_is_taken_away(home: Path, name: str) -> None:
    lock = leave(home / name)
    file = settings(home)
    code, document = report("--config", file)
    assert not lock.exists()
    (issue,) = document["issues_detected"]
    assert (code, issue["name"], issue["target"]) == (0, "stale_git_lock", f"{home}/.gitconfig")
    (action,) = document["actions_taken"]
    assert action["status"] == "success"
    assert run("rollback").returncode == 0
    assert lock.exists()


def test_without_a_lock_a_users_configuration_is_no_target(home: Path) -> None:
    assert configured(home) == []
    _code, document = report("--config", settings(home))
    assert not any(each["name"] == "stale_git_lock" for each in document["metrics"])


def test_configuration_that_is_a_link_is_locked_where_it_leads(home: Path, tmp_path: Path) -> None:
    (home / "dotfiles").mkdir()
    (home / ".gitconfig").rename(home / "dotfiles" / "gitconfig")
    (home / ".gitconfig").symlink_to("dotfiles/gitconfig")
    lock = leave(home / "dotfiles" / "gitconfig.lock")
    assert configured(home) == [f"{home}/.gitconfig"]
    assert [each.path for each in own(home).old_locks(600).stale] == [lock]
    (home / ".gitconfig").unlink()
    (home / ".gitconfig").symlink_to(tmp_path / "elsewhere")
    leave(tmp_path / "elsewhere.lock")  # out of the home: somebody else's to judge
    assert configured(home) == []


def test_xdg_config_home_is_our_own_homes_alone(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "settings"))
    leave(home / "settings" / "git" / "config.lock")
    other = tmp_path / "other"
    leave(other / ".config" / "git" / "config.lock")
    assert configured(home) == [f"{home}/.gitconfig"]
    assert configured(other) == [f"{other}/.gitconfig"]
    assert own(other).locks()[0].path == other / ".config" / "git" / "config.lock"


@pytest.mark.parametrize(
    ("words", "holds"),
    [
        (("config", "--global", "-e"), True),
        (("credential-store", "store"), True),
        (("maintenance", "register"), True),
        (("an-alias",), True),
        (("log",), False),
        (("commit",), False),
        (("fetch", "--all"), False),
    ],
)
def test_git_that_may_write_it_holds_a_users_lock(
    home: Path, start: Start, words: tuple[str, ...], holds: bool
) -> None:
    lock = leave(home / ".gitconfig.lock")
    (home / "git").symlink_to(sys.executable)
    script = "import time; print(flush=True); time.sleep(100)"
    process = start(str(home / "git"), "-c", script, *words, stdout=-1)
    assert process.stdout is not None
    process.stdout.readline()
    old = own(home).old_locks(600)
    assert [each.path for each in old.stale] == ([] if holds else [lock])
    assert ("which may be writing it" in "".join(old.notes)) == holds


def test_git_of_another_home_holds_nothing_here(home: Path, start: Start, tmp_path: Path) -> None:
    lock = leave(home / ".gitconfig.lock")
    (home / "git").symlink_to(sys.executable)
    script = "import time; print(flush=True); time.sleep(100)"
    command = (str(home / "git"), "-c", script, "config", "--global", "-e")
    process = start(*command, stdout=-1, env={**os.environ, "HOME": str(tmp_path)})
    assert process.stdout is not None
    process.stdout.readline()
    assert [each.path for each in own(home).old_locks(600).stale] == [lock]


def test_who_names_a_users_configuration_holds_its_lock(home: Path, start: Start) -> None:
    leave(home / ".gitconfig.lock")
    assert own(home).old_locks(600).stale
    start("tail", "-f", str(home / ".gitconfig"), stdout=-3, stderr=-3)
    wait_for(lambda: not own(home).old_locks(600).stale)


@pytest.mark.root
def test_file_of_another_user_is_no_lock_of_this_users(home: Path) -> None:
    lock = leave(home / ".gitconfig.lock")
    os.chown(lock, 12345, 12345)
    assert own(home).locks() == ()


def test_git_works_again_after_the_lock_went(home: Path) -> None:
    leave(home / ".gitconfig.lock")
    with pytest.raises(AssertionError, match="could not lock config file"):
        git(home, "config", "--global", "color.ui", "never")
    report("--config", settings(home))
    git(home, "config", "--global", "color.ui", "never")


# What is none of git's


@pytest.mark.parametrize(
    "name",
    [
        "yarn.lock",
        "Cargo.lock",
        "sub/uv.lock",
        ".git/lfs/cache/locks/x.lock",
        ".git/hooks/pre-commit.lock",
        ".git/annex/index.lck",
        ".git/annex/ssh/host.lock",
        ".git/annex/journal.lock",
        ".git/worktrees/linked/annex/x.lock",
        ".git/modules/m/annex/x.lock",
        ".git/modules/m/lfs/x.lock",
        ".git/objects/ab/x.lock",
        ".git/worktrees/linked/locked",
        ".git/gc.pid",
    ],
)
def test_locks_of_others_stay(repo: Path, home: Path, name: str) -> None:
    worktree(repo, "linked")
    (repo / ".git/modules/m").mkdir(parents=True)
    (repo / ".git/modules/m/HEAD").write_text("ref: refs/heads/main\n")
    lock = leave(repo / name, 90 * 86_400)
    _code, document = report("--config", settings(home), cwd=repo)
    assert lock.exists()
    assert not any(each["name"] == "stale_git_lock" for each in document["issues_detected"])


def test_module_whose_name_ends_in_lock_hides_none_of_the_others(repo: Path) -> None:
    for name in ("x.lock", "y"):
        (repo / ".git/modules" / name).mkdir(parents=True)
        (repo / ".git/modules" / name / "HEAD").write_text("ref: refs/heads/main\n")
    lock = leave(repo / ".git/modules/y/index.lock")
    assert [each.path for each in judged(repo).stale] == [lock]
