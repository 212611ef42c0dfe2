"""The journal survives what happens to disks: it migrates, makes room for itself, sets damage
aside, and says so.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from gatework import ISSUE, plan, work
from program import report, run, settings

from conftest import PROJECT, wait_for
from miyabi_healing.gate import batch, execute, recover
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.host.readings import Host
from miyabi_healing.model.actions import Outcome
from miyabi_healing.model.config import Config
from miyabi_healing.model.steps import Quarantine
from miyabi_healing.state import journal, run_lock, schema, store
from miyabi_healing.support import paths
from miyabi_healing.support.files import identity_at

FIRST_VERSION = """
create table step (id integer primary key, run text not null, healer text not null,
kind text not null, target text not null, reason text not null, step text not null,
intended real not null,
finished real, status text, message text, freed integer,
undo text) strict;
insert into step values
(1, 'old run', 'fix_git_locks', 'quarantine', '/x', 'stale', '', 1.0, 2.0, 'applied', '', 5, '{}');
"""


def step(path: Path) -> Quarantine:
    path.write_text("x")
    return Quarantine(target=str(path), reason="", path=path, identity=identity_at(path))


def elsewhere(folder: Path) -> Quarantine:
    return Quarantine(target="/y", reason="", path=folder, identity=identity_at("/"))


def context(folder: Path) -> Context:
    return Context(Host(Config()), "run", folder / "state", (folder,))


def state_of(home: Path) -> Path:
    return home / ".local" / "state" / "miyabi-healing"


@pytest.fixture
def refuges(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """One place to go when the disk is full, of the test's own."""
    folder = Path("/dev/shm") / f"refuge-{os.getpid()}-{tmp_path.name}"
    folder.mkdir()
    monkeypatch.setattr(paths, "FALLBACK_TOPS", (str(folder),))
    yield folder
    shutil.rmtree(folder)


# Versions


def test_journal_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / paths.JOURNAL) as old:
        old.executescript(FIRST_VERSION)
    old.close()
    opened = journal.Journal(tmp_path / paths.JOURNAL)
    assert opened.version == len(schema.MIGRATIONS)
    assert [(row.run, row.status, row.issue) for row in opened.steps("old run")] == [
        ("old run", "applied", "")
    ]
    assert opened.intend("new", "x", ISSUE, step(tmp_path / "thing")) == 2
    opened.close()


def older(file: Path, version: int) -> None:
    """A journal as that version made it, with one step on record."""
    with contextlib.closing(sqlite3.connect(file)) as old:
        old.executescript("".join(schema.MIGRATIONS[:version]) + f"pragma user_version={version};")
        values = (
            "old run",
            "healer",
            "quarantine",
            "thing",
            "",
            "",
            1.0,
            2.0,
            "applied",
            "",
            3,
            "{}",
        )
        columns = (
            "run, healer, kind, target, reason, step, intended, finished, status, message, "
            "freed, undo"
        )
        old.execute(f"insert into step ({columns}) values ({', '.join('?' * len(values))})", values)
        old.commit()


@pytest.mark.parametrize("version", range(1, len(schema.MIGRATIONS) + 1))
def test_journal_of_every_version_becomes_what_a_new_one_is(tmp_path: Path, version: int) -> None:
    def layout(opened: journal.Journal) -> list[str]:
        return [
            str(sql)
            for (sql,) in opened.database.execute("select sql from sqlite_master order by name")
        ]

    older(tmp_path / "old", version)
    with (
        contextlib.closing(journal.Journal(tmp_path / "old")) as old,
        contextlib.closing(journal.Journal(tmp_path / "new")) as new,
    ):
        assert layout(old) == layout(new)
        assert [(row.run, row.status, row.freed) for row in old.steps("old run")] == [
            ("old run", "applied", 3)
        ]


@pytest.mark.parametrize("version", range(1, len(schema.MIGRATIONS)))
@pytest.mark.parametrize(
    "command",
    [("history",), ("status",), ("rollback", "--dry-run"), ("quarantine", "list")],
    ids=" ".join,
)
def test_journal_of_every_version_can_be_looked_into_as_it_is(
    home: Path, version: int, command: tuple[str, ...]
) -> None:
    state = state_of(home)
    state.mkdir(parents=True, mode=0o700)
    older(state / paths.JOURNAL, version)
    before = (state / paths.JOURNAL).read_bytes()
    done = run(*command)
    assert "Error" not in done.stderr + done.stdout
    # no run is on record, so how the host stands is not known
    assert done.returncode in ((3,) if command == ("status",) else (0, 1)), done.stderr
    assert "old run" in done.stdout or command[0] != "rollback"
    assert (state / paths.JOURNAL).read_bytes() == before


