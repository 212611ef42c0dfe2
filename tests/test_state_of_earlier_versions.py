"""What an earlier version left in its state folder is read, recovered, rolled back and purged by
this one.

The state is data, not made by today's code: see the README in its folder. It is looked at through
the command line alone, so that nothing here depends on where which module is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest
from gitworld import git
from program import report, run, settings
from slackserver import slack

from conftest import PROJECT

MADE = PROJECT / "tests" / "data" / "state_of_0_1"
PLACE = "@HOME@"
BLOCK = 4096
FAR, MAIN, COLLAPSED, MIXED = (
    f"20261125T{rest}" for rest in ("215900-100", "220000-101", "220100-102", "220200-103")
)
REAL = "20261125T220532-8944"  # the only run that the program made by itself
HELD = {
    f"{REAL}/0001-quarantine",
    f"{FAR}/0002-quarantine",
    f"{MAIN}/0003-quarantine",
    f"{MAIN}/0004-quarantine",
    f"{MAIN}/0005-worktree",
    f"{MAIN}/0005-worktree-admin",
    f"{MAIN}/0006-log-archive",
    f"{MAIN}/0007-log-archive",
    f"{MAIN}/0008-log-trim",
    f"{COLLAPSED}/0014-log-trim",
    f"{MIXED}/0016-quarantine",
    f"{MIXED}/0017-quarantine",
    "20261125T220600-107/0021-quarantine",
    "20261125T220800-109/0023-log-archive",
    "20261125T220900-110/0024-log-trim",
}
HALF_DONE = {name for name in HELD if int(name.split("/")[1][:4]) > 15}
IMPOSSIBLE = {
    ("cut log", "it was cut without an archive, as the configuration asks"),
    ("delete", "its tool makes it again; what it was is listed in the state folder's manifests"),
    ("signal", "a signal cannot be taken back"),
    ("run", "what another program did is its own"),
    ("reclaim", "there is nothing to give back"),
}


@pytest.fixture
def state(home: Path) -> Path:
    """The state folder, in a world where everything is as it was when that version had last been at
    work.
    """
    here = str(home)
    with tarfile.open(MADE / "home.tar.gz") as world:
        world.extractall(home, filter=owned_by(home))
    for path in [each for each in home.rglob("*") if each.is_file() and not each.is_symlink()]:
        # git names a worktree's folders by their whole paths
        if PLACE.encode() in (content := path.read_bytes()):
            replace(path, content.replace(PLACE.encode(), here.encode()))
    for file in [each for each in (MADE / "home").rglob("*") if each.is_file()]:
        text = file.read_text().replace(PLACE, here)
        to = home / file.relative_to(MADE / "home")
        to.write_text(at_home_here(text, to.parent, home) if file.name == "manifest.json" else text)
        to.chmod(0o600)
    folder = home / ".local" / "state" / "miyabi-healing"
    with contextlib.closing(sqlite3.connect(folder / "journal.sqlite3")) as journal:
        journal.executescript((MADE / "journal.sql").read_text().replace(PLACE, here))
    (folder / "journal.sqlite3").chmod(0o600)
    return folder


def owned_by(home: Path) -> Any:
    """A filter that gives everything to whoever runs the test, root or not."""
    owner = home.stat()
    return lambda member, _to: member.replace(
        uid=owner.st_uid, gid=owner.st_gid, uname="", gname="", deep=False
    )


def replace(path: Path, content: bytes) -> None:
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def at_home_here(text: str, entry: Path, home: Path) -> str:
    """A manifest with what is different on this machine; all the rest of it is as that version
    wrote it.

    - `uid`, `gid` and the owner in `parent`: those of whoever runs the test, as the files were
      given to them.
    - A shortened log is known again by `identity` (inode, birth, filesystem): only the inode stays,
      and it is this file's.
      What is not known is left out by that version, too. An archived log's is of a file that is
      gone: it stays.
    - `left_mtime_ns` of a shortened log: an archive keeps less than nanoseconds. By it nobody has
      written to it since.
    """
    facts, owner = json.loads(text), home.stat()
    facts |= {
        key: value for key, value in (("uid", owner.st_uid), ("gid", owner.st_gid)) if key in facts
    }
    if "parent" in facts:
        facts["parent"] = [facts["parent"][0], owner.st_uid, owner.st_gid]
    if facts["kind"] == "log-trim":
        log = Path(facts["original"])
        punch_again(log)
        facts["identity"] = {"inode": log.stat().st_ino}
        facts |= {"left_mtime_ns": log.stat().st_mtime_ns} if "left_mtime_ns" in facts else {}
    return json.dumps(facts, indent=1)


def punch_again(log: Path) -> None:
    """Make the hole at a log's beginning that the archive has as zeros, in the same file."""
    content = log.read_bytes()
    begin = (len(content) - len(content.lstrip(b"\0"))) // BLOCK * BLOCK
    with log.open("r+b") as file:
        file.truncate(0)
        file.seek(begin)
        file.write(content[begin:])


