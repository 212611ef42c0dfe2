"""Which files are logs, who writes them, what is planned for them, and what is never cut whatever
changes meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_log_safety import LINES, archive, context, entries, plan, trim, whole

from miyabi_healing.gate.handlers import log_files as gate_logs
from miyabi_healing.gate.handlers.table import apply, recheck
from miyabi_healing.gate.primitives.context import Refused
from miyabi_healing.host import log_cutting, log_writers, logs
from miyabi_healing.host.open_files import OpenFile, OpenFiles, scan_open_files
from miyabi_healing.host.process_status import Process
from miyabi_healing.model.steps import TrimLog
from miyabi_healing.support.files import MEGABYTE
from miyabi_healing.support.formatting import size_text

NOBODY = 65534


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that other users can reach, as pytest's own cannot be."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def blob(size: int) -> bytes:
    """Bytes that no compression makes smaller."""
    return random.Random(size).randbytes(size)


# What is measured


def test_hard_links_and_holes_count_once_and_by_what_they_occupy(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"x" * 99 + b"\n" + b"x" * 999_900)
    os.link(log, tmp_path / "b.log")
    with (tmp_path / "sparse.log").open("wb") as file:
        file.truncate(50_000_000)
    du = int(
        subprocess.run(
            ["du", "-sB1", "-c", *tmp_path.glob("*.log")], capture_output=True, check=True
        ).stdout.split()[-2]
    )
    assert logs.read_log_group(f"{tmp_path}/*.log").megabytes == pytest.approx(du / MEGABYTE)


def test_databases_and_system_records_do_not_count(tmp_path: Path) -> None:
    for name, sign in (
        ("leveldb", "CURRENT"),
        ("rocks", "MANIFEST-000004"),
        ("kafka", "00000000000000000000.index"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "000003.log").write_bytes(LINES)
        (tmp_path / name / sign).touch()
    (tmp_path / "x").mkdir()
    for name in ("wtmp.log", "wtmp-20250101.log", "btmp.log"):
        (tmp_path / "x" / name).write_bytes(LINES)
    group = logs.read_log_group(f"{tmp_path}/*/*.log")
    assert group.files == ()
    assert group.megabytes == 0
    assert len(group.odd) == 6


@pytest.mark.root
def test_unreadable_folder_is_named_and_not_fatal(public: Path) -> None:
    for name in ("open", "shut"):
        (public / name).mkdir()
        (public / name / "a.log").write_bytes(LINES)
    (public / "shut").chmod(0o700)
    (public / "open").chmod(0o755)
    script = """
import os, sys; from miyabi_healing.host import catalogue, databases, logs
from miyabi_healing.state import own_state
catalogue.table("databases")  # these tests may lie where nobody else can read
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
group = logs.read_log_group(sys.argv[1])
odd = [(path.name, why) for path, why in group.odd]
print([file.path.parent.name for file in group.files], odd)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, f"{public}/*/*.log"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "['open'] [('shut', 'a folder that cannot be read')]"


# What is planned


