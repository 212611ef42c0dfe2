"""Logs: finding them among many files, making them smaller under a live writer, archiving."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.harness import (
    PROJECT,
    Aim,
    Broken,
    Case,
    Command,
    Settings,
    Side,
    ext4,
    main,
    needs,
    python,
)

FILES_A_FOLDER, LOGS_A_FOLDER = 100, 2
MEGABYTES = 10


def cases(settings: Settings) -> Generator[Case, None, None]:
    for files in (100_000, 500_000):
        yield from finding(settings.folder / f"{files}", settings.scaled(files), 1.2)
    with Log(settings.folder, settings.scaled(2_000_000_000), live=True) as log:
        yield from waiting(log)
    with ext4(settings.folder, "8G") as memory:
        with Log(memory, settings.scaled(2_000_000_000), live=True) as log:
            yield from trimming(log, memory, settings)
        yield from archiving(memory, settings)


def finding(folder: Path, files: int, reach: float) -> Generator[Case, None, None]:
    """Large or old logs, two folders down, among files of other kinds; one log in fifty is old, one
    in fifty large.

    Old is what nothing has happened to since a mark was made: a file's ctime cannot be set to a
    year ago.
    """
    mark = folder.with_suffix(".mark")
    build(folder, files, mark)
    pattern = str(folder / "*" / "*" / "*.log")
    ours = python("benchmarks.ours", "find_logs", pattern, MEGABYTES, mark)
    predicate = (
        "-size",
        f"+{MEGABYTES * 1000}k",
        "-o",
        "!",
        "-newer",
        str(mark),
        "!",
        "-newercm",
        str(mark),
    )
    peer = Command(
        (needs("find"), str(folder), "-type", "f", "-name", "*.log", "(", *predicate, ")")
    )
    agree(ours, peer)

    def fd() -> Command:
        """It has no "or", so it goes twice; it looks with a thread a processor."""
        every = f"{needs('fd', 'fdfind')} --unrestricted --absolute-path --type f --extension log"
        when = datetime.fromtimestamp(mark.stat().st_mtime, UTC).isoformat()
        twice = f'cd "$0" && {{ {every} --size +{MEGABYTES}m; {every} --changed-before {when}; }}'
        command = Command((needs("sh"), "-c", twice, str(folder)))
        agree(ours, command)
        return command

    core = Aim("core", name="CPU without an interpreter's start", against="cpu")
    yield Case(
        f"finding large and old logs in {files:,} files",
        Side("ours", lambda: ours),
        Side("fd, twice", fd),
        (Aim(), core),
        rounds=3,
    )
    yield Case(
        f"finding large and old logs in {files:,} files",
        Side("ours", lambda: ours),
        Side("find", lambda: peer),
        (
            Aim(reach=reach),
            Aim("core", reach, name="without an interpreter's start", against="cpu"),
            Aim("rss", name="memory"),
        ),
    )


def build(folder: Path, files: int, mark: Path) -> None:
    places = [
        folder / f"{number // 100}" / f"{number % 100:02}"
        for number in range(max(1, files // FILES_A_FOLDER))
    ]
    logs = [place / f"app-{name}.log" for place in places for name in range(LOGS_A_FOLDER)]
    for place in places:
        place.mkdir(parents=True)
    for path in logs[::50]:
        path.touch()
    time.sleep(0.05)
    mark.touch()
    time.sleep(0.05)
    for number, path in enumerate(logs):
        if number % 50 == 1:
            with path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, 11_000_000)
        elif number % 50:
            path.touch()
    for place in places:
        for name in range(LOGS_A_FOLDER, FILES_A_FOLDER):
            (place / f"object-{name:04}.data").touch()


def agree(ours: Command, peer: Command) -> None:
    """Both must find the same, or their figures mean nothing."""
    said = (
        subprocess.run(each.argv, capture_output=True, check=True).stdout.splitlines()
        for each in (ours, peer)
    )
    found = [sorted(line for line in lines if line.startswith(b"/")) for lines in said]
    if found[0] != found[1]:
        raise Broken(f"ours found {len(found[0])}, the peer {len(found[1])}")


WRITER = """
import gc, json, os, signal, sys, time
gc.disable()
log, number, longest, asked = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND), 0, 0.0, []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
tail, parent = b"x" * 80, os.getppid()
while not asked and (number % 1000 or os.getppid() == parent):  # it ends with whoever measures
    number += 1
    line = b"W %09d %s\\n" % (number, tail)
    begun = time.perf_counter()
    os.write(log, line)
    longest = max(longest, time.perf_counter() - begun)
    time.sleep(0.00005)
    if number == 1000:
        longest = 0.0
        print(flush=True)
