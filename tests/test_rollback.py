"""What a run took away comes back as it was, or it is said why not; and what nobody wanted back
goes when its time has come.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from gatework import make_older, plan, work
from gitworld import commit, git, merge, repository, worktree
from program import report, run, settings

from conftest import wait_for
from miyabi_healing.gate import execute, rollback, undo
from miyabi_healing.gate.handlers import archive_restore
from miyabi_healing.gate.handlers import log_files as gate_logs
from miyabi_healing.gate.handlers.table import apply
from miyabi_healing.gate.primitives import compression, quarantine_locations, quarantine_restore
from miyabi_healing.gate.primitives.context import Context, Refused
from miyabi_healing.host import users
from miyabi_healing.host.process_status import read_process
from miyabi_healing.host.readings import Host
from miyabi_healing.model.config import Config, PolicySettings
from miyabi_healing.model.config import QuarantineSettings as Quarantined
from miyabi_healing.model.steps import ArchiveLog, Quarantine, RetireWorktree, Run, Step, TrimLog
from miyabi_healing.state import quarantine, retention
from miyabi_healing.state.run_clock import Moment
from miyabi_healing.support.files import identity_at

Start = Callable[..., psutil.Popen]
LINES = b"".join(b"line %06d, and what it says\n" % number for number in range(20_000))


WRITER = """
import sys, time
with open(sys.argv[1], "ab", 0) as file:
    for number in range(10**6):
        file.write(b"since %d\\n" % number)
        time.sleep(0.001)