def snapshot(home: Path) -> dict[str, list[object]]:
    """Mode, content and time of everything, as before.json has it: whole seconds, and no times but
    of files.
    """
    found: dict[str, list[object]] = {}
    for path in home.rglob("*"):
        status = path.lstat()
        content = f"link to {os.readlink(path)}" if path.is_symlink() else None
        is_file = stat.S_ISREG(status.st_mode)
        if is_file:
            content = hashlib.sha256(
                path.read_bytes().replace(str(home).encode(), PLACE.encode())
            ).hexdigest()
        time = int(status.st_mtime) if is_file else None
        found[str(path.relative_to(home))] = [f"{status.st_mode:o}", content, time]
    return found


def is_as_before(home: Path, *tops: str) -> bool:
    """Whether what was taken from some places is back as it was: those that before.json has, and
    nothing beside them.
    """

    def there(names: dict[str, list[object]]) -> dict[str, list[object]]:
        return {
            name: what
            for name, what in names.items()
            if any(name == top or name.startswith(f"{top}/") for top in tops)
        }

    expected = there(json.loads((MADE / "before.json").read_text()))
    assert expected
    assert there(snapshot(home)) == expected
    return True


def rollback(*arguments: str, code: int = 0) -> dict[int, dict[str, Any]]:
    """What a rollback says, step by step."""
    done = run("rollback", *arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return {step["number"]: step for step in json.loads(done.stdout)["steps"]}


def held() -> set[str]:
    return {
        each["name"] for each in json.loads(run("quarantine", "list", "--json").stdout)["things"]
    }


def ask(state: Path, query: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(state / "journal.sqlite3")) as journal:
        return journal.execute(query).fetchall()


def version_of_a_new_journal(folder: Path) -> int:
    assert run("resume", XDG_STATE_HOME=str(folder)).returncode == 0
    ((version,),) = ask(folder / "miyabi-healing", "pragma user_version")
    return int(version)


def test_everything_in_it_can_be_looked_at_and_stays_as_it_is(home: Path, state: Path) -> None:
    before = snapshot(home)
    done = run("status", "--json")
    status = json.loads(done.stdout)
    # 3: a step of the last run was rolled back
    assert (done.returncode, done.stderr, status["run_id"], status["issues"]) == (3, "", REAL, [])
    assert (status["paused"]["reason"], status["paused"]["by"]) == ("the state of 0.1", "somebody")
    # a worktree's folder and git's for it are one thing
    assert status["quarantine"]["things"] == len(HELD) - 1
    (row,) = json.loads(run("history", "--since", "5200w", "--json").stdout)
    assert (row["run"], row["checks"], row["found"], row["healed"]) == (REAL, 6, 1, 1)
    (row,) = json.loads(
        run("history", "--since", "5200w", "--issue", "stale_git_lock", "--json").stdout
    )
    assert (row["target"], row["after"], row["actions"]) == (
        str(home / "repo"),
        0,
        "fix_git_locks: success",
    )
    done = run("quarantine", "list", "--json")
    things = {each["name"]: each for each in json.loads(done.stdout)["things"]}
    assert (set(things), done.stderr) == (HELD, "")
    assert things[f"{MAIN}/0005-worktree"]["original"] == str(home / "trees" / "done")
    assert {each["status"] for each in rollback(MAIN, "--dry-run").values()} == {
        "planned",
        "impossible",
    }
    assert {each["status"] for each in rollback(FAR, "--dry-run").values()} == {"planned"}
    assert snapshot(home) == before


def test_run_is_rolled_back_and_what_cannot_be_is_refused_with_the_reason(
    home: Path, state: Path, tmp_path: Path
) -> None:
    steps = rollback(MAIN)
    assert {step["kind"] for step in steps.values() if step["status"] == "undone"} == {
        "quarantine", "retire worktree", "archive log", "trim log",
    }  # fmt: skip
    assert {
        (step["kind"], step["message"]) for step in steps.values() if step["status"] != "undone"
    } == IMPOSSIBLE
    assert {step["status"] for step in steps.values()} == {"undone", "impossible"}
    beside = home / "logs" / f"name taken.log.restored-{MAIN}"
    assert f"it is beside it, as {beside.name}" in steps[7]["message"]
    assert (home / "logs" / "name taken.log").read_text() == "begun anew\n"
    beside.replace(home / "logs" / "name taken.log")
    logs = tuple(f"logs/{name}.log" for name in ("archived", "name taken", "trimmed"))
    assert is_as_before(home, "file", "folder", "trees/done", "repo/.git/worktrees/done", *logs)
    assert {(home / log).stat().st_mtime_ns for log in logs} == {1_700_000_100_987_654_321}
    assert not [each for each in held() if each.startswith(MAIN)]

    tree, repo = home / "trees" / "done", home / "repo"
    assert f"worktree {tree}\n" in git(repo, "worktree", "list", "--porcelain")
    assert git(repo, "for-each-ref", "--format=%(refname)") == "refs/heads/done\nrefs/heads/main"
    assert git(tree, "symbolic-ref", "HEAD") == "refs/heads/done"
    assert git(tree, "status", "--porcelain") == ""
    assert "only in the reflog" in git(tree, "log", "-g", "--format=%s")
    git(repo, "fsck", "--strict")

    assert ask(state, "pragma user_version") == [(version_of_a_new_journal(tmp_path / "new"),)]
    assert ask(state, "pragma integrity_check") == [("ok",)]
    assert {each["status"] for each in rollback(MAIN).values()} == {"nothing", "impossible"}


# who else has a log open can be seen by root alone; without knowing, nothing is put in at its front
@pytest.mark.root
def test_log_that_was_made_shorter_gets_its_beginning_back(home: Path, state: Path) -> None:
    done = run("rollback", COLLAPSED)
    if "cannot widen a file" in done.stdout:
        pytest.skip("the filesystem of the temporary folder cannot widen a file at its front")
    assert done.returncode == 0, done.stdout
    assert is_as_before(home, "logs/collapsed.log")


def test_thing_that_was_set_aside_on_another_filesystem_comes_back(home: Path, state: Path) -> None:
    assert {step["status"] for step in rollback(FAR).values()} == {"undone"}
    assert is_as_before(home, "disk/far")


def test_what_a_crash_left_half_done_is_taken_back_or_finished(home: Path, state: Path) -> None:
    done = run("resume")
    assert (done.returncode, done.stdout) == (0, "Healing goes on.\n")
    told = [
        line.removeprefix("miyabi-healing: ").replace(str(home), PLACE)
        for line in done.stderr.splitlines()
    ]
    assert told == [
        "step 24 (trim log @HOME@/logs/half trimmed.log) was half done: taken back",
        "step 23 (archive log @HOME@/logs/half archived.log) was half done: taken back",
        "step 22 (run true) was half done: whether the command ended is not known",
        "step 21 (quarantine @HOME@/crashed) was half done: taken back",
        "step 20 (purge 20261125T220200-103/0016-quarantine) was half done: finished",
        "step 17 (quarantine @HOME@/half rolled back) was half done: taken back",
    ]
    assert is_as_before(home, "crashed", "half rolled back", "logs/half archived.log")
    half, whole = (snapshot(home)[f"logs/{name}.log"] for name in ("half trimmed", "half archived"))
    # that version had not noted yet by what time it would know that nobody has written to it
    assert half[:2] == whole[:2]
    assert [each.name for each in (home / "logs").iterdir() if each.name.startswith(".")] == []
    assert ask(state, "select id, status from step where id > 14 order by id") == [
        (15, "applied"),
        (16, "applied"),
        (17, "rolled back"),
        (18, "rolled back"),
        (19, "applied"),
        (20, "interrupted"),
        (21, "undone"),
        (22, "interrupted"),
        (23, "undone"),
        (24, "undone"),
    ]
    steps = rollback(MIXED)
    assert {number: step["status"] for number, step in steps.items()} == {
        15: "impossible", 16: "impossible", 17: "nothing", 18: "nothing",
    }  # fmt: skip
    assert steps[15]["message"] == "it is not in quarantine any more: purged, or moved back by hand"
    assert run("resume").stderr == ""


def test_run_of_this_version_goes_on_from_there(home: Path, state: Path) -> None:
    with slack() as server:
        code, document = report("--config", settings(home), "--slack", SLACK_WEBHOOK_URL=server.url)
    assert code == 0, document
    (message,) = server.got
    assert "stale_git_lock" in json.dumps(message)  # it waited since it could not be sent
    assert ask(state, "select count(*) from outbox") == [(0,)]
    assert is_as_before(home, "crashed", "half rolled back")
    assert len(json.loads(run("history", "--since", "5200w", "--json").stdout)) == 2
    assert held() == HELD - HALF_DONE


def test_all_of_it_can_be_purged(home: Path, state: Path) -> None:
    """What is half done is taken back or finished first, and nothing more is said of that."""
    done = run("quarantine", "purge", "--all")
    assert (done.returncode, held()) == (0, set()), done.stderr
    assert "gone already" not in done.stderr
    assert (
        git(home / "repo", "for-each-ref", "--format=%(refname)")
        == "refs/heads/done\nrefs/heads/main"
    )
