"""Claims are given back by compare and set, wherever they are kept: what somebody has done
meanwhile is never lost.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from coordinatorwork import GONE_OWNER, OLD, planned, rewritten
from fleetwork import Postgres, needs_postgres
from gatework import carry_out, plan

from miyabi_healing.gate.primitives import task_file
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.gate.primitives.roots import allowed
from miyabi_healing.host.process_status import read_process
from miyabi_healing.host.readings import Host
from miyabi_healing.model.actions import Outcome
from miyabi_healing.model.config import Config, PolicySettings
from miyabi_healing.model.coordinator import Coordinator
from miyabi_healing.state import quarantine

Start = Callable[..., psutil.Popen]
TEXT = (
    '{\n\t"about" : 1.10, "big": 12345678901234567890, "same": 1, "same": 2,\n'
    '\t"tasks": [ {"id":"t1" , "status" :"in_progress","assigned_to":"GONE",'
    ' "started_at" : 1.70e9 , "note": "\\u00e4 \\/ ä"},\n'
    '\t{"status": "in_progress", "id": "t2", "assigned_to": "OTHER", "assigned_to": "GONE"},\n'
    '\t{"id":"t3","status":"completed","assigned_to":"GONE"} ]\n}\n\n'
).replace("GONE", GONE_OWNER)
AFTER = (
    TEXT.replace('"status" :"in_progress"', '"status" :"pending"')
    .replace('"status": "in_progress"', '"status": "pending"')
    .replace(f'"assigned_to":"{GONE_OWNER}", ', '"assigned_to":null, ')
    .replace('"started_at" : 1.70e9', '"started_at" : null')
    .replace(f'"OTHER", "assigned_to": "{GONE_OWNER}"', '"OTHER", "assigned_to": null')
)  # fmt: skip


def coordinator(home: Path, **more: Any) -> Config:
    (home / "pid").write_text(str(os.getpid()))  # it lives
    keys: dict[str, Any] = {"pid_file": str(home / "pid"), "start": ("true",)}
    keys |= {"owned_by": "host boot pid start", **more}
    return Config(coordinators={"builder": Coordinator(**keys)}, policy=PolicySettings(cooldown=0))


def of_file(home: Path, **more: Any) -> Config:
    (home / "tasks.json").write_text(TEXT)
    return coordinator(home, tasks=str(home / "tasks.json"), list="/tasks", **more)


def context(home: Path, config: Config) -> Context:
    return Context(Host(config), "run", home.parent / "state", allowed(config, ()))


def given_back(home: Path, config: Config) -> Outcome:
    """What becomes of the step that gives back."""
    (outcome,) = carry_out(planned(config, "orphaned_tasks"), context(home, config))
    return outcome


def test_every_other_byte_of_the_file_stays_as_it_is(home: Path) -> None:
    config = of_file(home)
    (home / "tasks.json").chmod(0o604)
    outcome = given_back(home, config)
    assert (outcome.status, outcome.measured) == ("applied", {"claims_given_back": 2})
    assert (home / "tasks.json").read_text() == AFTER
    assert (home / "tasks.json").stat().st_mode & 0o777 == 0o604
    assert [each.name for each in home.iterdir() if "tasks" in each.name] == ["tasks.json"]


@pytest.mark.root
def test_file_of_another_user_stays_his(home: Path) -> None:
    config = of_file(home)
    os.chown(home / "tasks.json", 65534, 65534)
    assert given_back(home, config).status == "applied"
    status = (home / "tasks.json").stat()
    assert (status.st_uid, status.st_gid) == (65534, 65534)


@pytest.mark.root
def test_link_of_a_user_does_not_turn_root_to_another_file(home: Path) -> None:
    config = of_file(home)
    (home / "link").symlink_to("tasks.json")
    config = coordinator(home, tasks=str(home / "link"), list="/tasks")
    os.lchown(home / "link", 65534, 65534)
    outcome = given_back(home, config)
    assert (outcome.status, (home / "tasks.json").read_text()) == ("skipped", TEXT)
    assert "link belongs to" in outcome.message


def test_link_to_the_file_stays_a_link(home: Path) -> None:
    config = of_file(home)
    (home / "link").symlink_to("tasks.json")
    config = coordinator(home, tasks=str(home / "link"), list="/tasks")
    assert given_back(home, config).status == "applied"
    assert (home / "link").is_symlink()
    assert (home / "tasks.json").read_text() == AFTER


def finished(home: Path, name: str = "t1") -> str:
    """What a worker that has just finished a task writes."""
    document = json.loads((home / "tasks.json").read_text())
    for each in document["tasks"]:
        each["status"] = "completed" if each["id"] == name else each["status"]
    return json.dumps(document)


def states(home: Path) -> dict[str, str]:
    tasks = json.loads((home / "tasks.json").read_text())["tasks"]
    return {each["id"]: each["status"] for each in tasks}


@pytest.mark.parametrize("when", ["before the lock", "before the exchange"])
@pytest.mark.parametrize("how", ["renamed", "in place", "in place, at the same time"])
def test_task_that_is_finished_meanwhile_stays_finished(
    home: Path, monkeypatch: pytest.MonkeyPatch, when: str, how: str
) -> None:
    config = of_file(home)

    def worker() -> None:
        text = finished(home)
        if how == "renamed":
            rewritten(home / "tasks.json", text)
        else:
            before = (home / "tasks.json").stat()
            if "same" in how:
                text = TEXT.replace('"in_progress"', '"completed"  ', 1)
            (home / "tasks.json").write_text(text)
            if "same" in how:  # of the kernel's clock, which ticks every 4 ms
                os.utime(home / "tasks.json", ns=(before.st_atime_ns, before.st_mtime_ns))

    name = {"before the lock": "locked", "before the exchange": "exchange"}[when]
    real, done = getattr(task_file, name), list[int]()

    def late(*arguments: Any) -> Any:
        if not done:
            done.append(1)
            worker()
        return real(*arguments)

    monkeypatch.setattr(task_file, name, late)
    outcome = given_back(home, config)
    assert states(home)["t1"] == "completed"
    if when == "before the lock":  # then only that one is left as it is
        assert (outcome.status, states(home)["t2"]) == ("applied", "pending")
        assert "t1: it is another's now, or done" in outcome.message
    else:
        assert (outcome.status, states(home)["t2"]) == ("skipped", "in_progress")
        assert not list(quarantine.find_entries(home.parent / "state"))


@pytest.mark.parametrize(
    ("key", "value"), [("assigned_to", "another-host:x:1:1"), ("started_at", OLD + 1)]
)
def test_task_that_was_claimed_again_meanwhile_stays_claimed(
    home: Path, key: str, value: object
) -> None:
    """By another owner, or by one that is called the same."""
    config = of_file(home)
    made = planned(config, "orphaned_tasks")
    document = json.loads((home / "tasks.json").read_text())
    document["tasks"][0][key] = value
    (home / "tasks.json").write_text(json.dumps(document))
    (outcome,) = carry_out(made, context(home, config))
    assert (outcome.status, outcome.measured) == ("applied", {"claims_given_back": 1})
    tasks = json.loads((home / "tasks.json").read_text())["tasks"]
    assert (tasks[0]["status"], tasks[0][key]) == ("in_progress", value)


def test_id_that_two_tasks_have_names_neither(home: Path) -> None:
    config = of_file(home)
    (home / "tasks.json").write_text(TEXT.replace('"t2"', '"t1"'))
    outcome = given_back(home, config)
    assert (outcome.status, "several tasks have its id" in outcome.message) == ("skipped", True)


def test_who_has_the_file_open_to_write_is_not_overtaken(home: Path, start: Start) -> None:
    config = of_file(home)
    inode = (home / "tasks.json").stat().st_ino
    script = "import sys; f = open(sys.argv[1], 'r+'); print('.', flush=True); sys.stdin.read()"
    writer = start(
        sys.executable,
        "-c",
        script,
        str(home / "tasks.json"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert writer.stdout.read(1) == b"."
    outcome = given_back(home, config)
    assert (outcome.status, "has it open to write" in outcome.message) == ("skipped", True)
    assert (home / "tasks.json").stat().st_ino == inode
    assert (home / "tasks.json").read_text() == TEXT


def test_lock_that_writers_hold_is_waited_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    config = of_file(home, lock_file=str(home / "lock"))
    monkeypatch.setattr(task_file, "_WAIT", 0.1)
    with (home / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        outcome = given_back(home, config)
        assert (outcome.status, "somebody holds" in outcome.message) == ("skipped", True)
    assert given_back(home, config).status == "applied"


def test_owner_that_is_back_keeps_what_it_had(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate looks at owners itself, at the last moment."""
    config = of_file(home)
    made = planned(config, "orphaned_tasks")
    monkeypatch.setattr(
        "miyabi_healing.host.coordinators.owners.boot_id", lambda: GONE_OWNER.split(":")[1]
    )
    monkeypatch.setattr(
        "miyabi_healing.host.coordinators.lives.read_process",
        lambda pid: replace(read_process(os.getpid()), pid=pid, start=7),
    )
    (outcome,) = carry_out(made, context(home, config))
    assert (outcome.status, "lives" in outcome.message) == ("skipped", True)
    assert (home / "tasks.json").read_text() == TEXT