"""


def state_of(home: Path) -> Path:
    return home / ".local" / "state" / "miyabi-healing"


def context(home: Path, run_id: str = "some-run") -> Context:
    return Context(
        Host(Config(policy=PolicySettings(respect_days=0, cooldown=0))),
        run_id,
        state_of(home),
        (home,),
    )


def do(home: Path, *steps: Step, run_id: str = "some-run") -> None:
    with work(context(home, run_id)) as prepared:
        outcomes: list[execute.Outcome] = []
        execute.carry_out_plan(plan(*steps), prepared, outcomes)
        said = [f"{outcome.status}: {outcome.message}" for outcome in outcomes]
        assert [outcome.status for outcome in outcomes] == ["applied"] * len(steps), said


def undo_all(
    home: Path, run_id: str | None = None, step: int | None = None
) -> list[rollback.Undone]:
    with work(context(home, "later")) as prepared:
        rows = rollback.choose(
            state_of(home), prepared.journal, run_id, () if step is None else (step,)
        )
        return rollback.carry_out_rollback(rows, prepared.context, prepared.journal)


def set_aside(path: Path, text: str = "precious") -> Quarantine:
    path.write_text(text)
    return Quarantine(target=str(path), reason="", path=path, identity=identity_at(path))


def trim(log: Path) -> TrimLog:
    return TrimLog(
        target=str(log),
        reason="",
        path=log,
        identity=identity_at(log),
        keep_lines=5,
        keep_bytes=1 << 20,
    )


def archive(log: Path) -> ArchiveLog:
    return ArchiveLog(target=str(log), reason="", path=log, identity=identity_at(log))


# The command


def test_last_run_is_undone_from_the_last_step_to_the_first(home: Path) -> None:
    do(home, set_aside(home / "older"), run_id="older-run")
    do(home, set_aside(home / "a"), set_aside(home / "b"), run_id="last-run")
    done = run("rollback", "--dry-run")
    assert (done.returncode, (home / "a").exists()) == (0, False)
    assert done.stdout.splitlines()[0] == "Run last-run:"
    assert "2 of 2 step(s) can be undone." in done.stdout
    done = run("--dry-run", "rollback")
    assert (home / "a").exists() is False
    done = run("rollback", "--json")
    document = json.loads(done.stdout)
    assert [(row["number"], row["status"]) for row in document["steps"]] == [
        (3, "undone"),
        (2, "undone"),
    ]
    assert (home / "a").read_text() == (home / "b").read_text() == "precious"
    assert not (home / "older").exists()
    done = run("rollback")
    assert "rolled back already" in done.stdout
    assert "0 of 2 step(s) were undone." in done.stdout


def test_one_run_or_one_step_can_be_named(home: Path) -> None:
    do(home, set_aside(home / "a"), run_id="first")
    do(home, set_aside(home / "b"), set_aside(home / "c"), run_id="second")
    assert run("rollback", "--step", "2").returncode == 0
    assert [(home / name).exists() for name in "abc"] == [False, True, False]
    assert run("rollback", "first").returncode == 0
    assert [(home / name).exists() for name in "abc"] == [True, True, False]


def test_steps_of_one_action_can_be_named(home: Path) -> None:
    do(home, *(set_aside(home / name) for name in "abcd"), run_id="first")
    do(home, set_aside(home / "e"), run_id="second")
    done = run("rollback", "--step", "2-3,5")
    assert done.returncode == 0
    assert [(home / name).exists() for name in "abcde"] == [False, True, True, False, True]
    assert re.findall(r"Run (\w+):|step ([0-9])", done.stdout) == [
        ("second", ""), ("", "5"), ("first", ""), ("", "3"), ("", "2")
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["3-1", "a", "1-", "-1", "1,,2", "1-999999999", ""])
def test_what_is_no_step_is_refused(home: Path, text: str) -> None:
    done = run("rollback", f"--step={text}")
    assert (done.returncode, "is no step, as 17, or range" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("third",), "there is no run 'third'; the last ones: second, first"),
        (("--step", "9"), "there is no step 9"),
        (("first", "--step", "2"), "there is no step 2 in run first"),
        (("--step", "1-3"), "there is no step 3"),
    ],
)
def test_unknown_run_or_step_is_told(home: Path, arguments: tuple[str, ...], said: str) -> None:
    do(home, set_aside(home / "a"), run_id="first")
    do(home, set_aside(home / "b"), run_id="second")
    done = run("rollback", *arguments)
    assert (done.returncode, said in done.stderr) == (2, True)
    assert not (home / "a").exists()


def test_nothing_was_ever_done(home: Path) -> None:
    done = run("rollback")
    assert (done.returncode, done.stderr) == (
        2,
        "miyabi-healing: no run has changed anything yet\n",
    )


def test_what_has_no_way_back_says_so_and_the_rest_comes_back(home: Path) -> None:
    do(home, set_aside(home / "a"), Run(target="true", reason="", argv=("true",), time_limit=5))
    done = run("rollback")
    assert done.returncode == 0
    assert "run true (step 2): what another program did is its own" in done.stdout
    assert "1 of 2 step(s) were undone." in done.stdout


def test_rollback_waits_for_no_pass(home: Path) -> None:
    from miyabi_healing.state import run_lock

    do(home, set_aside(home / "a"))
    held = run_lock.acquire(state_of(home))
    try:
        done = run("rollback")
    finally:
        run_lock.release(held)
    assert (done.returncode, f"pid {os.getpid()}" in done.stderr) == (75, True)


# The world has moved on


def test_taken_name_is_refused_and_nothing_is_overwritten(home: Path) -> None:
    do(home, set_aside(home / "a"))
    (home / "a").write_text("new")
    done = run("rollback")
    assert (done.returncode, "something else is at " in done.stdout) == (1, True)
    assert (home / "a").read_text() == "new"
    (home / "a").unlink()
    assert run("rollback").returncode == 0
    assert (home / "a").read_text() == "precious"


def test_empty_folder_in_the_way_gives_place_to_a_folder_and_nothing_else_does(home: Path) -> None:
    """rename(2) does both: over an empty folder, and not over one that is not."""
    folder = home / "folder"
    folder.mkdir()
    (folder / "x").touch()
    do(
        home,
        Quarantine(target="", reason="", path=folder, identity=identity_at(folder)),
        set_aside(home / "file"),
    )
    (entry,) = undo.entries(state_of(home), "some-run", 1)
    folder.mkdir()
    (home / "file").mkdir()
    (folder / "new").touch()
    assert [each.status for each in undo_all(home)] == ["refused", "refused"]
    with pytest.raises(OSError, match="not empty"):
        quarantine_restore.put_back(entry)
    (folder / "new").unlink()
    folder.rmdir()
    for make in (lambda: folder.write_text("new"), lambda: folder.symlink_to(home / "file")):
        make()
        assert [each.status for each in undo_all(home)] == ["refused", "refused"]
        with pytest.raises(FileExistsError):
            quarantine_restore.put_back(entry)
        folder.unlink()
    folder.mkdir()
    # a file is not put over a folder
    assert sorted(each.status for each in undo_all(home)) == ["refused", "undone"]
    assert (folder / "x").exists()
    (home / "file").rmdir()
    assert [each.status for each in undo_all(home)] == ["undone", "nothing"]


def test_empty_admin_folder_that_git_left_does_not_block_a_worktree(home: Path) -> None:
    repo = repository(home / "repo")
    tree = worktree(repo, "work")
    merge(repo, "work", "merge")
    common, admin = repo / ".git", repo / ".git" / "worktrees" / "work"
    do(
        home,
        RetireWorktree(
            target="",
            reason="",
            path=tree,
            admin=admin,
            common=common,
            admin_identity=identity_at(admin),
            identity=identity_at(tree),
        ),
    )
    admin.mkdir(parents=True, exist_ok=True)
    tree.mkdir()
    for folder in (tree, admin):
        (folder / "new").touch()
        (result,) = undo_all(home)
        assert (result.status, f"something else is at {folder} now" in result.message) == (
            "refused",
            True,
        )
        assert (
            len(quarantine.find_entries(state_of(home))) == 2
        )  # refused before any of it was moved
        (folder / "new").unlink()
    (result,) = undo_all(home)
    assert result.status == "undone", result
    assert git(tree, "status", "--porcelain") == ""


def test_folder_that_is_gone_is_made_again_but_one_that_is_a_link_now_is_refused(
    home: Path, tmp_path: Path
) -> None:
    (home / "folder").mkdir()
    do(home, set_aside(home / "folder" / "a"))
    (home / "folder").rmdir()
    assert "can be undone" in run("rollback", "--dry-run").stdout
    assert not (home / "folder").exists()
    (tmp_path / "victim").mkdir()
    (home / "folder").symlink_to(tmp_path / "victim")
    assert "its folder cannot be reached: Not a directory" in run("rollback").stdout
    assert list((tmp_path / "victim").iterdir()) == []
    (home / "folder").unlink()
    assert run("rollback").returncode == 0
    assert (home / "folder" / "a").exists()


def test_thing_that_was_purged_or_moved_back_by_hand(home: Path) -> None:
    do(home, set_aside(home / "a"), set_aside(home / "b"))
    first, second = quarantine.find_entries(state_of(home))
    first.payload.rename(home / "a")
    assert run("quarantine", "purge", second.name, "--yes").returncode == 0
    done = run("rollback", "some-run")
    assert "not in quarantine any more: purged, or moved back by hand" in done.stdout
    assert (home / "a").exists()


# Worktrees


def test_worktree_comes_back_identical_in_the_middle_of_a_rebase(home: Path) -> None:
    """Files, modes, index, HEAD, branch, reflog, operation in progress, untracked and ignored
    files.
    """
    repo = repository(home / "repo")
    tree = worktree(repo, "work")
    commit(repo, "work.txt", "another\n")
    (tree / "node_modules").mkdir()
    (tree / "node_modules" / "x").write_text("x")
    (tree / ".env").write_text("secret")
    (tree / "tool.sh").write_text("#!/bin/sh\n")
    (tree / "tool.sh").chmod(0o751)
    commit(tree, "second", "two\n")
    git(tree, "rebase", "main", check=False)
    assert (repo / ".git" / "worktrees" / "work" / "rebase-merge").exists()
    before = whole(tree, repo)
    common, admin = repo / ".git", repo / ".git" / "worktrees" / "work"
    step = RetireWorktree(
        target="",
        reason="",
        path=tree,
        admin=admin,
        common=common,
        admin_identity=identity_at(admin),
        identity=identity_at(tree),
    )
    where = context(home)
    from miyabi_healing.gate.handlers import late_look

    with pytest.raises(Refused, match=r"dirty|rebase"):
        apply(step, where)
    assert whole(tree, repo) == before
    # the gate would not: so that there is something to give back
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(late_look, "late_objection", lambda *_: None)
        apply(step, where)
    git(repo, "worktree", "prune", "--expire=now")
    git(repo, "gc", "-q", "--prune=now")
    assert not (common / "worktrees").exists()
    undo.restore(undo.entries(where.state, where.run_id, 0), where)
    assert whole(tree, repo) == before
    assert git(repo, "for-each-ref", "refs/miyabi-healing") == ""
    git(tree, "rebase", "--abort")
    assert git(tree, "log", "--format=%s", "-1") == "second: two"


def whole(tree: Path, repo: Path) -> dict[str, object]:
    files = {
        str(path): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() else None,
        )
        for top in (tree, repo / ".git" / "worktrees" / "work")
        for path in sorted(top.rglob("*"))
    }
    asked = (
        "status --porcelain=v2 --branch --ignored",
        "ls-files --stage",
        "reflog",
        "rev-parse HEAD",
        "stash list",
    )
    answers = {each: git(tree, *each.split(), GIT_OPTIONAL_LOCKS="0") for each in asked}
    return {**files, **answers, "list": git(repo, "worktree", "list", "--porcelain")}


def test_repository_that_is_gone_is_told(home: Path) -> None:
    repo = repository(home / "repo")
    tree = worktree(repo, "work")
    merge(repo, "work", "merge")
    common, admin = repo / ".git", repo / ".git" / "worktrees" / "work"
    step = RetireWorktree(
        target="",
        reason="",
        path=tree,
        admin=admin,
        common=common,
        admin_identity=identity_at(admin),
        identity=identity_at(tree),
    )
    do(home, step)
    repo.rename(home / "elsewhere")
    done = run("rollback")
    assert (done.returncode, f"the repository {common} is gone" in done.stdout) == (1, True)
    (home / "elsewhere").rename(repo)
    assert run("rollback").returncode == 0
    assert git(tree, "status", "--porcelain") == ""


# Logs


@pytest.mark.root
@pytest.mark.parametrize(("filesystem", "way"), [("ext4", "collapsed"), ("tmpfs", "punched")])
def test_shortened_log_comes_back_under_its_writer_with_what_was_written_since(
    mounted: Callable[..., Path], start: Start, filesystem: str, way: str
) -> None:
    home = mounted(filesystem, "64M")
    log = home / "app.log"
    log.write_bytes(LINES)
    writer = start(sys.executable, "-c", WRITER, str(log))
    wait_for(lambda: b"since 5\n" in log.read_bytes())
    where = context(home)
    done = apply(trim(log), where)
    assert done.details["way"] == way
    inode = log.stat().st_ino
    wait_for(lambda: log.read_bytes().count(b"since") > 100)
    undo.restore(undo.entries(where.state, where.run_id, 0), where)
    time.sleep(0.1)
    writer.kill()
    writer.wait()
    assert log.stat().st_ino == inode
    since = log.read_bytes().removeprefix(LINES).split(b"\n")
    assert since[:-1] == [b"since %d" % number for number in range(len(since) - 1)]
    assert len(since) > 100
    assert quarantine.find_entries(where.state) == []


@pytest.mark.root
def test_front_of_a_log_is_not_moved_under_whom_nobody_can_look_into(
    mounted: Callable[..., Path], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = mounted("ext4", "64M")
    log = home / "app.log"
    log.write_bytes(LINES)
    where = context(home)
    assert apply(trim(log), where).details["way"] == "collapsed"
    left = log.read_bytes()

    def said() -> str:
        (entry,) = undo.entries(where.state, where.run_id, 0)
        with pytest.raises(Refused) as refused:
            undo.restore([entry], context(home))
        assert log.read_bytes() == left
        return str(refused.value)

    secret = read_process(start("sleep", "100").pid)
    assert secret is not None
    secret = replace(secret, uid=4242)  # it cannot write to the log by its name
    with monkeypatch.context() as patch:
        found = replace(users.scan_open_files(), unseen=(secret,), why={secret.pid: "told so"})
        patch.setattr(users, "scan_open_files", lambda: found)
        assert (
            f"holders unknown: sleep (pid {secret.pid}) cannot be looked into (told so)" in said()
        )
    for read, why in (("", "inside it, not at its end"), ("cat <&3;", "at an offset of its own")):
        writer = start("sh", "-c", f"exec 3<>{log}; {read} exec sleep 100")
        wait_for(lambda each=writer: each.name() == "sleep")  # type: ignore[misc]
        assert why in said()
        writer.kill()
        writer.wait()
    undo.restore(undo.entries(where.state, where.run_id, 0), context(home))
    assert log.read_bytes() == LINES


def test_shortened_log_is_found_where_it_was_rotated_to(home: Path) -> None:
    log = home / "app.log"
    log.write_bytes(LINES)
    do(home, trim(log))
    log.rename(home / "app.log.1")
    log.write_text("new\n")
    (result,) = undo_all(home)
    assert result.status == "undone", result
    assert (home / "app.log.1").read_bytes() == LINES
    assert log.read_text() == "new\n"


def test_log_that_was_begun_anew_is_refused(home: Path) -> None:
    log = home / "app.log"
    log.write_bytes(LINES)
    do(home, trim(log))
    log.write_bytes(b"n" * len(LINES))
    (result,) = undo_all(home)
    assert (result.status, "truncated or rewritten since" in result.message) == ("refused", True)
    assert log.read_bytes() == b"n" * len(LINES)


def test_logs_shortened_twice_come_back_in_turn(home: Path) -> None:
    log = home / "app.log"
    log.write_bytes(LINES)
    do(home, trim(log), run_id="first")
    with log.open("ab") as file:
        file.write(LINES)
    do(home, trim(log), run_id="second")
    (result,) = undo_all(home, "first")
    assert (result.status, "roll that back first" in result.message) == ("refused", True)
    assert [undo_all(home, run_id)[0].status for run_id in ("second", "first")] == [
        "undone",
        "undone",
    ]
    assert log.read_bytes() == LINES + LINES


@pytest.mark.root
def test_archived_log_comes_back_beside_what_has_its_name_now(home: Path, start: Start) -> None:
    """The other file keeps its content, owner and mode, and nobody who can read that one can read
    the log by it.
    """
    log = home / "app.log"
    log.write_bytes(LINES)
    log.chmod(0o600)
    before = log.stat()
    do(home, archive(log))
    log.write_bytes(b"since\n")
    log.chmod(0o644)
    os.chown(log, 65534, 65534)
    with log.open("ab") as file:
        start("sleep", "100", stdout=file)
    other = known(log)
    assert "made beside it" in run("rollback", "--dry-run").stdout
    (result,) = undo_all(home)
    beside = log.with_name("app.log.restored-some-run")
    assert (result.status, f"as {beside.name}" in result.message) == ("undone", True)
    assert (known(log), log.read_bytes()) == (other, b"since\n")
    after = beside.stat()
    assert beside.read_bytes() == LINES
    assert (after.st_mode, after.st_uid, after.st_mtime_ns) == (
        before.st_mode,
        before.st_uid,
        before.st_mtime_ns,
    )
    assert {
        path.name
        for path in home.iterdir()
        if "app.log" in path.name or ".miyabi-some" in path.name
    } == {"app.log", beside.name}
    assert quarantine.find_entries(state_of(home)) == []


def known(path: Path) -> tuple[int, ...]:
    """What would change if anybody touched a file, but for reading it."""
    status = path.stat()
    return (
        status.st_ino,
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


@pytest.mark.parametrize("other", ["file", "folder", "link", "taken twice"])
def test_archived_log_is_never_put_over_or_through_anything(
    home: Path, tmp_path: Path, other: str
) -> None:
    log, victim = home / "app.log", tmp_path / "victim"
    log.write_bytes(LINES)
    do(home, archive(log))
    beside = f"{log.name}.restored-some-run"
    if other == "folder":
        log.mkdir()
    elif other == "link":
        log.symlink_to(victim)
    else:
        log.write_text("other")
    if other == "taken twice":
        (home / beside).write_text("a person's")
        beside += ".2"
    (result,) = undo_all(home)
    assert (result.status, beside in result.message) == ("undone", True)
    assert (home / beside).read_bytes() == LINES
    assert not victim.exists()


def test_log_that_was_given_a_name_beside_before_a_crash_is_not_made_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The crash that left it aside came before it was deleted; the second one after it had got a
    name again.
    """
    log = home / "app.log"
    log.write_bytes(LINES)
    with monkeypatch.context() as patch:
        patch.setattr(gate_logs.os, "unlink", lambda *_, **__: None)
        do(home, archive(log))
    log.write_text("other")
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(
                archive_restore, "drop", lambda _: (_ for _ in ()).throw(OSError("a crash"))
            )
            assert [each.status for each in undo_all(home)] == ["refused"]
    assert [each.status for each in undo_all(home)] == ["undone"]
    assert sorted(path.name for path in home.iterdir() if "app.log" in path.name) == [
        "app.log",
        "app.log.restored-some-run",
    ]
    assert (log.read_text(), (home / "app.log.restored-some-run").read_bytes() == LINES) == (
        "other",
        True,
    )


