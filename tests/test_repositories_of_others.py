"""A repository was written by its owner, and may be meant to lead us astray: nobody's program runs
with anybody else's rights.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gitworld
import pytest
from gatework import carry_out, plan, work
from gitworld import commit, git, merge, merged_worktree, repository, worktree
from program import report, settings

from miyabi_healing.gate import rollback
from miyabi_healing.gate.primitives import (
    quarantine_locations,
    quarantine_restore,
    quarantine_writer,
)
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.host.git import git_commands, repositories, repository_paths
from miyabi_healing.host.git.repositories import NoRepository
from miyabi_healing.host.git.worktrees import WorktreeInspector
from miyabi_healing.host.readings import Host
from miyabi_healing.model.config import Config, GitSettings
from miyabi_healing.model.steps import Quarantine, RetireWorktree
from miyabi_healing.state import quarantine
from miyabi_healing.support.command_errors import ToolError
from miyabi_healing.support.files import MOST_LINKS, identity_at

pytestmark = pytest.mark.root
THEM, ANOTHER = 65534, 2  # nobody and bin: every host has both


@pytest.fixture
def people(home: Path) -> Iterator[Path]:
    """A folder for the homes of other users, which they can get at; root's own home is `home`."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def give(uid: int, *tops: Path) -> None:
    for top in tops:
        for path in (top, *top.rglob("*")):
            os.chown(path, uid, uid, follow_symlinks=False)


