"""The claims of a coordinator, wherever it keeps them. Looks only."""

from __future__ import annotations

import json
import os
import re
import stat
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miyabi_healing.host.coordinators.owners import moment
from miyabi_healing.model.claim import Claim, Scalar
from miyabi_healing.model.coordinator import Coordinator
from miyabi_healing.support import globbing, json_spans, mount_answers
from miyabi_healing.support.files import newest
from miyabi_healing.support.formatting import display

if TYPE_CHECKING:
    import sqlite3

MOST = 64 << 20  # bytes of a file of tasks
_MOST_ROWS = 100_000
_MOST_OWNER = 4096  # bytes
BUSY = 5.0  # seconds that a writer of a database is waited for


class CannotRead(Exception):
    """Claims that cannot be read; the message says why."""


def read(settings: Coordinator) -> tuple[Claim, ...]:
    """Every claim that somebody has. Raises CannotRead, OSError."""
    if settings.kind == "tasks":
        return tuple(_in_tasks(settings))
    if settings.kind == "sqlite":
        return tuple(_in_sqlite(settings))
    if settings.kind == "postgres":
        return tuple(_in_postgres(settings))
    return tuple(_by_name(settings))


def tasks_path(settings: Coordinator) -> Path:
    """The file of tasks, with links followed. Raises OSError."""
    path = Path(settings.tasks).expanduser()
    mount_answers.check(path)
    return path.resolve(strict=True)


def read_text(path: Path | int) -> tuple[str, os.stat_result]:
    """The text of a regular file, and what it was then. Raises CannotRead, OSError."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags) if isinstance(path, Path) else os.dup(path)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST:
            raise CannotRead(f"it is no regular file of at most {MOST >> 20} MiB")
        try:
            return file.read(MOST + 1).decode("utf-8"), status
        except UnicodeDecodeError:
            raise CannotRead("it is no UTF-8") from None


def parsed(text: str, settings: Coordinator) -> list[tuple[str | int, Any]]:
    """The tasks in a text, each with its name or number. Raises CannotRead."""
    try:
        there = json_spans.resolve(json.loads(text, strict=False), settings.list)
    except (ValueError, RecursionError) as error:
        raise CannotRead(f"it is no JSON: {error}") from None
    except LookupError:
        raise CannotRead(f"nothing is at {settings.list}") from None
    if isinstance(there, list) and settings.id:
        return list(enumerate(there))
    if isinstance(there, dict):
        return list(there.items())
    raise CannotRead(f"{settings.list or 'the whole'} is no list of tasks, and no mapping")


def claim_of(key: str | int, task: Any, settings: Coordinator) -> Claim | None:
    """The claim on a task; None where it has none. Raises CannotRead where it is no task."""
    status = _scalar(task, settings.status)
    if status is None or str(status) not in settings.claimed:
        return None
    number = _scalar(task, settings.id) if settings.id else key
    if number is None:
        raise CannotRead(f"a task has nothing at {settings.id}")
    started = settings.started_at and _scalar(task, settings.started_at)
    return Claim(number, status, _scalar(task, settings.owner), moment(started))


def _scalar(task: Any, pointer: str) -> Scalar:
    try:
        value = json_spans.resolve(task, pointer)
    except LookupError:
        return None
    if isinstance(value, (dict, list)):
        raise CannotRead(f"what is at {pointer} of a task is no single value")
    scalar: Scalar = value
    return scalar


def _in_tasks(settings: Coordinator) -> list[Claim]:
    path = tasks_path(settings)
    try:
        tasks = parsed(read_text(path)[0], settings)
        found = [claim_of(key, task, settings) for key, task in tasks]
    except CannotRead as error:
        raise CannotRead(f"{display(path)}: {error}") from None
    return [each for each in found if each]


def sqlite_at(path: Path, *, write: bool = False) -> sqlite3.Connection:
    """A database that is there already. Raises OSError, sqlite3.Error."""
    import sqlite3

    mount_answers.check(path)
    os.stat(path)
    from urllib.parse import quote

    mode = "rw" if write else "ro"
    found = sqlite3.connect(f"file:{quote(str(path))}?mode={mode}", uri=True, timeout=BUSY)
    found.execute("pragma trusted_schema = off")  # its views and triggers may be another user's
    return found


def _in_sqlite(settings: Coordinator) -> list[Claim]:
    import sqlite3

    try:
        with closing(sqlite_at(Path(settings.sqlite).expanduser())) as database:
            rows = database.execute(settings.query).fetchmany(_MOST_ROWS)
    except sqlite3.Error as error:
        raise CannotRead(f"{display(settings.sqlite)}: {error}") from None
    return [_row(each) for each in rows]


def postgres_at(settings: Coordinator) -> Any:
    """A connection, which gives up where the server does not answer. Raises CannotRead."""
    try:
        import psycopg
    except ImportError:
        raise CannotRead("psycopg is not installed: pip install 'miyabi-healing[fleet]'") from None
    try:
        return psycopg.connect(
            settings.postgres,
            connect_timeout=int(BUSY),
            application_name="miyabi-healing",
            options=f"-c statement_timeout={int(BUSY * 1000)}",
        )
    except psycopg.Error as error:
        raise CannotRead(f"postgres: {' '.join(str(error).split())}") from None


def _in_postgres(settings: Coordinator) -> list[Claim]:
    connection = postgres_at(settings)
    import psycopg

    try:
        with closing(connection):
            connection.read_only = True
            rows = connection.execute(settings.query).fetchmany(_MOST_ROWS)
    except psycopg.Error as error:
        raise CannotRead(f"postgres: {' '.join(str(error).split())}") from None
    return [_row(each) for each in rows]


def _row(row: Any) -> Claim:
    if len(row) not in (3, 4):
        raise CannotRead("query must give id, status, owner, and started_at where there is one")
    return Claim(row[0], row[1], row[2], moment(row[3]) if len(row) == 4 else None)


def _by_name(settings: Coordinator) -> list[Claim]:
    """Claim files, and folders that are locks."""
    pattern, folders = settings.claims or settings.locks, settings.kind == "locks"
    top = globbing.fixed_part(pattern)
    mount_answers.check(top)
    os.stat(top)  # where the folder is not there, nothing is known of the claims in it
    found = []
    for path in globbing.expand(pattern):
        try:
            status = os.lstat(path)
            if not (stat.S_ISDIR if folders else stat.S_ISREG)(status.st_mode):
                continue
            owner = _owner_in(Path(path), settings)
        except FileNotFoundError:
            continue  # it was given back meanwhile
        # a claim that was made by renaming has the time of what was written before
        found.append(Claim(str(path), "", owner, newest(status)))
    return found


def _owner_in(path: Path, settings: Coordinator) -> str | None:
    if settings.owner_in_name:
        said = re.search(settings.owner_in_name, path.name)
        return said[1] if said else None
    file = path / settings.owner_file if settings.owner_file else path
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(file, flags), "rb") as opened:
            lines = opened.read(_MOST_OWNER).decode("utf-8", "replace").strip().splitlines()
    except FileNotFoundError:
        os.lstat(path)
        return None  # a lock whose owner has not been written yet
    return lines[0] if lines else None