def test_documents_name_every_table_and_column(tmp_path: Path) -> None:
    page = (PROJECT / "docs" / "state-folder.md").read_text()
    assert f"is its version, {len(schema.MIGRATIONS)}." in page
    with contextlib.closing(journal.Journal(tmp_path / "new")) as new:
        tables = [
            name
            for (name,) in new.database.execute("select name from sqlite_master where type='table'")
        ]
        for table in (each for each in tables if not each.startswith("sqlite_")):
            (row,) = (line for line in page.splitlines() if line.startswith(f"| `{table}` | "))
            columns = {
                name for _, name, *_ in new.database.execute(f"pragma table_info({table})")
            } - {"id", "only"}
            assert {each for each in columns if f"`{each}`" not in row} == set()


def test_older_journal_brings_its_promises_along(tmp_path: Path) -> None:
    """Measured from the last run that it has on record: what it noted later counts from the
    beginning of the run clock.
    """
    with contextlib.closing(sqlite3.connect(tmp_path / "old")) as old:
        old.executescript("".join(schema.MIGRATIONS[:5]) + "pragma user_version=5;")
        old.execute("insert into pass values (1, 'r', 900, 1000, 1, 0, 0, 0, 0)")
        for begun, until in ((100, 700), (900, 1100), (1050, 5000)):
            old.execute(
                "insert into pause (begun, until, reason, person) values (?, ?, 'x', 'y')",
                (begun, until),
            )
        old.execute("insert into healthy values ('x', '', 400)")
        old.commit()
    with contextlib.closing(journal.Journal(tmp_path / "old")) as new:
        pauses = new.database.execute(
            "select clock, ended is null from pause order by id"
        ).fetchall()
        # the first was over when the last run ended
        assert pauses == [(-900, 0), (-100, 1), (0, 1)]
        assert new.database.execute("select clock from healthy").fetchall() == [(-600,)]
        assert new.now().seen < 60


def test_migration_that_fails_leaves_the_journal_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite3.connect(tmp_path / paths.JOURNAL) as old:
        old.executescript(FIRST_VERSION)
    old.close()
    monkeypatch.setattr(journal, "VERSION", journal.VERSION + 1)
    monkeypatch.setattr(
        schema, "MIGRATIONS", (*schema.MIGRATIONS, "create table extra (x); select nonsense;")
    )
    with pytest.raises(sqlite3.OperationalError):
        journal.Journal(tmp_path / paths.JOURNAL)
    monkeypatch.undo()
    opened = journal.Journal(tmp_path / paths.JOURNAL)
    assert [
        name
        for (name,) in opened.database.execute("select name from sqlite_master where name='extra'")
    ] == []
    opened.close()


def test_journal_of_a_newer_version_is_left_alone(home: Path) -> None:
    state = state_of(home)
    state.mkdir(parents=True)
    with sqlite3.connect(state / paths.JOURNAL) as newer:
        newer.execute("pragma user_version=99")
    newer.close()
    done = run("pause", "--for", "1h", "--reason", "x", "--config", settings(home))
    assert done.returncode == 2
    done = run("--config", settings(home), "pause", "--for", "1h", "--reason", "x")
    assert (done.returncode, "made by a newer version" in done.stderr) == (3, True)


def test_journal_is_private_and_every_write_is_on_disk(tmp_path: Path) -> None:
    with work(context(tmp_path)) as prepared:
        settings = [
            prepared.journal.database.execute(f"pragma {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous")
        ]
        assert settings == ["wal", 2]  # 2 is FULL
        assert (tmp_path / "state" / paths.JOURNAL).stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_intent_is_on_record_before_the_change_and_the_outcome_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    with work(context(tmp_path)) as prepared:
        apply = batch.apply_all

        def watched(each: Sequence[Quarantine], where: Sequence[Context]) -> object:
            with sqlite3.connect(tmp_path / "state" / paths.JOURNAL) as other:
                seen.extend(other.execute("select target, status, finished from step").fetchall())
            other.close()
            return apply(each, where)

        monkeypatch.setattr(batch, "apply_all", watched)
        outcome = batch.one(step(tmp_path / "thing"), prepared)
        (row,) = prepared.journal.steps("run")
    assert seen == [(str(tmp_path / "thing"), None, None)]
    assert (row.status, outcome.number, row.id) == ("applied", 1, 1)
    assert row.undo == outcome.undo