@pytest.mark.parametrize("change", [{"path": "/etc/passwd"}, {"coordinator": "other"}])
def test_step_gives_back_only_in_the_file_that_the_configuration_names(
    home: Path, change: dict[str, Any]
) -> None:
    config = of_file(home)
    (step,) = planned(config, "orphaned_tasks").steps
    changed = {key: Path(value) if key == "path" else value for key, value in change.items()}
    (outcome,) = carry_out(plan(replace(step, **changed)), context(home, config))
    assert outcome.status == "skipped"


# Tables

TABLE = "create table task (id text, status text, owner text, started real)"
QUERY = "select id, status, owner, started from task where status = 'in_progress' order by id"
ROWS = [
    ("t1", "in_progress", GONE_OWNER, OLD),
    ("t2", "in_progress", GONE_OWNER, OLD),
    ("t3", "completed", GONE_OWNER, OLD),
]


def of_sqlite(home: Path, where: str = "id=:id and owner=:owner and status=:status") -> Config:
    with closing(sqlite3.connect(home / "tasks.db")) as database, database:
        database.execute(TABLE)
        database.executemany("insert into task values (?, ?, ?, ?)", ROWS)
    give_back = f"update task set status = 'pending', owner = null where {where}"
    return coordinator(home, sqlite=str(home / "tasks.db"), query=QUERY, give_back=give_back)


