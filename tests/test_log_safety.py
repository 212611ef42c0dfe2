"""Logs get smaller and lose nothing: not a line, not under fire, not when a write fails half
way.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from gatework import work
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from miyabi_healing.gate import batch, execute, undo
from miyabi_healing.gate.handlers import log_files as gate_logs
from miyabi_healing.gate.handlers.table import apply, recheck
from miyabi_healing.gate.primitives import compression, quarantine_writer, syscalls
from miyabi_healing.gate.primitives.context import Context, Refused
from miyabi_healing.host import logs
from miyabi_healing.host.context import HealerContext
from miyabi_healing.host.readings import Host
from miyabi_healing.model.config import Config
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.plan import Plan
from miyabi_healing.model.steps import ArchiveLog, CutLog, TrimLog
from miyabi_healing.runner import registry
from miyabi_healing.support.files import identity_at

assert execute
WRITER = """
import os, sys, time
log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
number = 0
while number % 100 or not os.path.exists(sys.argv[3]):
    os.write(log, b"%s %08d %s\\n" % (sys.argv[2].encode(), number, b"x" * (number % 40)))
    number += 1
    if number % 100 == 0:
        time.sleep(0.002)
print(number)
"""
LINES = b"".join(b"line %06d of the log\n" % number for number in range(5000))


def context(folder: Path, state: Path | None = None, config: Config | None = None) -> Context:
    return Context(Host(config or Config()), "run", state or folder / "state", (folder,))


def trim(path: Path, keep_lines: int = 10, keep_bytes: int = 10_000_000) -> TrimLog:
    identity = identity_at(path)
    return TrimLog(
        target="",
        reason="",
        path=path,
        identity=identity,
        keep_lines=keep_lines,
        keep_bytes=keep_bytes,
    )


def archive(path: Path) -> ArchiveLog:
    return ArchiveLog(target="", reason="", path=path, identity=identity_at(path))


def entries(state: Path) -> list[dict[str, object]]:
    """The archives of a state folder, in the order they were made."""
    files = sorted(state.rglob("manifest.json"))
    return [
        json.loads(file.read_text()) | {"data": unpack(file.parent / "thing")} for file in files
    ]


def unpack(path: Path) -> bytes:
    return (
        compression.library().decompress(path.read_bytes())
        if path.exists() and path.stat().st_size
        else b""
    )


def whole(path: Path, state: Path) -> bytes:
    """What the log would be had nobody touched it: what was taken, then the file without hole and
    filler.
    """
    (entry,) = entries(state)
    data = entry["data"]
    assert isinstance(data, bytes)
    taken = int(str(entry["taken"]))
    rest = path.read_bytes()
    if entry.get("collapsed"):
        return data[:taken] + rest[int(str(entry["filler"])) :]
    return data[: taken - int(str(entry["start"]))] + rest[taken:]


def under_fire(folder: Path, rounds: int) -> list[str]:
    """Three writers at full speed while the log is trimmed so many times; the ways it was done."""
    log, state, stop = folder / "app.log", folder / "state", folder / "stop"
    log.touch()
    # a little behind, or they would write more than can be taken away, and starve other tests
    command = ["nice", "-n", "5", sys.executable, "-S", "-c", WRITER, str(log)]
    writers = [
        subprocess.Popen([*command, name, str(stop)], stdout=subprocess.PIPE) for name in "abc"
    ]
    ways: list[str] = []
    try:
        while len(ways) < rounds:
            assert all(writer.poll() is None for writer in writers)
            with contextlib.suppress(Refused):  # nothing to trim yet
                ways.append(
                    str(apply(trim(log, keep_lines=50), context(folder, state)).details["way"])
                )
    finally:
        stop.touch()
        counts = [int(writer.communicate()[0]) for writer in writers]
    kept = b"".join(entry["data"] for entry in entries(state)) + log.read_bytes()  # type: ignore[misc]
    lines = [line for line in kept.replace(b"\0", b"").split(b"\n") if line.strip()]
    for name, count in zip((b"a", b"b", b"c"), counts, strict=True):
        numbers = [int(line.split(b" ")[1]) for line in lines if line.startswith(name + b" ")]
        assert numbers == list(range(count))
    assert len(lines) == sum(counts)
    print(f"{len(lines)} lines of three writers, {len(ways)} heals")
    return ways


@pytest.mark.root
# whoever looks for holders waits for those that do not answer
@pytest.mark.usefixtures("only_mounts")
def test_three_writers_lose_no_line_while_an_ext4_log_is_collapsed(
    mounted: Callable[..., Path],
) -> None:
    assert set(under_fire(mounted("ext4", "300M"), 50)) == {"collapsed"}


@pytest.mark.root
# whoever looks for holders waits for those that do not answer
@pytest.mark.usefixtures("only_mounts")
def test_three_writers_lose_no_line_while_a_tmpfs_log_is_punched(
    mounted: Callable[..., Path],
) -> None:
    assert set(under_fire(mounted("tmpfs", "300M"), 50)) == {"punched"}


@pytest.mark.root
@pytest.mark.parametrize(("kind", "way"), [("ext4", "collapsed"), ("tmpfs", "punched")])
def test_log_cut_without_an_archive_loses_only_its_beginning(
    mounted: Callable[..., Path], kind: str, way: str
) -> None:
    folder = mounted(kind, "100M")
    log = folder / "app.log"
    log.write_bytes(LINES)
    stop, ways = folder / "stop", list[str]()
    with subprocess.Popen(
        [sys.executable, "-S", "-c", WRITER, str(log), "a", str(stop)], stdout=subprocess.PIPE
    ) as writer:
        try:
            while len(ways) < 20:
                assert writer.poll() is None
                with contextlib.suppress(Refused):  # nothing to trim yet
                    step = CutLog(
                        target="",
                        reason="",
                        path=log,
                        identity=identity_at(log),
                        keep_lines=50,
                        keep_bytes=1_000_000,
                    )
                    assert recheck(step, context(folder)) is None
                    ways.append(str(apply(step, context(folder)).details["way"]))
        finally:
            stop.touch()
            count = int(writer.communicate()[0])
    assert set(ways) == {way}
    lines = [line for line in log.read_bytes().replace(b"\0", b"").split(b"\n") if line.strip()]
    numbers = [int(line.split(b" ")[1]) for line in lines if line.startswith(b"a ")]
    assert numbers == list(range(numbers[0], count))
    assert all(
        line.split(b" ")[2] == b"x" * (int(line.split(b" ")[1]) % 40)
        for line in lines
        if line.startswith(b"a ")
    )
    assert len(lines) <= len(numbers) + 50
    assert not (folder / "state").exists()


def test_writer_with_an_offset_of_its_own_gets_a_hole_not_a_shift(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(LINES)
    script = (
        "import sys, time; f = open(sys.argv[1], 'r+b'); f.seek(0, 2); print(flush=True); "
        "input(); f.write(b'last\\n')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        done = apply(trim(log), context(tmp_path))
        writer.communicate(b"\n")
    assert done.details["way"] == "punched"
    assert whole(log, tmp_path / "state") == LINES + b"last\n"


LETTERS = [*range(0x20, 0x7F), *range(0x80, 0x100), 9, 13, 27]
LINE = st.lists(st.sampled_from(LETTERS), max_size=300).map(bytes)
CONTENT = st.one_of(
    st.lists(LINE, max_size=400).map(b"\n".join),
    st.integers(0, 30_000).map(lambda size: b"x\n" + b"y" * size),
    st.binary(max_size=20_000),  # mostly no log, which is then refused
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(content=CONTENT, lines=st.integers(0, 50), size=st.integers(0, 20_000))
def test_archive_and_rest_are_the_original(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, lines: int, size: int
) -> None:
    folder = tmp_path_factory.mktemp("trim")
    log = folder / "app.log"
    log.write_bytes(content)
    try:
        apply(trim(log, lines, size), context(folder))
    except Refused:
        assert log.read_bytes() == content
        assert entries(folder / "state") == []
    else:
        assert whole(log, folder / "state") == content


def test_punch_that_fails_half_way_keeps_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(LINES)
    punch = gate_logs.fallocate

    def half(descriptor: int, mode: int, offset: int, length: int) -> None:
        punch(descriptor, mode, offset, length // 8192 * 4096)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(gate_logs, "fallocate", half)
    with pytest.raises(OSError, match="Input/output"):
        apply(trim(log, 10), context(tmp_path))
    assert log.read_bytes() != LINES
    assert whole_after_failure(log, tmp_path / "state", LINES)


def test_last_lines_stay_and_the_rest_is_really_freed(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(LINES * 40)
    before = log.stat().st_blocks
    done = apply(trim(log, keep_lines=10), context(tmp_path))
    assert log.read_bytes().splitlines()[-10:] == (LINES * 40).splitlines()[-10:]
    assert log.stat().st_blocks < before / 10
    assert done.freed > 0.7 * before * 512
    assert logs.read_log_group(str(log)).megabytes < 0.1  # a hole does not count


def test_trimming_twice_archives_each_line_once(tmp_path: Path) -> None:
    log, state = tmp_path / "app.log", tmp_path / "state"
    log.write_bytes(LINES)
    apply(trim(log, 10), context(tmp_path))
    with log.open("ab") as file:
        file.write(LINES.replace(b"line", b"more"))
    apply(trim(log, 10), context(tmp_path))
    kept = b"".join(entry["data"] for entry in entries(state)) + log.read_bytes()  # type: ignore[misc]
    lines = [line for line in kept.replace(b"\0", b"").split(b"\n") if line.strip()]
    assert lines == (LINES + LINES.replace(b"line", b"more")).split(b"\n")[:-1]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["write", "fsync", "pwrite", "rename", "fallocate"])
def test_failure_at_any_moment_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: int
) -> None:
    """Each call is made to fail at its first, second, third … use; a chunk is made small, so that
    there are many.
    """
    monkeypatch.setattr(gate_logs, "CHUNK", 16 << 10)
    monkeypatch.setattr(gate_logs, "PIECE", 8 << 10)
    content = LINES[:100_003]
    holder = gate_logs if call == "fallocate" else os
    original = getattr(holder, call)
    survived = 0
    for number in range(1, 40):
        folder = tmp_path / str(number)
        folder.mkdir()
        log = folder / "app.log"
        log.write_bytes(content)
        uses = 0

        def fail(*arguments: object, nth: int = number, **keywords: object) -> object:
            nonlocal uses
            uses += 1
            if uses == nth:
                raise OSError(error, os.strerror(error))
            return original(*arguments, **keywords)

        step, where = trim(log, 5), context(folder)
        with monkeypatch.context() as patch:
            patch.setattr(holder, call, fail)
            try:
                apply(step, where)
                survived += 1
            except (OSError, Refused):
                pass
        if log.read_bytes() != content:
            assert whole_after_failure(log, folder / "state", content)
        if survived and uses < number:
            break  # every use has failed once
    assert survived


def whole_after_failure(log: Path, state: Path, content: bytes) -> bool:
    """Every byte is in the file or in the archive, wherever it broke off."""
    rest = log.read_bytes()
    # collapsed: the file is the end of the original, but for its filler
    if len(rest) < len(content):
        rest = b"\0" * (len(content) - len(rest)) + rest
    data = b"".join(entry["data"] for entry in entries(state))  # type: ignore[misc]
    return all(
        rest[at] == content[at] or (at < len(data) and data[at] == content[at])
        for at in range(len(content))
    )


@pytest.mark.parametrize("moment", ["sync", "add"])
def test_log_that_others_truncate_meanwhile_keeps_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(LINES)
    original = getattr(compression.Archive, moment)

    def late(*arguments: object) -> None:
        original(*arguments)
        os.truncate(log, 0)
        with log.open("ab") as file:
            file.write(b"new\n")

    monkeypatch.setattr(compression.Archive, moment, late)
    with pytest.raises(Refused, match="shorter"):
        apply(trim(log, 10), context(tmp_path))
    assert log.read_bytes() == b"new\n"
    assert entries(tmp_path / "state") == []


def test_closed_log_is_archived_whole_and_gone(tmp_path: Path) -> None:
    log = tmp_path / "app.log.1"
    log.write_bytes(LINES + b"\xff\xe9 no newline at the end")
    original = log.read_bytes()
    step = archive(log)
    assert recheck(step, context(tmp_path)) is None
    apply(step, context(tmp_path))
    assert not log.exists()
    (entry,) = entries(tmp_path / "state")
    assert entry["data"] == original
    assert (entry["original"], entry["mode"]) == (str(log), 0o644)


@pytest.mark.parametrize("when", ["before", "while"])
def test_log_written_late_is_not_archived_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    log = tmp_path / "app.log.1"
    log.write_bytes(LINES)
    step = archive(log)
    if when == "before":
        log.write_bytes(LINES + b"late\n")
        assert recheck(step, context(tmp_path)) == "it changed since it was measured"
        return
    sync = compression.Archive.sync

    def late(self: compression.Archive) -> None:
        sync(self)
        with log.open("ab") as file:
            file.write(b"late\n")

    monkeypatch.setattr(compression.Archive, "sync", late)
    with pytest.raises(Refused, match="last moment"):
        apply(step, context(tmp_path))
    assert log.read_bytes() == LINES + b"late\n"
    assert entries(tmp_path / "state") == []


@pytest.mark.parametrize("meanwhile", ["", "begun anew"])
def test_log_that_is_rotated_at_the_very_last_moment_is_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """Another log has the name when something is done to it; where that name is taken, too, it
    stays beside it.
    """
    log = tmp_path / "app.log.1"
    log.write_bytes(LINES)
    rename = syscalls.rename_new

    def rotated(old_folder: int, old: str, new_folder: int, new: str) -> None:
        if old == log.name:
            monkeypatch.undo()
            log.rename(tmp_path / "app.log.2")
            log.write_text("younger\n")
        rename(old_folder, old, new_folder, new)
        if old == log.name and meanwhile:
            log.write_text(meanwhile)

    monkeypatch.setattr(gate_logs, "rename_new", rotated)
    where = context(tmp_path)
    with work(where) as prepared:
        outcome = batch.one(archive(log), prepared)
    assert outcome.status == ("failed" if meanwhile else "skipped"), outcome
    assert (tmp_path / "app.log.2").read_bytes() == LINES
    assert log.read_text() == (meanwhile or "younger\n")
    if not meanwhile:
        assert entries(tmp_path / "state") == []
        return
    beside = f"{log.name}.restored-{where.run_id}"
    assert f"as {beside}" in outcome.message
    assert (tmp_path / beside).read_text() == "younger\n"
    assert undo.entries(where.state, where.run_id, outcome.number) == []
    assert {path.name for path in tmp_path.iterdir()} == {"app.log.1", "app.log.2", beside, "state"}


def test_open_log_is_not_archived_away(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(LINES)
    with log.open("ab") as file, subprocess.Popen(["sleep", "60"], stdout=file) as holder:
        try:
            assert "has it open" in str(recheck(archive(log), context(tmp_path)))
        finally:
            holder.kill()


def hostile(folder: Path) -> dict[str, str]:
    """Everything that can match ``*.log`` without being a log to prune, and why it is left
    alone.
    """
    victim = folder / "victim"
    victim.write_bytes(LINES)
    (folder / "link.log").symlink_to(victim)
    os.link(victim, folder / "hard.log")
    os.mkfifo(folder / "fifo.log")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s.log"))
    (folder / "folder.log").mkdir()
    (folder / "wtmp.log").write_bytes(LINES)
    return {
        "link.log": "a symbolic link",
        "hard.log": "it has 2 names",
        "fifo.log": "a FIFO",
        "s.log": "a socket",
        "folder.log": "a folder",
        "wtmp.log": "a system record",
    }


def plan(pattern: str, clear: float = 0, config: Config | None = None, **options: float) -> Plan:
    healer, kind = registry.load_healer("prune_logs", registry.builtin("healers") / "prune_logs.py")
    assert kind is not None
    view = HealerContext(Host(config or Config()), {"log_group": logs.read_log_group(pattern)})
    return healer(
        view, Issue("large_log_files", "", "", 1, Limit(0, clear_at=clear)), kind(**options)
    )


def test_hostile_files_are_named_and_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    expected = hostile(folder)
    found = plan(f"{folder}/*.log", keep_megabytes=0)
    assert {Path(each.target).name: each.detail for each in found.kept} == expected
    assert found.steps == ()
    assert (folder / "victim").read_bytes() == LINES


@pytest.mark.parametrize(
    "name",
    ["with space.log", "line\nbreak.log", os.fsdecode(b"\xff\xfe.log"), "-rf.log", "[a].log"],
)
def test_odd_names_are_no_trouble(tmp_path: Path, name: str) -> None:
    log = tmp_path / name
    log.write_bytes(LINES)
    os.utime(log, (0, 0))
    (step,) = plan(f"{tmp_path}/*.log", keep_megabytes=0, archive_after_days=0).steps
    assert step.guard() is None
    assert recheck(step, context(tmp_path)) is None
    apply(step, context(tmp_path))
    assert not log.exists()
    assert "\n" not in step.target


def test_database_and_unsafe_folders_are_left_alone(tmp_path: Path) -> None:
    for name in ("db", "open"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "000003.log").write_bytes(LINES)
    (tmp_path / "db" / "CURRENT").touch()
    (tmp_path / "open").chmod(0o777)
    found = plan(f"{tmp_path}/*/*.log", keep_megabytes=0)
    assert [each.detail for each in found.kept] == [
        "part of a database (LevelDB or RocksDB): beside CURRENT",
        "others can write to its folder",
    ]
    assert found.steps == ()


@pytest.mark.root
def test_other_users_file_in_a_sticky_folder_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    folder.chmod(0o1777)
    for name in ("mine.log", "theirs.log"):
        (folder / name).write_bytes(LINES)
    os.chown(folder / "theirs.log", 65534, 65534)
    found = plan(f"{folder}/*.log", keep_megabytes=0, archive_after_days=0)
    assert [each.detail for each in found.kept] == ["another user's file in a shared folder"]
    assert [Path(step.target).name for step in found.steps] == ["mine.log"]


@pytest.mark.parametrize("kind", [trim, archive])
def test_replaced_log_is_refused(
    tmp_path: Path, kind: Callable[[Path], TrimLog | ArchiveLog]
) -> None:
    log, victim = tmp_path / "app.log", tmp_path / "victim"
    log.write_bytes(LINES)
    victim.write_bytes(LINES)
    step = kind(log)
    os.rename(log, tmp_path / "away")
    log.symlink_to(victim)
    assert recheck(step, context(tmp_path)) is not None
    with pytest.raises((Refused, OSError)):
        apply(step, context(tmp_path))
    assert victim.read_bytes() == LINES


@pytest.mark.root
def test_immutable_log_is_reported_and_whole(mounted: Callable[..., Path], tmp_path: Path) -> None:
    log = mounted("ext4", "32M") / "app.log"
    log.write_bytes(LINES)
    subprocess.run(["chattr", "+i", str(log)], check=True)
    try:
        with pytest.raises(OSError, match="not permitted"):
            apply(trim(log), Context(Host(Config()), "run", tmp_path / "state", (log.parent,)))
    finally:
        subprocess.run(["chattr", "-i", str(log)], check=True)
    assert log.read_bytes() == LINES


@pytest.mark.root
def test_full_disk_is_no_reason_to_lose_anything(
    mounted: Callable[..., Path], tmp_path: Path
) -> None:
    folder = mounted("ext4", "32M")
    log = folder / "app.log"
    log.write_bytes(LINES * 50)
    with (folder / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 65536):
            pass
    assert os.statvfs(folder).f_bavail == 0
    done = apply(trim(log, 10), Context(Host(Config()), "run", tmp_path / "state", (folder,)))
    assert done.freed > 3_000_000
    assert whole(log, tmp_path / "state") == LINES * 50


def test_archives_are_private(tmp_path: Path) -> None:
    log = tmp_path / "app.log.1"
    log.write_bytes(LINES)
    done = apply(archive(log), context(tmp_path))
    folder = Path(str(done.undo["entry"]))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert quarantine_writer.WrittenEntry(folder).payload.stat().st_mode & 0o777 == 0o600


def test_plan_archives_the_oldest_first_and_stops_at_the_goal(tmp_path: Path) -> None:
    for name, age in (("b.log", 5), ("a.log", 50), ("c.log", 1)):
        (tmp_path / name).write_bytes(LINES * 10)
        os.utime(tmp_path / name, (time.time() - age * 86_400,) * 2)
    found = plan(f"{tmp_path}/*.log", clear=2.5, archive_after_days=0)
    names = [Path(step.target).name for step in found.steps]
    # by the newest of their times, which nobody can set back
    assert sorted(names) == ["a.log", "b.log", "c.log"]
    assert not found.goal.met()
    apply(found.steps[0], context(tmp_path))
    assert found.goal.met()