def test_step_whose_outcome_cannot_be_recorded_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with work(context(tmp_path)) as prepared:
        monkeypatch.setattr(journal.Journal, "finish", broken)
        outcome = batch.one(step(tmp_path / "thing"), prepared)
        assert (outcome.status, (tmp_path / "thing").read_text()) == ("failed", "x")
        assert outcome.message == "the journal cannot be written: OperationalError: disk I/O error"
        assert [row.id for row in prepared.journal.unfinished()] == [1]
        assert [result for _row, result in recover.recover(prepared.context, prepared.journal)] == [
            "nothing had been changed yet"
        ]


def test_interrupted_step_is_taken_back_and_the_interruption_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def interrupted(old: object, *rest: object, **more: object) -> None:
        rename(old, *rest, **more)  # type: ignore[arg-type]
        if old == "thing":
            monkeypatch.undo()
            raise KeyboardInterrupt

    with work(context(tmp_path)) as prepared:
        chosen = step(tmp_path / "thing")
        monkeypatch.setattr(os, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            batch.one(chosen, prepared)
        assert (tmp_path / "thing").read_text() == "x"
        assert [(row.status, row.message) for row in prepared.journal.steps("run")] == [
            ("failed", "interrupted")
        ]


def test_manifest_and_both_folders_are_on_disk_when_a_thing_was_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order that a power failure at any moment asks for: the manifest before the thing, the
    folders after it.
    """
    events: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        events.append(("synced", os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))))

    def renamed(old: object, *rest: object, **more: object) -> None:
        rename(old, *rest, **more)  # type: ignore[arg-type]
        events.append(("renamed", os.path.basename(str(old))))

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    with work(context(tmp_path)) as prepared:
        assert batch.one(step(tmp_path / "thing"), prepared).status == "applied"
    monkeypatch.undo()
    start = events.index(("synced", "manifest.new"))
    assert events[start : start + 6] == [
        ("synced", "manifest.new"),
        ("renamed", "manifest.new"),
        ("synced", "0001-quarantine"),
        ("synced", "run"),
        ("renamed", "thing"),
        ("synced", "0001-quarantine"),
    ]
    assert events[start + 6] == ("synced", tmp_path.name)


# Disks


def free(folder: Path) -> int:
    """Bytes."""
    space = os.statvfs(folder)
    return space.f_bfree * space.f_frsize


@pytest.mark.root
@pytest.mark.parametrize("way", ["set aside", "refused", "nothing done"])
@pytest.mark.parametrize("kind", ["tmpfs", "ext4", "btrfs"])
def test_ballast_takes_its_space_on_the_disk(
    mounted: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, kind: str, way: str
) -> None:
    if not shutil.which(f"mkfs.{kind}") and kind != "tmpfs":
        pytest.skip(f"needs mkfs.{kind}")

    def refuse(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "no")

    def write_nothing(descriptor: int, _start: int, size: int) -> None:
        os.truncate(descriptor, size)  # as zeros, where they are compressed

    if way != "set aside":
        instead = refuse if way == "refused" else write_nothing
        monkeypatch.setattr(os, "posix_fallocate", instead)
    folder = mounted(kind, "128M", options=",compress-force" if kind == "btrfs" else "")
    with work(context(folder)):
        pass
    ballast = folder / "state" / "ballast"
    os.sync()
    before = free(folder)
    assert ballast.stat().st_size == store.RESERVE
    assert ballast.stat().st_blocks * 512 >= store.RESERVE
    ballast.unlink()
    wait_for(lambda: [os.sync()] and free(folder) >= before + 0.9 * store.RESERVE)


@pytest.mark.root
def test_full_disk_gives_up_the_ballast(mounted: Callable[..., Path]) -> None:
    folder = mounted("tmpfs", "64M")
    with work(context(folder)):
        pass
    assert (folder / "state" / "ballast").stat().st_size == store.RESERVE
    things = step(folder / "thing")
    fill(folder)
    with work(context(folder)) as prepared:
        assert batch.one(things, prepared).status == "applied"
        assert prepared.journal.file.parent == folder / "state"
    assert not (folder / "state" / "ballast").exists()
    (folder / "filler").unlink()
    with work(context(folder)):
        pass
    assert (folder / "state" / "ballast").exists()


@pytest.mark.root
def test_full_disk_without_ballast_keeps_the_journal_elsewhere_until_there_is_room(
    mounted: Callable[..., Path], refuges: Path
) -> None:
    folder = mounted("tmpfs", "64M")
    with work(context(folder)) as prepared:
        batch.one(step(folder / "first"), prepared)
    (folder / "state" / "ballast").unlink()
    fill(folder)
    with work(context(folder)) as prepared:
        assert prepared.journal.file.is_relative_to(refuges)
        number = prepared.journal.intend(
            "run",
            "x",
            ISSUE,
            Quarantine(target="/y", reason="", path=folder, identity=identity_at("/")),
        )
        assert paths.crashed(folder / "state")
        (folder / "filler").unlink()
        prepared.applied()
        assert prepared.journal.file.parent == folder / "state"
        prepared.journal.finish(number, Outcome(step(folder / "second"), "applied"))
    assert list(refuges.iterdir()) == []
    assert not paths.crashed(folder / "state")
    with work(context(folder)) as prepared:
        assert [(row.target, row.status) for row in prepared.journal.steps("run")] == [
            (str(folder / "first"), "applied"), ("/y", "applied"),
        ]  # fmt: skip


def test_journal_is_read_through_unless_it_is_as_it_was_closed_today(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    store.JournalKeeper(state, print).close()
    assert store.was_closed_cleanly(state)
    file = state / paths.JOURNAL
    with monkeypatch.context() as tomorrow:
        tomorrow.setattr(store.time, "strftime", lambda form: "2099-01-01")
        assert not store.was_closed_cleanly(state)
    (state / f"{paths.JOURNAL}-wal").touch()  # a run that was ended
    assert not store.was_closed_cleanly(state)
    (state / f"{paths.JOURNAL}-wal").unlink()
    assert store.was_closed_cleanly(state)
    times = file.stat()
    with file.open("r+b") as stream:
        stream.seek(4096)
        stream.write(b"\xff" * 3000)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # size and mtime are as before
    assert not store.was_closed_cleanly(state)
    told: list[str] = []
    store.JournalKeeper(state, told.append).close()
    assert "the journal was damaged" in told[0]


@pytest.mark.root
def test_journal_left_elsewhere_by_a_crash_is_found_again(
    mounted: Callable[..., Path], refuges: Path
) -> None:
    folder = mounted("tmpfs", "64M")
    (folder / "state").mkdir(mode=0o700)
    fill(folder)
    keeper = store.JournalKeeper(folder / "state", print)
    keeper.journal.intend("run", "x", ISSUE, elsewhere(folder))
    keeper.journal.database.close()  # the crash
    (folder / "filler").unlink()
    with work(context(folder)) as prepared:
        assert [row.target for row in prepared.journal.unfinished()] == ["/y"]
        assert prepared.journal.file.parent == folder / "state"
    assert list(refuges.iterdir()) == []


@pytest.mark.root
def test_lock_is_held_elsewhere_while_the_disk_has_no_room_for_it(
    mounted: Callable[..., Path], refuges: Path
) -> None:
    folder = mounted("ext4", "16M")
    fill(folder)
    held = run_lock.acquire(folder / "state" / "deeper")
    (folder / "filler").unlink()
    with pytest.raises(run_lock.Busy, match=f"pid {os.getpid()}"):
        run_lock.acquire(folder / "state" / "deeper")
    run_lock.release(held)
    run_lock.release(run_lock.acquire(folder / "state" / "deeper"))


def test_lock_file_that_somebody_takes_for_stale_and_deletes_still_holds(tmp_path: Path) -> None:
    first = run_lock.acquire(tmp_path)
    (tmp_path / "lock").unlink()
    assert run_lock.is_held(tmp_path)
    with pytest.raises(run_lock.Busy):
        run_lock.acquire(tmp_path)
    run_lock.release(first)
    assert not run_lock.is_held(tmp_path)
    run_lock.release(run_lock.acquire(tmp_path))


def test_where_folders_cannot_be_locked_the_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS locks what is open for writing alone, which a folder never is."""
    real = fcntl.flock

    def flock(descriptor: int, how: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) and how != fcntl.LOCK_UN:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    first = run_lock.acquire(tmp_path)
    assert run_lock.is_held(tmp_path)
    with pytest.raises(run_lock.Busy, match=f"pid {os.getpid()}"):
        run_lock.acquire(tmp_path)
    run_lock.release(first)
    assert not run_lock.is_held(tmp_path)


def test_asking_whether_it_is_held_keeps_nobody_out(tmp_path: Path) -> None:
    run_lock.release(run_lock.acquire(tmp_path))
    asking = os.open(tmp_path / run_lock.FILE, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(asking, fcntl.LOCK_SH)  # somebody asks, and is not given the processor for a while
    done = threading.Timer(0.3, os.close, [asking])
    done.start()
    run_lock.release(run_lock.acquire(tmp_path))
    done.join()


def test_those_who_only_ask_are_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "_ASKED_FOR_AT_MOST", 0.05)
    run_lock.release(run_lock.acquire(tmp_path))
    asking = os.open(tmp_path / run_lock.FILE, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(asking, fcntl.LOCK_SH)
    with pytest.raises(run_lock.Busy):
        run_lock.acquire(tmp_path)
    os.close(asking)


def test_refuge_that_somebody_else_prepared_is_not_used(tmp_path: Path, refuges: Path) -> None:
    paths.fallback_folder(str(refuges), tmp_path).mkdir(mode=0o777)
    paths.fallback_folder(str(refuges), tmp_path).chmod(0o777)
    (paths.fallback_folder(str(refuges), tmp_path) / paths.JOURNAL).touch()
    assert paths.fallback_in_use(tmp_path) is None


def fill(folder: Path) -> None:
    """Leave not one byte free."""
    with (folder / "filler").open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            while True:
                try:
                    file.write(b"x" * size)
                except OSError:
                    break
    assert os.statvfs(folder).f_bavail == 0


@pytest.mark.root
def test_read_only_state_reports_and_repairs_nothing(
    mounted: Callable[..., Path], home: Path, tmp_path: Path
) -> None:
    point = mounted("tmpfs", "16M")
    logs = home / "logs"
    logs.mkdir()
    file = settings(
        home, f'[logs]\npatterns = ["{logs}/*.log"]\n[checks.large_log_files]\nthreshold = 1\n'
    )
    subprocess.run(["mount", "-o", "remount,ro", str(point)], check=True)
    code, healthy = report("--config", file, XDG_STATE_HOME=str(point))
    assert (code, healthy["summary"]) == (0, "No issues detected. System is healthy.")
    (logs / "a.log").write_bytes(b"line\n" * 1_000_000)
    code, document = report("--config", file, XDG_STATE_HOME=str(point))
    assert (code, document["actions_taken"][0]["status"]) == (1, "skipped")
    assert "cannot be written: Read-only file system" in document["actions_taken"][0]["message"]
    assert (logs / "a.log").stat().st_size == 5_000_000
    done = run("--config", file, "rollback", XDG_STATE_HOME=str(point))
    assert (done.returncode, "cannot be written" in done.stderr) == (3, True)


# Damage


@pytest.mark.parametrize("damage", ["overwritten", "cut short", "not a database"])
def test_damaged_journal_is_set_aside_and_told(tmp_path: Path, damage: str) -> None:
    with work(context(tmp_path)) as prepared:
        for number in range(50):
            prepared.journal.intend("run", "x" * 2000, ISSUE, step(tmp_path / str(number)))
    file = tmp_path / "state" / paths.JOURNAL
    content = file.read_bytes()
    ruined = {
        "overwritten": content[:8192] + b"\xff" * 8192 + content[16384:],
        "cut short": content[:9000],
        "not a database": b"hello",
    }[damage]
    file.write_bytes(ruined)
    notes: list[str] = []
    keeper = store.JournalKeeper(tmp_path / "state", notes.append)
    assert keeper.journal.rows("true") == []
    keeper.close()
    (aside,) = (tmp_path / "state").glob(f"{paths.JOURNAL}.damaged-*[0-9]")
    assert aside.read_bytes() == ruined
    assert len(notes) == 1
    assert str(aside) in notes[0]


def crash(state: Path, number: int = 5) -> Path:
    """Leave a journal behind as `kill -9` does, with everything still in its write-ahead log, which
    is returned.
    """
    pid = os.fork()
    if pid == 0:
        keeper = store.JournalKeeper(state, print)
        for _ in range(number):
            keeper.journal.pause(1, "x", "y")
        os._exit(0)
    os.waitpid(pid, 0)
    return state / f"{paths.JOURNAL}-wal"


@pytest.mark.parametrize("damage", ["no header", "cut short", "a page of zeros", "a flipped bit"])
def test_damaged_write_ahead_log_is_kept_and_told(tmp_path: Path, damage: str) -> None:
    """SQLite itself passes over it in silence, and with it over what a crashed run intended."""
    log = crash(tmp_path)
    content = log.read_bytes()
    half = len(content) // 2
    ruined = {
        "no header": b"\xff" * len(content), "cut short": content[: half + 100],
        "a page of zeros": content[:half] + bytes(4096) + content[half + 4096 :],
        "a flipped bit": content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :],
    }[damage]  # fmt: skip
    log.write_bytes(ruined)
    notes: list[str] = []
    store.JournalKeeper(tmp_path, notes.append).close()
    (aside,) = tmp_path.glob(f"{paths.JOURNAL}.damaged-*-wal")
    assert aside.read_bytes() == ruined
    assert aside.stat().st_mode & 0o777 == 0o600
    assert len(notes) == 1
    assert "the end of the journal could not be read" in notes[0]
    assert str(aside) in notes[0]


@pytest.mark.parametrize("damage", ["emptied", "deleted"])
def test_write_ahead_log_without_its_journal_is_set_aside(tmp_path: Path, damage: str) -> None:
    """SQLite itself would delete it."""
    log = crash(tmp_path)
    content = log.read_bytes()
    if damage == "emptied":
        os.truncate(tmp_path / paths.JOURNAL, 0)
    else:
        (tmp_path / paths.JOURNAL).unlink()
    notes: list[str] = []
    store.JournalKeeper(tmp_path, notes.append).close()
    (aside,) = tmp_path.glob(f"{paths.JOURNAL}.damaged-*-wal")
    assert aside.read_bytes() == content
    assert [note.split(";")[0].startswith("the journal was damaged") for note in notes] == [True]


def test_crash_alone_is_no_damage(tmp_path: Path) -> None:
    """Nor is what an earlier round left behind the end of the log."""
    crash(tmp_path, 500)
    notes: list[str] = []
    keeper = store.JournalKeeper(tmp_path, notes.append)
    keeper.journal.database.execute("pragma wal_checkpoint(restart)")
    keeper.close()
    crash(tmp_path, 3)
    keeper = store.JournalKeeper(tmp_path, notes.append)
    assert keeper.journal.one("select count(*) from pause") == (503,)
    keeper.close()
    assert notes == []
    assert list(tmp_path.glob("*damaged*")) == []


def test_what_was_left_half_done_is_named_although_the_journal_was_closed(home: Path) -> None:
    with work(Context(Host(Config()), "run", state_of(home), (home,))) as prepared:
        prepared.journal.intend("run", "x", ISSUE, step(home / "thing"))
    assert not paths.crashed(state_of(home))
    _, document = report("--config", settings(home))
    assert [(row["step"], row["result"]) for row in document["recovered"]] == [
        (1, "nothing had been changed yet")
    ]


def test_what_is_in_quarantine_comes_back_without_the_journal(home: Path) -> None:
    thing = home / "thing"
    where = Context(Host(Config()), "some-run", state_of(home), (home,))
    with work(where) as prepared:
        execute.carry_out_plan(plan(step(thing)), prepared, [])
    assert not thing.exists()
    (state_of(home) / paths.JOURNAL).write_bytes(b"ruined")
    done = run("rollback", "--dry-run")
    assert (done.returncode, "can be undone" in done.stdout) == (0, True)
    done = run("rollback")
    assert "was damaged" in done.stderr
    assert done.returncode == 0
    assert thing.read_text() == "x"


def test_version_of_the_schema_is_the_number_of_its_migrations() -> None:
    assert len(schema.MIGRATIONS) == journal.VERSION