def rows(home: Path, text: str = "select id, status, owner from task order by id") -> list[Any]:
    with closing(sqlite3.connect(home / "tasks.db")) as database, database:
        return database.execute(text).fetchall()


def test_rows_of_a_table_are_given_back(home: Path) -> None:
    config = of_sqlite(home)
    outcome = given_back(home, config)
    assert (outcome.status, outcome.measured) == ("applied", {"claims_given_back": 2})
    assert rows(home) == [
        ("t1", "pending", None),
        ("t2", "pending", None),
        ("t3", "completed", GONE_OWNER),
    ]


def test_statement_that_returns_rows_is_counted(home: Path) -> None:
    config = of_sqlite(home, "id=:id and owner=:owner and status=:status returning id")
    outcome = given_back(home, config)
    assert (outcome.status, outcome.measured["claims_given_back"]) == ("applied", 2)


def test_row_that_is_finished_meanwhile_stays_finished(home: Path) -> None:
    config = of_sqlite(home)
    made = planned(config, "orphaned_tasks")
    rows(home, "update task set status = 'completed' where id = 't1'")
    (outcome,) = carry_out(made, context(home, config))
    assert (outcome.status, outcome.measured) == ("applied", {"claims_given_back": 1})
    assert "t1: it is another's now, or done" in outcome.message
    assert [each[1] for each in rows(home)] == ["completed", "pending", "completed"]


