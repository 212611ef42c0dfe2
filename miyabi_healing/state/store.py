"""Keeping the journal where nothing can keep it from being written: not a full disk, not a damaged
file, not a crash.

A reserve file lies beside it, to be given up when the disk is full. Where there is none yet, the
journal is kept in a private folder on another filesystem until there is room again. A damaged one
is set aside, never overwritten: it is read through at the first opening of a day, and whenever it
is not, to the nanosecond, as the last orderly close has left it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from miyabi_healing.state.journal import VERSION, Journal, TooNew
from miyabi_healing.support import paths
from miyabi_healing.support.formatting import display, name_stamp

RESERVE = 4 << 20
_RESERVE_BYTES = 1 << 20  # bytes a run may want to write: journal, manifests
_JOURNAL_FILE = paths.JOURNAL
_COMPANIONS = ("", "-wal", "-shm")
_CLEAN_SHUTDOWN = "sealed"  # the marker of an orderly close
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_Say = Callable[[str], None]


def has_room(folder: Path, needed: int = _RESERVE_BYTES) -> bool:
    """Whether so many bytes can be written there, or where it is to be made. Raises OSError.

    Where it looks as if they could not, it is tried: root may use a reserve, and a filesystem keeps
    some of it for itself.
    """
    folder = paths.existing(folder)
    space = os.statvfs(folder)
    if space.f_bavail * space.f_frsize >= needed:
        return True
    with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=folder) as file:
        file.write(os.urandom(needed))
        file.flush()
        os.fsync(file.fileno())
        return True
    return False


def _write_reserve_file(state: Path) -> None:
    """Have some space to give up when the disk is full, if there is plenty now."""
    file = state / "ballast"
    with contextlib.suppress(OSError):
        if not file.exists() and has_room(state, 8 * RESERVE):
            descriptor = os.open(
                file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
            with os.fdopen(descriptor, "wb") as stream:
                if not _set_aside(descriptor):
                    stream.write(os.urandom(RESERVE))  # nothing that a filesystem could compress


def _set_aside(descriptor: int) -> bool:
    """Have the filesystem set the blocks of a file aside (posix_fallocate(3)), which costs next to
    nothing. False where it did not: the C library writes zeros then, which may take no space.
    """
    try:
        os.posix_fallocate(descriptor, 0, RESERVE)
    except (AttributeError, OSError):  # macOS has none
        return False
    return os.fstat(descriptor).st_blocks * 512 >= RESERVE


def _give_up_reserve_file(state: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(state / "ballast")


def _is_short(state: Path) -> bool:
    """Whether there is too little space to write, even after giving up the reserve file."""
    if has_room(state):
        return False
    _give_up_reserve_file(state)
    return not has_room(state)


def make_fallback_folder(state: Path) -> Path:
    """Make a private folder where there is room. Raises OSError."""
    for top in paths.FALLBACK_TOPS:
        with contextlib.suppress(OSError):
            folder = paths.fallback_folder(top, state)
            if os.stat(top).st_dev == os.stat(paths.existing(state)).st_dev or not has_room(
                Path(top), 2 * RESERVE
            ):
                continue
            folder.mkdir(mode=0o700, exist_ok=True)
            if paths.is_private_folder(folder):
                return folder
    raise OSError(f"the disk of {display(state)} is full, and no other has room for the journal")


class _Emptied(sqlite3.DatabaseError):
    """The journal's own file has nothing in it (any more)."""


def _name_aside() -> str:
    return f"{_JOURNAL_FILE}.damaged-{name_stamp()}"