def test_many_logs_below_the_cap_of_each_are_trimmed_all_the_same(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.log").write_bytes(LINES * 10)
    found = plan(f"{tmp_path}/*.log", clear=0.5, keep_lines=10, keep_megabytes=10)
    assert [type(step) for step in found.steps] == [TrimLog] * 3
    for step in found.steps:
        assert recheck(step, context(tmp_path)) is None
        apply(step, context(tmp_path))
    assert found.goal.met()


def test_log_that_is_only_its_last_lines_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(LINES)
    (tmp_path / "empty.log").touch()
    found = plan(f"{tmp_path}/*.log", keep_lines=10_000)
    assert found.steps == ()
    assert {each.reason for each in found.kept} == {"nothing to trim"}


@pytest.mark.parametrize("days", [0, 100])
def test_what_was_freed_is_what_the_filesystem_has_more_of(tmp_path: Path, days: float) -> None:
    """Archived whole, or trimmed: the archive, its manifest and their folder are taken off."""
    (tmp_path / "a.log").write_bytes(LINES * 20)
    (step,) = plan(f"{tmp_path}/*.log", keep_lines=100, archive_after_days=days).steps
    taken = blocks(tmp_path)
    done = apply(step, context(tmp_path))
    assert 0 <= taken - blocks(tmp_path) - done.freed <= 4096


def blocks(folder: Path) -> int:
    """The bytes that the files in a folder occupy."""
    files = [each for each in folder.rglob("*") if each.is_file()]
    return sum(each.lstat().st_blocks * 512 for each in files)


def test_plan_promises_what_trimming_frees(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(LINES * 100)
    (step,) = plan(f"{tmp_path}/*.log", keep_lines=100).steps
    done = apply(step, context(tmp_path))
    assert step.bytes == pytest.approx(done.freed, rel=0.25)


def test_planning_changes_nothing(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(LINES)
    before = os.stat(log)
    plan(f"{tmp_path}/*.log", keep_lines=1)
    after = os.stat(log)
    assert (before.st_mtime_ns, before.st_ctime_ns, before.st_blocks) == (
        after.st_mtime_ns,
        after.st_ctime_ns,
        after.st_blocks,
    )
    assert sorted(tmp_path.iterdir()) == [log]


@pytest.mark.root
def test_logs_nobody_may_change_are_named_in_the_plan(mounted: Callable[..., Path]) -> None:
    folder = mounted("ext4", "32M")
    for name, flag in (("i.log", "+i"), ("a.log", "+a")):
        (folder / name).write_bytes(LINES)
        subprocess.run(["chattr", flag, str(folder / name)], check=True)
    try:
        found = plan(f"{folder}/*.log", keep_lines=1)
        assert {each.target[-5:]: each.detail for each in found.kept} == {
            "i.log": "immutable",
            "a.log": "append-only by attribute",
        }
        assert found.steps == ()
    finally:
        subprocess.run(
            ["chattr", "-i", "-a", str(folder / "i.log"), str(folder / "a.log")], check=True
        )


def test_log_behind_a_linked_folder_is_kept_and_named(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.log").write_bytes(LINES)
    (tmp_path / "linked").symlink_to("real")
    found = plan(f"{tmp_path}/*/a.log", keep_lines=1)
    assert [(each.target, each.detail) for each in found.kept] == [
        (f"{tmp_path}/linked/a.log", "reached through a symbolic link")
    ]
    assert [step.target for step in found.steps] == [f"{tmp_path}/real/a.log"]


def test_log_below_a_folder_others_can_write_is_kept(tmp_path: Path) -> None:
    (tmp_path / "open" / "inner").mkdir(parents=True)
    (tmp_path / "open" / "inner" / "a.log").write_bytes(LINES)
    (tmp_path / "open").chmod(0o777)
    found = plan(f"{tmp_path}/*/*/a.log", keep_lines=1)
    assert found.steps == ()
    assert [each.detail for each in found.kept] == ["others can write to a folder above it"]


# What is cut


def cut_of(log: Path, keep_lines: int, keep_bytes: int) -> int:
    with log.open("rb") as file:
        return log_cutting.find_cut(
            file.fileno(), os.fstat(file.fileno()), keep_lines, keep_bytes
        ).cut


def test_byte_cap_cuts_between_lines(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(LINES)
    cut = cut_of(log, 1000, 10_010)
    assert LINES[cut - 1 : cut] == b"\n"
    assert 0 <= 10_010 - (len(LINES) - cut) < 30


def test_one_giant_line_is_cut_inside(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(b"first\n" + b"x" * 30_000_000)
    assert cut_of(log, 1000, 10_000_000) == 20_000_006
    apply(trim(log, 1000, 10_000_000), context(tmp_path))
    assert log.stat().st_blocks * 512 < 11_000_000
    assert whole(log, tmp_path / "state") == b"first\n" + b"x" * 30_000_000


@pytest.mark.parametrize("ending", [b"", b"\n"])
def test_line_cap_keeps_just_so_many_lines(tmp_path: Path, ending: bytes) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(LINES[:-1] + ending)
    assert log.read_bytes()[cut_of(log, 7, 10**9) :].splitlines() == LINES.splitlines()[-7:]


def test_empty_log_and_log_that_is_one_hole_have_nothing_to_trim(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    for size in (0, 10_000_000):
        log.touch()
        os.truncate(log, size)
        with pytest.raises(Refused, match="nothing to trim"):
            apply(trim(log, 1, 0), context(tmp_path))
    assert entries(tmp_path / "state") == []


# When the world changes meanwhile


@pytest.mark.parametrize("late", [b"", b"begun anew\n" * 3000])
def test_log_emptied_by_somebody_else_meanwhile_loses_no_new_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bytes
) -> None:
    """A rotation that truncates (copytruncate) between archiving and cutting: what is written then
    is not in the archive.
    """
    log = tmp_path / "app.log"
    log.write_bytes(LINES)
    sync = gate_logs.Archive.sync

    def emptied(self: gate_logs.Archive) -> None:
        sync(self)
        os.truncate(log, 0)
        with log.open("ab") as file:
            file.write(late)

    monkeypatch.setattr(gate_logs.Archive, "sync", emptied)
    with pytest.raises(Refused, match="shorter"):
        apply(trim(log), context(tmp_path))
    assert log.read_bytes() == late


def test_log_that_gets_shorter_while_it_is_read_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(LINES)
    place = gate_logs.archive_place

    def shortened(*arguments: object) -> object:
        os.truncate(log, 8192)
        return place(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(gate_logs, "archive_place", shortened)
    with pytest.raises(Refused, match="shorter"):
        apply(trim(log), context(tmp_path))
    assert log.read_bytes() == LINES[:8192]
    assert entries(tmp_path / "state") == []


def test_filesystem_that_frees_no_part_of_a_file_is_a_reason_not_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(LINES)

    def unsupported(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(gate_logs, "fallocate", unsupported)
    with pytest.raises(Refused, match="cannot free"):
        apply(trim(log), context(tmp_path))
    assert log.read_bytes() == LINES
    assert entries(tmp_path / "state") == []


def test_archive_that_gains_nothing_is_not_made(tmp_path: Path) -> None:
    log = tmp_path / "app.log.1.gz"
    packed = gzip.compress(blob(500_000))
    log.write_bytes(packed)
    with pytest.raises(Refused, match="frees nothing"):
        apply(archive(log), context(tmp_path))
    assert log.read_bytes() == packed
    assert entries(tmp_path / "state") == []


def test_hole_of_an_earlier_cut_is_not_archived(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    with log.open("wb") as file:
        file.seek(8_000_000_000)
        file.write(LINES)
    apply(archive(log), context(tmp_path))
    assert not log.exists()
    (entry,) = entries(tmp_path / "state")
    assert entry["start"] == 8_000_000_000 // 4096 * 4096
    assert bytes(entry["data"]).lstrip(b"\0") == LINES  # type: ignore[call-overload]


def test_log_renamed_between_plan_and_step_is_refused_and_whole(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(LINES)
    step = trim(log)
    log.rename(tmp_path / "app.log.1")
    log.write_bytes(b"fresh\n")
    assert recheck(step, context(tmp_path)) == "it was replaced since it was measured"
    with pytest.raises(Refused, match="replaced"):
        apply(step, context(tmp_path))
    assert (tmp_path / "app.log.1").read_bytes() == LINES
    assert log.read_bytes() == b"fresh\n"


def test_cut_that_fails_half_way_leaves_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that says EIO may have freed blocks already; the archive is then all there is of
    them.
    """
    log = tmp_path / "app.log"
    log.write_bytes(LINES)
    real = gate_logs.fallocate

    def half(descriptor: int, mode: int, offset: int, length: int) -> None:
        real(descriptor, mode, offset, length // 8192 * 4096)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(gate_logs, "fallocate", half)
    with pytest.raises(OSError, match="Input/output"):
        apply(trim(log), context(tmp_path))
    rest = log.read_bytes()
    assert rest.startswith(b"\0" * 4096)
    (entry,) = entries(tmp_path / "state")
    taken = bytes(entry["data"])  # type: ignore[call-overload]
    assert taken + rest[len(taken) :] == LINES


@pytest.mark.root
def test_full_disk_with_nowhere_to_archive_is_a_reason(mounted: Callable[..., Path]) -> None:
    folder = mounted("ext4", "32M")
    log = folder / "app.log"
    log.write_bytes(LINES * 50)
    with (folder / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 65536):
            pass
    for step in (trim(log), archive(log)):
        with pytest.raises(Refused, match="no space"):
            apply(step, context(folder))
    assert log.read_bytes() == LINES * 50
    assert entries(folder / "state") == []


@pytest.mark.root
def test_log_begun_anew_just_before_it_is_collapsed_keeps_every_new_line(
    mounted: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = mounted("ext4", "32M") / "app.log"
    log.write_bytes(LINES)
    # longer than what would be collapsed, shorter than the log was
    late = b"n" * (len(LINES) - 100)
    look = log_writers.writers_of

    def emptied(*arguments: object, **keywords: object) -> log_writers.Writers:
        found = look(*arguments, **keywords)  # type: ignore[arg-type]
        log.write_bytes(late)
        return found

    monkeypatch.setattr(log_writers, "writers_of", emptied)
    done = apply(trim(log), context(log.parent))
    assert (done.details["way"], done.message.split(",")[0]) == (
        "punched",
        f"ls still shows {size_text(log.stat().st_size)}",
    )
    assert log.read_bytes() == late


def test_log_that_is_opened_late_is_not_archived_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "app.log.1"
    log.write_bytes(LINES)
    sync = gate_logs.Archive.sync
    holders: list[subprocess.Popen[bytes]] = []

    def late(self: gate_logs.Archive) -> None:
        sync(self)
        with log.open("ab") as file:
            holders.append(subprocess.Popen(["sleep", "60"], stdout=file))

    monkeypatch.setattr(gate_logs.Archive, "sync", late)
    try:
        with pytest.raises(Refused, match="last moment"):
            apply(archive(log), context(tmp_path))
    finally:
        for holder in holders:
            holder.kill()
            holder.wait()
    assert log.read_bytes() == LINES


# Who holds it


def other(uid: int) -> Process:
    return Process(
        pid=4_000_000,
        ppid=1,
        start=1,
        name="secret",
        state="S",
        session=1,
        tty=0,
        uid=uid,
        threads=1,
    )


def judged(log: Path, unseen: tuple[Process, ...]) -> log_writers.Writers:
    status = os.stat(log)
    return log_writers.writers_of(log, status, OpenFiles((), unseen))


@pytest.mark.parametrize(
    ("mode", "same_owner", "trouble"),
    [
        (0o644, True, True),
        (0o644, False, False),
        (0o664, False, True),
        (0o666, False, True),
        (0o600, False, False),
    ],
)
def test_unseen_process_that_could_write_is_a_reason_to_skip(
    tmp_path: Path, mode: int, same_owner: bool, trouble: bool
) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(LINES)
    log.chmod(mode)
    found = judged(log, (other(os.getuid() if same_owner else 4242),))
    assert (found.trouble is not None) == trouble
    assert not found.append_only


def test_where_nobody_else_is_said_to_be_an_unseen_process_is_no_reason(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(LINES)
    seen = OpenFiles((), (other(os.getuid()),), blind="secret could use it", alone=True)
    found = log_writers.writers_of(log, os.stat(log), seen)
    assert (found.trouble, found.closed) == (None, True)
    # what is cut by another way can be given back without that word as well
    assert not found.append_only


def test_log_mapped_for_writing_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(LINES)
    script = (
        "import mmap, sys; f = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 0); "
        "f.close(); print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert "mapped by" in str(recheck(trim(log), context(tmp_path)))
        holder.communicate(b"\n")


def test_mapping_counts_where_its_device_number_is_another(tmp_path: Path) -> None:
    """Btrfs shows another device in maps than stat(2) does."""
    log = tmp_path / "app.log"
    log.write_bytes(LINES)
    status = os.stat(log)
    real = scan_open_files()
    strange = OpenFile(
        1, "db", status.st_dev + 1, status.st_ino, str(log), writable=True, mapped=True
    )
    found = log_writers.writers_of(log, status, OpenFiles((*real.files, strange), ()))
    assert "mapped by db" in str(found.trouble)


def test_log_this_very_process_writes_is_not_archived_away(tmp_path: Path) -> None:
    """``miyabi-healing --watch > ~/.miyabi/logs/heal.log``: the scan of other processes does not
    see it.
    """
    log = tmp_path / "app.log"
    log.write_bytes(LINES)
    with log.open("ab"):
        assert "has it open" in str(recheck(archive(log), context(tmp_path)))
        assert [
            type(step)
            for step in plan(f"{tmp_path}/*.log", keep_lines=1, archive_after_days=0).steps
        ] == [TrimLog]
        assert recheck(trim(log), context(tmp_path)) is None


def test_own_writer_with_an_offset_gets_a_hole_not_a_shift(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(LINES)
    with log.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        done = apply(trim(log), context(tmp_path))
        file.write(b"last\n")
    assert done.details["way"] == "punched"
    assert whole(log, tmp_path / "state") == LINES + b"last\n"


@pytest.mark.root
@pytest.mark.parametrize(
    ("alone", "days", "expected"),
    [
        (False, 0, "kept: holders unknown True"),
        (False, 1, "kept: holders unknown True"),
        (True, 0, "ArchiveLog"),
        (True, 1, "TrimLog"),
    ],
)
def test_ordinary_user_keeps_logs_that_roots_processes_could_have_open_unless_told_that_none_does(
    public: Path, alone: bool, days: int, expected: str
) -> None:
    """Punching is no excuse: root's processes cannot be looked into, and this host has no services
    to tell them from.
    """
    folder = public / "logs"
    folder.mkdir()
    (folder / "app.log.1").write_bytes(LINES * 20)
    for path in (folder, folder / "app.log.1"):
        os.chown(path, NOBODY, NOBODY)
    script = """
import os, sys
sys.path[:0] = [os.getcwd(), "tests"]
from pathlib import Path
import test_logs as t
from miyabi_healing.model.config import Config, SafetySettings as Safety
from miyabi_healing.gate import target_checks as users
from miyabi_healing.gate.primitives.compression import library
from miyabi_healing.state import own_state
folder = Path(sys.argv[1])
t.plan(f"{folder}/*")
library()  # what is loaded late, while it can still be read
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
config = Config(safety=Safety(ours_alone=(str(folder),) if sys.argv[3] == "True" else ()))
found = t.plan(f"{folder}/*", config=config, keep_lines=10, archive_after_days=float(sys.argv[2]))
for each in found.kept:
    print("kept:", each.detail.partition(":")[0], each.decide)
where = t.context(folder, config=config)
for step in found.steps or [t.trim(folder / "app.log.1")]:
    reason = t.recheck(step, where) or users.in_use(step, where)
    assert bool(reason) == (sys.argv[3] == "False"), reason
    if not reason:
        t.apply(step, where)
        print(type(step).__name__)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder), str(days), str(alone)],
        capture_output=True, text=True, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert done.stdout.strip() == expected, done.stderr
    if expected == "TrimLog":
        assert whole(folder / "app.log.1", folder / "state") == LINES * 20
    elif not alone:
        assert (folder / "app.log.1").read_bytes() == LINES * 20