def test_log_that_finds_its_name_taken_while_it_is_made_goes_beside(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = home / "app.log"
    log.write_bytes(LINES)
    do(home, archive(log))
    dress = archive_restore.dress

    def late(*arguments: Any) -> None:
        dress(*arguments)
        log.write_text("late")

    monkeypatch.setattr(archive_restore, "dress", late)
    (result,) = undo_all(home)
    assert (result.status, log.read_text()) == ("undone", "late")
    assert (home / "app.log.restored-some-run").read_bytes() == LINES


@pytest.mark.parametrize("size", [100, 255])
def test_log_with_the_longest_name_comes_back_beside_as_well(home: Path, size: int) -> None:
    log = home / ("é" * (size // 2) + "x" * (size % 2))
    log.write_bytes(LINES)
    do(home, archive(log))
    log.write_text("other")
    assert [each.status for each in undo_all(home)] == ["undone"]
    assert [
        path.read_bytes() == LINES for path in home.iterdir() if ".restored-some-run" in path.name
    ] == [True]


@pytest.mark.root
@pytest.mark.parametrize("change", ["mode", "owner", "group"])
def test_shortened_log_whose_owner_or_mode_changed_is_refused_and_says_where_the_rest_is(
    home: Path, change: str
) -> None:
    log = home / "app.log"
    log.write_bytes(LINES)
    log.chmod(0o600)
    do(home, trim(log))
    {
        "mode": lambda: log.chmod(0o644),
        "owner": lambda: os.chown(log, 65534, -1),
        "group": lambda: os.chown(log, -1, 65534),
    }[change]()
    left = log.read_bytes()
    (held,) = quarantine.find_entries(state_of(home))
    (result,) = undo_all(home)
    assert (result.status, result.message) == (
        "refused", f"its owner or mode was changed since; what was cut off is in {held.payload}"
    )  # fmt: skip
    assert log.read_bytes() == left
    log.chmod(0o600)
    os.chown(log, 0, 0)
    assert [each.status for each in undo_all(home)] == ["undone"]
    assert log.read_bytes() == LINES


def test_shortened_log_that_became_a_databases_since_gets_its_lines_back(home: Path) -> None:
    """What an earlier version took for a log has to come back whatever it is taken for now."""
    log = home / "data" / "shop.log"
    log.parent.mkdir()
    log.write_bytes(LINES)
    do(home, trim(log))
    (home / "data" / "shop.script").touch()
    assert [each.status for each in undo_all(home)] == ["undone"]
    assert log.read_bytes() == LINES


def test_folder_gets_its_time_back_also_where_another_name_of_the_same_file_was_taken_later(
    home: Path,
) -> None:
    folder = home / "folder"
    folder.mkdir()
    first = set_aside(folder / "one")
    (folder / "two").hardlink_to(folder / "one")
    os.utime(folder, ns=(10**18, 10**18))
    do(home, first, run_id="first")
    time.sleep(2 * quarantine_restore.SAME_MOMENT / 1e9)
    two = folder / "two"
    do(home, Quarantine(target="", reason="", path=two, identity=identity_at(two)), run_id="second")
    assert [undo_all(home, run_id)[0].status for run_id in ("second", "first")] == [
        "undone",
        "undone",
    ]
    assert folder.stat().st_mtime_ns == 10**18
    assert (folder / "one").samefile(two)


def test_thing_stays_on_record_where_its_folder_cannot_be_looked_at_any_more(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network filesystems answer a look with ESTALE or EIO at any moment, also just after the
    rename.
    """
    step = set_aside(home / "thing")
    rename, fstat = os.rename, os.fstat
    stale: list[bool] = []

    def renamed(*arguments: Any, **options: Any) -> None:
        rename(*arguments, **options)
        stale.append("src_dir_fd" in options)

    def looked(descriptor: int) -> os.stat_result:
        if stale and stale.pop():
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return fstat(descriptor)

    monkeypatch.setattr(os, "rename", renamed)
    monkeypatch.setattr(os, "fstat", looked)
    do(home, step)
    monkeypatch.undo()
    assert [each.status for each in undo_all(home)] == ["undone"]
    assert (home / "thing").read_text() == "precious"


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


def strip_checksums(content: bytes) -> bytes:
    """The same content in frames without checksums: only the archive's own hash can tell."""
    return bytes(compression.library().compress(compression.library().decompress(content)))


def cut_short(content: bytes) -> bytes:
    return content[:-1]


@pytest.mark.parametrize("make", [archive, trim])
@pytest.mark.parametrize("spoil", [flip, strip_checksums, cut_short])
def test_archive_that_is_damaged_is_not_given_back(
    home: Path, make: Callable[[Path], Step], spoil: Callable[[bytes], bytes]
) -> None:
    log = home / "app.log"
    log.write_bytes(LINES)
    do(home, make(log))
    left = log.read_bytes() if log.exists() else None
    (held,) = quarantine.find_entries(state_of(home))
    held.payload.write_bytes(spoil(held.payload.read_bytes()))
    (result,) = undo_all(home)
    assert (result.status, "the archive is damaged" in result.message) == ("refused", True)
    assert (log.read_bytes() if log.exists() else None) == left
    assert held.payload.exists()


@pytest.mark.parametrize("make", [archive, trim])
@pytest.mark.parametrize(
    "rest", [b"\x28\xb5\x2f\xfd", b"no frame", b"\0" * 100_000], ids=["begun", "none", "zeros"]
)
def test_what_a_full_disk_left_behind_an_archive_is_passed_over(
    home: Path, make: Callable[[Path], Step], rest: bytes
) -> None:
    log = home / "app.log"
    log.write_bytes(LINES)
    do(home, make(log))
    (held,) = quarantine.find_entries(state_of(home))
    with held.payload.open("ab") as file:
        file.write(rest)
    (result,) = undo_all(home)
    assert (result.status, log.read_bytes() == LINES) == ("undone", True)


@pytest.mark.parametrize("make", [archive, trim])
@pytest.mark.parametrize("whole", [True, False])
def test_archive_of_an_earlier_version_is_known_by_the_hash_of_what_it_holds(
    home: Path, make: Callable[[Path], Step], whole: bool
) -> None:
    log = home / "app.log"
    log.write_bytes(LINES)
    do(home, make(log))
    (held,) = quarantine.find_entries(state_of(home))
    content = compression.library().decompress(held.payload.read_bytes())
    facts = {key: value for key, value in held.manifest.items() if not key.startswith("packed_")}
    facts["sha256"] = hashlib.sha256(content if whole else content + b"x").hexdigest()
    (held.folder / "manifest.json").write_text(json.dumps(facts))
    (result,) = undo_all(home)
    assert (result.status, log.exists() and log.read_bytes() == LINES) == (
        "undone" if whole else "refused",
        whole or make is trim,
    )


@pytest.mark.root
def test_log_that_does_not_fit_back_is_refused_before_anything_is_done(
    mounted: Callable[..., Path],
) -> None:
    home = mounted("tmpfs", "8M")
    log = home / "app.log"
    log.write_bytes(LINES * 8)
    do(home, trim(log))
    with (home / "filler").open("wb") as file:
        file.write(b"x" * (5 << 20))
    before = log.read_bytes()
    (result,) = undo_all(home)
    assert (result.status, "are free" in result.message) == ("refused", True)
    assert log.read_bytes() == before


# Expiry


def age(home: Path, days: float, only: str = "") -> None:
    for held in quarantine.find_entries(state_of(home)):
        if only in held.original:
            make_older(held, days)


def test_what_has_been_kept_for_its_time_goes_and_is_told(home: Path) -> None:
    do(home, set_aside(home / "old", "x" * 10_000), set_aside(home / "young"))
    age(home, 31, "old")
    file = settings(home)
    code, document = report("--config", file, "--dry-run")
    assert (code, [step["status"] for step in document["quarantine"]["purged"]]) == (0, ["planned"])
    assert len(quarantine.find_entries(state_of(home))) == 2
    code, document = report("--config", file)
    (purged,) = document["quarantine"]["purged"]
    assert (code, purged["status"], purged["freed"]) == (0, "applied", 12_288)
    assert purged["reason"].startswith("kept for 31 days; its time is 30; it was ")
    assert document["quarantine"]["things"] == 1
    assert [held.original for held in quarantine.find_entries(state_of(home))] == [
        str(home / "young")
    ]
    assert "Quarantine:" in run("--config", file).stdout


def test_the_oldest_goes_first_and_a_budget_holds_purging_too(home: Path) -> None:
    do(home, *(set_aside(home / name, "x" * 1_000_000) for name in "abc"))
    for days, name in enumerate("cba"):
        age(home, 31 + days, f"/{name}")
    _, document = report("--config", settings(home, "[budgets]\ngigabytes = 0.0015\n"))
    steps = document["quarantine"]["purged"]
    assert [(step["reason"].rsplit("/", 1)[1], step["status"]) for step in steps] == [
        ("a", "applied"), ("b", "vetoed"), ("c", "vetoed"),
    ]  # fmt: skip
    assert steps[1]["message"] == "budget: 1.5 MB a run; this takes 1.0 MB"
    assert document["quarantine"]["things"] == 2


def test_what_one_step_took_goes_together(home: Path) -> None:
    repo = repository(home / "repo")
    tree = worktree(repo, "work")
    merge(repo, "work", "merge")
    common, admin = repo / ".git", repo / ".git" / "worktrees" / "work"
    do(
        home,
        RetireWorktree(
            target="",
            reason="",
            later=5000,
            path=tree,
            admin=admin,
            common=common,
            admin_identity=identity_at(admin),
            identity=identity_at(tree),
        ),
    )
    later = Moment(time.time(), time.time())
    assert (
        retention.due(
            quarantine.find_entries(state_of(home)), Quarantined(days=0), later, "some-run"
        )
        == []
    )
    (steps,) = retention.due(
        quarantine.find_entries(state_of(home)), Quarantined(days=0), later, "another"
    )
    assert [step.target for step in steps] == [
        "some-run/0001-worktree",
        "some-run/0001-worktree-admin",
    ]
    listed = run("quarantine", "list", "-v").stdout
    assert (listed.count("some-run/0001-worktree"), "1 worktree " in listed) == (1, True)
    done = run("quarantine", "purge", steps[1].target)
    assert done.stdout.startswith("Purged 1 thing(s), ")
    assert quarantine.find_entries(state_of(home)) == []
    assert run("rollback").returncode == 1


def test_pause_holds_purging_too(home: Path) -> None:
    do(home, set_aside(home / "old"))
    age(home, 31)
    assert run("pause", "--for", "1h", "--reason", "wait").returncode == 0
    _, document = report("--config", settings(home))
    (step,) = document["quarantine"]["purged"]
    assert (step["status"], step["message"]) == ("vetoed", step["message"])
    assert step["message"].startswith("paused until ")
    assert step["message"].endswith(": wait")
    assert len(quarantine.find_entries(state_of(home))) == 1


def test_listing_and_purging_by_hand(home: Path) -> None:
    do(home, set_aside(home / "a"), set_aside(home / "b"))
    done = run("quarantine", "list")
    assert done.stdout.startswith("some-run  2 files 8.2 kB · until ")
    assert len(done.stdout.splitlines()) == 2
    done = run("quarantine", "list", "some-run")
    assert done.stdout.startswith("some-run/0001-quarantine  4.1 kB, until ")
    assert json.loads(run("quarantine", "list", "--json").stdout)["things"][1]["original"] == str(
        home / "b"
    )
    assert run("quarantine", "purge").returncode == 2
    assert run("quarantine", "purge", "nonsense").returncode == 2
    assert (
        run("quarantine", "purge", "--older-than", "1d").stdout == "Purged 0 thing(s), freed 0 B.\n"
    )
    assert "Would purge 2 thing(s)" in run("quarantine", "purge", "--all", "--dry-run").stdout
    assert len(quarantine.find_entries(state_of(home))) == 2
    assert (
        run("quarantine", "purge", "some-run/0001-quarantine").stdout
        == "Purged 1 thing(s), freed 4.1 kB.\n"
    )
    assert run("quarantine", "purge", "some-run").returncode == 0
    assert run("quarantine", "list").stdout == "The quarantine is empty.\n"


def test_purging_a_worktree_lets_go_of_its_commits(home: Path) -> None:
    repo = repository(home / "repo")
    tree = worktree(repo, "work")
    merge(repo, "work", "merge")
    git(tree, "checkout", "-q", "--detach")
    commit(tree, "lost", "only in the reflog")
    git(tree, "checkout", "-q", "work")
    common, admin = repo / ".git", repo / ".git" / "worktrees" / "work"
    do(
        home,
        RetireWorktree(
            target="",
            reason="",
            path=tree,
            admin=admin,
            common=common,
            admin_identity=identity_at(admin),
            identity=identity_at(tree),
        ),
    )
    assert git(repo, "for-each-ref", "refs/miyabi-healing") != ""
    assert run("quarantine", "purge", "--all").returncode == 0
    assert git(repo, "for-each-ref", "refs/miyabi-healing") == ""


@pytest.mark.root
def test_thing_that_cannot_be_purged_stays_known_and_is_tried_again(
    mounted: Callable[..., Path],
) -> None:
    home = mounted("ext4", "64M")
    (home / "folder").mkdir()
    (home / "folder" / "x").write_text("x")
    do(
        home,
        Quarantine(
            target="", reason="", path=home / "folder", identity=identity_at(home / "folder")
        ),
    )
    (held,) = quarantine.find_entries(state_of(home))
    subprocess.run(["chattr", "+i", str(held.payload / "x")], check=True)
    try:
        done = run("quarantine", "purge", "--all", HOME=str(home))
    finally:
        subprocess.run(["chattr", "-i", str(held.payload / "x")], check=True)
    assert (done.returncode, "Operation not permitted" in done.stderr) == (1, True)
    assert "being purged" in run("rollback", HOME=str(home)).stdout
    assert run("quarantine", "purge", "--all", HOME=str(home)).returncode == 0
    assert quarantine.find_entries(state_of(home)) == []


def test_quarantines_on_other_filesystems_are_found_again(home: Path, tmp_path: Path) -> None:

    state = state_of(home)
    weird = tmp_path / os.fsdecode(b"other \xff\n") / ".miyabi-healing"
    quarantine_locations.register(state, weird)
    quarantine_locations.register(state, weird)
    assert quarantine.locations(state) == [state / "quarantine", weird]