def _size_of(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _frames(log: bytes) -> int:
    """How many pages were written to a write-ahead log since it was begun
    (sqlite.org/fileformat2.html, 4.1 and 4.2).

    What an earlier round left behind its end has another salt. At least one where even the header
    cannot be read.
    """
    page = int.from_bytes(log[8:12], "big")
    if log[:4] not in (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83") or not 512 <= page <= 65536:
        return 1
    salts = [log[start + 8 : start + 16] for start in range(32, len(log), page + 24)]
    return max((number for number, salt in enumerate(salts, 1) if salt == log[16:24]), default=0)


def _mark(folder: Path) -> str:
    """What the journal's file looks like, and the day: any write, by whomever, changes it. Raises
    OSError.
    """
    status = os.stat(folder / _JOURNAL_FILE)
    return (
        f"{status.st_ino} {status.st_size} {status.st_mtime_ns} "
        f"{status.st_ctime_ns} {time.strftime('%Y-%m-%d')}"
    )


def was_closed_cleanly(folder: Path) -> bool:
    """Whether the journal is as it was closed in good order earlier today."""
    try:
        return (folder / _CLEAN_SHUTDOWN).read_text(encoding="ascii") == _mark(folder) and not (
            folder / f"{_JOURNAL_FILE}-wal"
        ).exists()
    except (OSError, ValueError):
        return False


def _mark_clean_shutdown(folder: Path) -> None:
    """Note how the journal was closed. What cannot be noted only costs a look through it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(
            folder / _CLEAN_SHUTDOWN,
            os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o600,
        )
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(_mark(folder))


class JournalKeeper:
    """Opens the journal of a state folder, and takes it home again. `say` is told what people
    should know.
    """

    def __init__(self, state: Path, say: _Say) -> None:
        self.state = state
        self.say = say
        left = paths.fallback_in_use(state)
        if left is None and _is_short(state):
            left = make_fallback_folder(state)
            for name in (_JOURNAL_FILE + each for each in _COMPANIONS):
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(state / name, left / name)
            say(
                f"the disk of {display(state)} is full: the journal is in "
                f"{display(left)} until there is room"
            )
        else:
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.away = left
        self.journal = self.open(left or state)
        self.journal.make_room = lambda: _give_up_reserve_file(state)
        self.go_home()

    def open(self, folder: Path) -> Journal:
        """Open the journal, or set it aside if it is damaged and begin another. Raises OSError,
        sqlite3.Error, TooNew.
        """
        whole = was_closed_cleanly(folder)
        try:
            self.keep_what_cannot_be_read(folder)
            journal = Journal(folder / _JOURNAL_FILE)
            if whole:
                return journal
            verdict = journal.database.execute("pragma quick_check(1)").fetchone()[0]
            if verdict == "ok":
                return journal
            journal.close()
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED and not isinstance(
                error, _Emptied
            ):
                raise
            verdict = str(error)
        aside = _name_aside()
        for each in _COMPANIONS:
            with contextlib.suppress(FileNotFoundError):
                os.rename(folder / f"{_JOURNAL_FILE}{each}", folder / f"{aside}{each}")
        self.say(
            f"the journal was damaged ({verdict.splitlines()[0]}); it was set "
            f"aside as {display(folder / aside)}"
        )
        return Journal(folder / _JOURNAL_FILE)

    def keep_what_cannot_be_read(self, folder: Path) -> None:
        """Look at a write-ahead log that was not closed: SQLite passes over what it cannot read
        there without a word.

        Raises Emptied where the journal itself is gone or empty: SQLite would delete the log with
        it. Raises sqlite3.Error.
        """
        file, log = folder / _JOURNAL_FILE, folder / f"{_JOURNAL_FILE}-wal"
        content = log.read_bytes() if log.exists() else b""
        if (file.exists() or content) and _size_of(file) == 0:
            raise _Emptied("it is empty" if file.exists() else "only its write-ahead log is there")
        if not content:
            return
        with contextlib.closing(sqlite3.connect(file, timeout=10)) as database:
            read = database.execute("pragma wal_checkpoint(passive)").fetchone()[1]
            if read >= (written := _frames(content)):
                return
            aside = folder / f"{_name_aside()}-wal"
            with contextlib.suppress(OSError):  # on a full disk it is only said
                aside.touch(mode=0o600)
                aside.write_bytes(content)
        lost = f"{written - read} of {written} pages"
        self.say(
            f"the end of the journal could not be read ({lost}); it is kept as {display(aside)}"
        )

    def go_home(self) -> None:
        """Take the journal back to its own folder as soon as there is room. What fails is tried
        again later.
        """
        if self.away is None or not has_room(self.state, 2 * _RESERVE_BYTES):
            return
        with contextlib.suppress(sqlite3.Error, OSError):
            self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
            home = self.open(self.state)
            try:
                self.journal.database.backup(home.database)
            except BaseException:
                home.close()
                raise
            self.journal.database.close()
            for name in (_JOURNAL_FILE + each for each in _COMPANIONS):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.away / name)
            self.journal.file, self.journal.database, self.away = home.file, home.database, None

    def close(self) -> None:
        self.go_home()
        self.journal.close()
        if self.away is None:
            _mark_clean_shutdown(self.state)
        for folder in paths.fallback_folders(self.state) if self.away is None else ():
            with contextlib.suppress(OSError):
                (folder / "lock").unlink(missing_ok=True)
                folder.rmdir()
        _write_reserve_file(self.state)


def open_for_write(
    state: Path, say: _Say, recover: Callable[[Journal], object] | None
) -> JournalKeeper:
    """Open the journal of a state folder to write; whoever opens it closes it.

    The lock is the caller's: it is held before this is called, and released after the close.
    `recover` is called where a crash left steps unfinished, before anything else is written. It
    needs the gate, which this may not import. None is for a run, which recovers as its first step
    and reports that, and for alerts, which have a journal open and touch no step.

    Raises OSError, sqlite3.Error, TooNew, and what `recover` raises.
    """
    keeper = JournalKeeper(state, say)
    try:
        if recover and keeper.journal.unfinished():
            recover(keeper.journal)
    except BaseException:
        keeper.close()
        raise
    return keeper


@contextlib.contextmanager
def open_read_only(state: Path) -> Iterator[Journal | None]:
    """The journal to read only, without leaving a trace in its folder; None where there is none, or
    none that can be read.
    """
    folder = paths.fallback_in_use(state) or state
    if not (folder / _JOURNAL_FILE).exists():
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="miyabi-healing-") as scratch:
        try:
            journal = _look_into(folder / _JOURNAL_FILE, Path(scratch) / _JOURNAL_FILE)
        except sqlite3.DatabaseError:
            yield None
            return
        try:
            yield journal
        finally:
            journal.close()


def _look_into(file: Path, copy: Path) -> Journal:
    """A journal to read only. Where it was not closed, a copy: SQLite would write beside it to read
    it. Raises TooNew.
    """
    if Path(f"{file}-wal").exists():
        for each in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(f"{file}{each}", f"{copy}{each}")
        with contextlib.closing(sqlite3.connect(copy)) as database:
            database.execute("pragma wal_checkpoint(truncate)")
        file = copy
    journal = Journal(file, read_only=True)
    if journal.version > VERSION:
        journal.close()
        raise TooNew(f"{display(file)} was made by a newer version of this program")
    return journal