def as_user(uid: int, action: Callable[[], Any]) -> Any:
    """What an action comes to when an ordinary user does it, in a fork."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            answer = json.dumps(action())
        except BaseException as error:
            answer = json.dumps(f"{type(error).__name__}: {error}")
        os.write(theirs, answer.encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(answer)


def with_filter(repo: Path, proof: Path) -> None:
    """A repository whose configuration names a program that git runs for every file it looks at."""
    proof.mkdir()
    proof.chmod(0o777)
    with (repo / ".git" / "config").open("a") as file:
        file.write(f'[filter "p"]\n\tclean = "id -u >> {proof}/ran; cat"\n')
    (repo / ".git" / "info" / "attributes").write_text("* filter=p\n")


def reasons(repo: Path) -> dict[str, str]:
    """Why each worktree stays; empty where it may go."""
    place = repositories.open_repository(str(repo), Config())
    trees = place.worktrees()
    found = WorktreeInspector(place, trees).verdicts(trees)
    return {each.worktree.path.name: str(each.reason or "") for each in found}


def touch_all(repo: Path, tree: Path) -> None:
    """Files look changed, so that git has to look into them."""
    for file in tree.glob("*"):
        if file.is_file():
            os.utime(file, (1, 1))


@pytest.mark.parametrize(
    "layout",
    [
        "theirs alone",
        "a sticky folder of root's",
        "of a group",
        "a file of another's",
        "tables of another's",
        "a link",
    ],
)
def test_root_starts_git_only_as_the_one_owner_of_all_that_git_believes(
    people: Path, layout: str
) -> None:
    repo = repository(people / "mallory" / "app")
    tree = merged_worktree(repo, "done")
    with_filter(repo, people / "proof")
    touch_all(repo, tree)
    give(THEM, people / "mallory")
    common = repo / ".git"
    if layout == "a sticky folder of root's":
        os.chown(common, 0, 0)
        common.chmod(0o1777)
    elif layout == "of a group":
        os.chown(common / "config", THEM, ANOTHER)
        (common / "config").chmod(0o664)
    elif layout == "a file of another's":
        os.chown(common / "info" / "attributes", ANOTHER, ANOTHER)
    elif layout == "tables of another's":
        (common / "reftable").mkdir()
        (common / "reftable" / "tables.list").touch()
        give(THEM, common / "reftable")
        os.chown(common / "reftable" / "tables.list", ANOTHER, ANOTHER)
    elif layout == "a link":
        (common / "config").rename(people / "config")
        (common / "config").symlink_to(people / "config")
    found = reasons(repo)
    ran = (
        (people / "proof" / "ran").read_text().split()
        if (people / "proof" / "ran").exists()
        else []
    )
    if layout == "theirs alone":
        assert (found, set(ran)) == ({"done": ""}, {str(THEM)})
    else:
        assert ran == []
        assert found["done"] != ""


def test_nothing_that_git_lets_a_caller_switch_off_is_started(
    people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = repository(people / "app")
    tree = merged_worktree(repo, "done")
    (repo / ".git" / "hooks").mkdir(exist_ok=True)
    for name in ("monitor", "hooks/reference-transaction", "hooks/post-index-change"):
        program = repo / ".git" / name
        program.write_text(f"#!/bin/sh\necho {name} >> {people}/ran\n")
        program.chmod(0o755)
    git(repo, "config", "core.fsmonitor", str(repo / ".git" / "monitor"))
    place = repositories.open_repository(str(repo), Config())
    (found,) = place.worktrees()

    def ask() -> bool:
        touch_all(repo, tree)
        place.git("status", "--porcelain", worktree=found)
        place.git("update-ref", "refs/miyabi-healing/x", "HEAD")
        place.git("update-ref", "-d", "refs/miyabi-healing/x")
        return (people / "ran").exists()

    assert not ask()
    monkeypatch.setattr(git_commands, "SAFE", ())
    assert ask()  # as git would have it


def test_git_folder_that_is_exchanged_while_root_looks_is_not_believed(people: Path) -> None:
    repo = repository(people / "mallory" / "app")
    give(THEM, people / "mallory")
    place = repositories.open_repository(str(repo), Config())
    (repo / ".git").rename(repo / "aside")
    other = repository(people / "root" / "app")
    (repo / ".git").symlink_to(other / ".git")
    with pytest.raises(ToolError, match="git was not started"):
        place.git("rev-parse", "HEAD")
    (repo / ".git").unlink()
    (other / ".git").rename(repo / ".git")
    with pytest.raises(ToolError, match="belongs to root"):
        place.git("rev-parse", "HEAD")


def test_link_to_another_users_worktree_is_none_of_this_repository(people: Path) -> None:
    victim = repository(people / "victim" / "app")
    worktree(victim, "unmerged")
    give(ANOTHER, people / "victim")
    mallory = repository(people / "mallory" / "app")
    merged_worktree(mallory, "own")
    give(THEM, people / "mallory")
    (mallory / ".git" / "worktrees" / "000").symlink_to(victim / ".git" / "worktrees" / "unmerged")
    assert reasons(mallory) == {"own": ""}
    assert repositories.open_repository(str(mallory), Config()).worktree_count == 2


def test_folder_of_another_user_that_a_repository_calls_its_worktree_stays(people: Path) -> None:
    mallory = repository(people / "mallory" / "app")
    tree = merged_worktree(mallory, "own")
    give(THEM, people / "mallory")
    assert reasons(mallory) == {"own": ""}
    os.chown(tree, ANOTHER, ANOTHER)
    assert "another user's: " in reasons(mallory)["own"]


TRAPS: dict[str, Callable[[Path, Path], object]] = {
    "a pipe for commondir": lambda x, fake: (
        (x / ".git").write_text(f"gitdir: {fake}\n"),
        os.mkfifo(fake / "commondir"),
    ),
    "an endless commondir": lambda x, fake: (
        (x / ".git").write_text(f"gitdir: {fake}\n"),
        (fake / "commondir").symlink_to("/dev/zero"),
    ),
    "links in a circle": lambda x, fake: (
        (fake / "a").symlink_to("b"),
        (fake / "b").symlink_to("a"),
        (x / ".git").write_text(f"gitdir: {fake}/a/x\n"),
    ),
    "NUL": lambda x, fake: (x / ".git").write_bytes(b"gitdir: /tmp/\0x\n"),
    "8 GB": lambda x, fake: ((x / ".git").touch(), os.truncate(x / ".git", 8 << 30)),
    "a pipe": lambda x, fake: os.mkfifo(x / ".git"),
    "a chain of links": lambda x, fake: (
        [(fake / f"l{n}").symlink_to(f"l{n + 1}") for n in range(MOST_LINKS + 2)],
        (x / ".git").symlink_to(fake / "l0"),
    ),
    "a link to root's": lambda x, fake: (x / ".git").symlink_to("/root"),
    "a file that leads to root's": lambda x, fake: (x / ".git").write_text("gitdir: /root\n"),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_repository_with_a_trap_is_unknown_and_the_others_are_looked_after(
    people: Path, home: Path, trap: str
) -> None:
    good = repository(people / "alice" / "src" / "good")
    (good / ".git" / "index.lock").touch()
    os.utime(good / ".git" / "index.lock", (1, 1))
    x, fake = people / "mallory" / "src" / "x", people / "mallory" / "fake"
    x.mkdir(parents=True)
    fake.mkdir()
    TRAPS[trap](x, fake)
    give(THEM, people / "mallory")
    code, document = report(
        "--config", settings(home, f'[git]\nrepos = ["{people}/*/src/*"]\n'), "--dry-run"
    )
    assert code == 3
    assert {error["check"] for error in document["errors"]} == {
        "excessive_worktrees",
        "stale_git_lock",
    }
    assert all(str(x) in error["message"] for error in document["errors"])
    (action,) = document["actions_taken"]
    assert [step["target"] for step in action["steps"]] == [str(good / ".git" / "index.lock")]


def test_pipe_among_the_worktrees_files_makes_that_repository_unknown_and_nobody_waits(
    people: Path, home: Path
) -> None:
    repo = repository(people / "mallory" / "src" / "x")
    merged_worktree(repo, "one")
    (repo / ".git" / "worktrees" / "zz").mkdir()
    os.mkfifo(repo / ".git" / "worktrees" / "zz" / "gitdir")
    give(THEM, people / "mallory")
    with pytest.raises(OSError, match="no regular file"):
        repositories.open_repository(str(repo), Config()).worktrees()
    os.mkfifo(repo / ".git" / "worktrees" / "one" / "locked")
    (repo / ".git" / "worktrees" / "zz" / "gitdir").unlink()
    assert "cannot be read" in reasons(repo)["one"]


def test_content_of_a_file_that_its_owner_cannot_read_is_in_no_report(
    people: Path, home: Path
) -> None:
    secret = people / "secret"
    secret.write_text("ref: refs/heads/TOPSECRET\n")
    secret.chmod(0o600)
    repo = repository(people / "mallory" / "src" / "x")
    tree = merged_worktree(repo, "one")
    admin = repo / ".git" / "worktrees" / "one"
    give(THEM, people / "mallory")
    for name in ("locked", "HEAD", "gitdir"):
        before = (admin / name).read_bytes() if (admin / name).exists() else None
        (admin / name).unlink(missing_ok=True)
        os.link(secret, admin / name)
        code, document = report(
            "--config",
            settings(
                home, f'[git]\nrepos = ["{repo}"]\n[checks.excessive_worktrees]\nthreshold = 1\n'
            ),
            "--dry-run",
        )
        assert code in (1, 3), document
        assert "TOPSECRET" not in json.dumps(document)
        (admin / name).unlink()
        if before is not None:
            (admin / name).write_bytes(before)
            os.chown(admin / name, THEM, THEM)
    assert tree.exists()


# As an ordinary user


def test_repository_of_another_user_is_not_looked_at_by_an_ordinary_one(people: Path) -> None:
    theirs = repository(people / "theirs")
    mine = repository(people / "mine")
    give(THEM, mine)
    people.chmod(0o755)

    def looked() -> Any:
        found = repository_paths.configured(Config(git=GitSettings(repos=(str(people / "*"),))))
        return [found.paths, found.notes]

    paths, notes = as_user(THEM, looked)
    assert paths == [str(mine)]
    assert notes == [
        f"{theirs} belongs to root (uid 0): only they, or root, can have it looked after"
    ]

    def named() -> Any:
        return repositories.open_repository(str(theirs), Config()).worktree_count

    assert as_user(THEM, named).startswith("NoRepository: ")
    assert as_user(0, named) == 1


def test_repository_planted_above_the_current_folder_is_not_looked_at_and_nothing_of_it_runs(
    people: Path,
) -> None:
    planted = repository(people / "shared")
    tree = merged_worktree(planted, "done")
    with_filter(planted, people / "proof")
    touch_all(planted, tree)
    here = planted / "work" / "deep"
    here.mkdir(parents=True)
    give(THEM, planted / "work")
    found = as_user(
        THEM,
        lambda: list(
            map(
                list,
                (
                    repository_paths.repository_around(here).paths,
                    repository_paths.repository_around(here).notes,
                ),
            )
        ),
    )
    assert found == [
        [],
        [f"{planted} belongs to root (uid 0): only they, or root, can have it looked after"],
    ]
    assert not (people / "proof" / "ran").exists()
    give(THEM, planted)
    assert as_user(THEM, lambda: repository_paths.repository_around(here).paths) == [str(planted)]


# Repositories inside repositories


def test_repository_that_was_added_to_a_worktree_keeps_it_unless_it_is_not_checked_out(
    home: Path,
) -> None:
    repo = repository(home / "src" / "app")
    tree = worktree(repo, "embedding")
    inner = repository(tree / "lib")
    commit(inner, "more", "weeks of work\n")
    git(tree, "add", "lib")
    git(tree, "-c", "advice.addEmbeddedRepo=false", "commit", "-qm", "embed")
    merge(repo, "embedding", "merge")
    assert reasons(repo)["embedding"].startswith("repository inside: lib ")
    git(tree, "update-index", "--index-version", "4")
    assert reasons(repo)["embedding"].startswith("repository inside: lib ")
    shutil.rmtree(inner / ".git")
    for path in inner.iterdir():
        path.unlink()
    assert reasons(repo) == {"embedding": ""}


def test_quarantine_never_lies_inside_a_work_tree(
    home: Path, mounted: Callable[..., Path], tmp_path: Path
) -> None:
    """A volume that is all one repository, as development containers have: there it is in the git
    folder.
    """
    volume = mounted("tmpfs", "16M")
    git(volume, "init", "-q", "-b", "main")
    commit(volume, "readme", "x\n")
    (volume / "cache").mkdir()
    (volume / "cache" / "thing").write_text("x")
    where = Context(Host(Config()), "run", tmp_path / "state", (volume,))
    assert [*quarantine_locations.locations_for(where, volume / "cache" / "thing")] == [
        volume / ".git" / quarantine_locations.FOLDER
    ]
    plain = mounted("tmpfs", "16M")
    (plain / "repository").mkdir()
    git(plain / "repository", "init", "-q", "-b", "main")
    found = [*quarantine_locations.locations_for(where, plain / "repository" / "thing")]
    assert found == [
        plain / quarantine_locations.FOLDER,
        plain / "repository" / ".git" / quarantine_locations.FOLDER,
    ]


def test_rollback_makes_the_folders_again_that_git_clean_took_away(
    home: Path, people: Path
) -> None:
    repo = repository(people / "app")
    (repo / ".git" / "info" / "exclude").write_text(".agent/\n")
    inside = repo / ".agent" / "trees" / "one"
    tree = merged_worktree(repo, "one")
    inside.parent.mkdir(parents=True)
    git(repo, "worktree", "move", str(tree), str(inside))
    os.chown(inside.parent, THEM, THEM)
    inside.parent.chmod(0o750)
    step = RetireWorktree(
        target="", reason="", path=inside, admin=repo / ".git/worktrees/one", common=repo / ".git",
        admin_identity=identity_at(repo / ".git/worktrees/one"), identity=identity_at(inside),
    )  # fmt: skip
    where = Context(Host(Config()), "run", home / "state", (people,))
    (outcome,) = carry_out(plan(step), where)
    assert outcome.status == "applied", outcome
    git(repo, "clean", "-fdxq")
    shutil.rmtree(repo / ".agent", ignore_errors=True)
    with work(where) as prepared:
        rows = rollback.choose(where.state, prepared.journal, None)
        assert [
            each.status for each in rollback.carry_out_rollback(rows, where, prepared.journal)
        ] == ["undone"]
    assert git(inside, "status", "--porcelain") == ""
    status = inside.parent.stat()
    assert (status.st_mode & 0o777, status.st_uid) == (0o750, THEM)


def test_folder_of_a_filesystem_that_is_not_mounted_is_not_made_again(
    home: Path, mounted: Callable[..., Path]
) -> None:
    disk = mounted("ext4", "16M")
    (disk / "deep").mkdir()
    (disk / "deep" / "thing").write_text("x")
    step = Quarantine(
        target="",
        reason="",
        path=disk / "deep" / "thing",
        identity=identity_at(disk / "deep" / "thing"),
    )
    where = Context(Host(Config()), "run", home / "state", (disk,))
    assert carry_out(plan(step), where)[0].status == "applied"
    (held,) = quarantine.find_entries(where.state)
    entry = quarantine_writer.WrittenEntry(
        held.folder, {**held.manifest, "original": f"{home}/gone/deep/thing"}
    )
    assert "is gone, or its filesystem is not mounted" in str(
        quarantine_restore.cannot_make_folders(entry)
    )
    (disk / "deep").rmdir()
    quarantine_restore.put_back(quarantine_writer.WrittenEntry(held.folder, held.manifest))
    assert (disk / "deep" / "thing").read_text() == "x"


def test_bare_repository_and_dotfiles_in_a_home_are_found_as_before(home: Path) -> None:
    git(home, "init", "-q", "--bare", "bare.git")
    place = repository_paths.locate(home / "bare.git")
    assert place
    assert (place.common, place.main, place.owner) == (
        home / "bare.git",
        home / "bare.git",
        os.geteuid(),
    )
    assert repository_paths.locate(home) is None
    with pytest.raises(NoRepository, match="not a git repository"):
        repositories.open_repository(str(home), Config())
    assert gitworld.git(home / "bare.git", "rev-parse", "--is-bare-repository") == "true"