def test_statement_that_compares_too_little_changes_nothing(home: Path) -> None:
    config = of_sqlite(home, ":id != '' and owner=:owner and :status != ''")
    outcome = given_back(home, config)
    assert (outcome.status, "changed 3 rows" in outcome.message) == ("skipped", True)
    assert [each[1] for each in rows(home)] == ["in_progress", "in_progress", "completed"]


@needs_postgres
def test_rows_in_postgres_are_given_back_and_what_is_finished_stays(
    home: Path, server: Postgres
) -> None:
    import psycopg

    give_back = (
        "update task set status = 'pending', owner = null "
        "where id = %(id)s and owner = %(owner)s and status = %(status)s"
    )
    config = coordinator(home, postgres=server.dsn, query=QUERY, give_back=give_back)
    with psycopg.connect(server.dsn, autocommit=True) as store:
        store.execute(TABLE)
        with store.cursor() as cursor:
            cursor.executemany("insert into task values (%s, %s, %s, %s)", ROWS)
        made = planned(config, "orphaned_tasks")
        store.execute("update task set status = 'completed' where id = 't1'")
        (outcome,) = carry_out(made, context(home, config))
        assert (outcome.status, outcome.measured) == ("applied", {"claims_given_back": 1})
        found = store.execute("select status from task order by id").fetchall()
    assert [each[0] for each in found] == ["completed", "pending", "completed"]


# Claim files, and folders that are locks


def test_lock_folder_of_an_owner_that_is_gone_is_set_aside(home: Path) -> None:
    for name, owner in (("a", GONE_OWNER), ("b", "another-host:x:1:1"), ("c", None)):
        (home / "locks" / f"{name}.lock").mkdir(parents=True)
        if owner:
            (home / "locks" / f"{name}.lock" / "owner").write_text(f"{owner}\n")
    config = coordinator(home, locks=str(home / "locks" / "*.lock"), owner_file="owner")
    assert given_back(home, config).status == "applied"
    assert sorted(each.name for each in (home / "locks").iterdir()) == ["b.lock", "c.lock"]


def test_lock_that_another_owner_has_written_itself_into_meanwhile_stays(home: Path) -> None:
    owner = home / "locks" / "a.lock" / "owner"
    owner.parent.mkdir(parents=True)
    owner.write_text(GONE_OWNER)
    config = coordinator(home, locks=str(home / "locks" / "*.lock"), owner_file="owner")
    made = planned(config, "orphaned_tasks")
    owner.write_text("another-host:x:1:1")
    (outcome,) = carry_out(made, context(home, config))
    assert (outcome.status, owner.exists()) == ("skipped", True)


def test_claim_file_whose_name_says_the_owner_is_set_aside(home: Path) -> None:
    (home / "claims").mkdir()
    (home / "claims" / f"t1@{GONE_OWNER}").touch()
    (home / "claims" / "t2@another-host:x:1:1").touch()
    config = coordinator(home, claims=str(home / "claims" / "*"), owner_in_name="@(.*)")
    assert given_back(home, config).status == "applied"
    assert [each.name for each in (home / "claims").iterdir()] == ["t2@another-host:x:1:1"]


def test_fifo_in_the_place_of_a_lock_holds_nothing_up(home: Path) -> None:
    os.mkfifo(home / "lock")
    assert given_back(home, of_file(home, lock_file=str(home / "lock"))).status == "applied"


def test_claim_that_another_took_meanwhile_stays(home: Path) -> None:
    (home / "claims").mkdir()
    file = home / "claims" / "t1"
    file.write_text(GONE_OWNER)
    config = coordinator(home, claims=str(home / "claims" / "*"))
    made = planned(config, "orphaned_tasks")
    rewritten(file, "another-host:x:1:1")
    (outcome,) = carry_out(made, context(home, config))
    assert (outcome.status, file.read_text()) == ("skipped", "another-host:x:1:1")