print(json.dumps({"lines": number, "stall": longest}), flush=True)
"""
LINE = re.compile(rb"W (\d{9}) x{80}")
ORDINARY = b"2026-01-02 03:04:05.%06d worker[%d]: request %d served in %d ms\n"
HEAP = b"".join(ORDINARY % (n * 7919 % 10**6, n % 7, n * 37, n * n % 900) for n in range(120_000))
COLLAPSE = """
import os, sys
sys.path.insert(0, sys.argv[1])
from miyabi_healing.gate.primitives.syscalls import COLLAPSE_RANGE, fallocate
log = os.open(sys.argv[2], os.O_RDWR)
fallocate(log, COLLAPSE_RANGE, 0, (os.fstat(log).st_size - 1_000_000) // 4096 * 4096)
"""


class Log:
    """A log of some size and, where it is `live`, somebody who appends to it all the time."""

    def __init__(self, folder: Path, size: int, live: bool = False) -> None:
        self.path, self.size, self.live = folder / "app.log", size, live
        self.writer: subprocess.Popen[bytes] | None = None

    def __str__(self) -> str:
        return f"a log of {self.size / 1e9:g} GB"

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.path.unlink(missing_ok=True)

    def fresh(self) -> None:
        self.stop()
        for left in self.path.parent.glob("app.log*"):
            left.unlink()
        shutil.rmtree(self.path.with_name("state"), ignore_errors=True)
        with self.path.open("wb") as file:
            while file.tell() < self.size:
                file.write(HEAP)
            self.size = file.tell()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if self.live:
            self.writer = subprocess.Popen(
                [sys.executable, "-c", WRITER, str(self.path)], stdout=subprocess.PIPE
            )
            assert self.writer.stdout is not None
            self.writer.stdout.readline()

    def stop(self) -> None:
        if self.writer is not None:
            self.writer.kill()
            self.writer.communicate()
            self.writer = None

    def end(self) -> dict[str, float]:
        """Stop the writer; what became of its lines and how long it had to wait."""
        if self.writer is None:
            return {}
        time.sleep(0.1)
        self.writer.terminate()
        said = json.loads(self.writer.communicate()[0])
        self.writer = None
        copy = self.path.with_name("app.log.1")
        written = copy.read_bytes()[self.size :] if copy.exists() else b""
        whole, torn = set(), 0
        for line in (written + b"\n" + self.path.read_bytes().replace(b"\0", b"")).split(b"\n"):
            if found := LINE.fullmatch(line):
                whole.add(int(found[1]))
            elif b"W" in line or b"xx" in line:
                torn += 1
        least = 1 if copy.exists() else min(whole)
        return {
            "lost": said["lines"] - least + 1 - len(whole),
            "torn": torn,
            "stall": said["stall"],
        }


def trimming(log: Log, disk: Path, settings: Settings) -> Generator[Case, None, None]:
    config, state = settings.folder / "logrotate.conf", settings.folder / "logrotate.state"
    config.write_text(f"{log.path} {{\n copytruncate\n rotate 1\n size 1k\n}}\n")
    rotate = Command(
        (needs("logrotate", "/usr/sbin/logrotate"), "--force", "--state", str(state), str(config))
    )
    lost = (
        Aim("lost", 0, absolute=True, name="lines lost"),
        Aim("torn", 0, absolute=True, name="lines torn"),
    )
    yield Case(
        f"truncating {log} under a live writer, no archive",
        Side("ours", on(log, cut(log)), log.end),
        Side("logrotate copytruncate", on(log, rotate), log.end),
        (Aim(reach=0.03), *lost),
        rounds=3,
    )
    large, small = Log(disk, log.size), Log(disk, settings.scaled(64_000_000))
    yield Case(
        f"the same core (find the cut, punch, collapse) at {large.size / 1e9:g} GB",
        Side("ours", on(large, cut(large))),
        Side("at 64 MB", on(small, cut(small))),
        (
            Aim("core", 5, unit="s"),
            Aim("rss", 12e6, absolute=True, name="memory"),
            Aim("more", absolute=True, name="memory that it takes beside the program's", unit="MB"),
        ),
        rounds=3,
    )


def archiving(disk: Path, settings: Settings) -> Generator[Case, None, None]:
    log = Log(disk, settings.scaled(1_000_000_000))
    pack = Command((needs("zstd"), "-3", "-q", "-f", str(log.path), "-o", str(disk / "packed.zst")))
    trim = python("benchmarks.ours", "trim_log", log.path, disk / "state")
    yield Case(
        f"archiving {log.size / 1e9:g} GB while truncating",
        Side("ours", on(log, trim)),
        Side("zstd -3", on(log, pack)),
        (Aim(reach=1.2), Aim("cpu", name="CPU")),
        rounds=5,
    )


def waiting(log: Log) -> Generator[Case, None, None]:
    """How long a writer is kept waiting, on a disk: in memory, even 2 GB at once are gone before
    anybody notices.
    """
    collapse = Command((sys.executable, "-I", "-c", COLLAPSE, str(PROJECT), str(log.path)))
    yield Case(
        f"truncating {log} on the disk below the temporary folder",
        Side("ours", on(log, cut(log)), log.end),
        Side("a plain collapse", on(log, collapse), log.end),
        (Aim("stall", 0.2, name="the writer's longest wait", unit="s"),),
        rounds=5,
    )


def cut(log: Log) -> Command:
    return python("benchmarks.ours", "cut_log", log.path, log.path.with_name("state"))


def on(log: Log, command: Command) -> Callable[[], Command]:
    """The same command, each time on a fresh log."""

    def prepared() -> Command:
        log.fresh()
        return command

    return prepared


if __name__ == "__main__":
    main({"logs": cases})
