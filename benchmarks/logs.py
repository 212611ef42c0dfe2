"""Logs: finding them among many files, making them smaller under a live writer, archiving."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Generator
from pathlib import Path

from benchmarks.harness import Aim, Broken, Case, Command, Settings, Side, main, needs, python

FILES_A_FOLDER, LOGS_A_FOLDER = 100, 2
MEGABYTES = 10


def cases(settings: Settings) -> Generator[Case, None, None]:
    for files, aim in ((100_000, 1.2), (500_000, 1.2)):
        yield from finding(settings.folder / f"{files}", settings.scaled(files), aim)


def finding(folder: Path, files: int, reach: float) -> Generator[Case, None, None]:
    """Large or old logs, two folders down, among files of other kinds; one log in fifty is old, one in fifty large.

    Old is what nothing has happened to since a mark was made: a file's ctime cannot be set to a year ago.
    """
    mark = folder.with_suffix(".mark")
    build(folder, files, mark)
    pattern = str(folder / "*" / "*" / "*.log")
    ours = python("benchmarks.ours", "find_logs", pattern, MEGABYTES, mark)
    predicate = ("-size", f"+{MEGABYTES * 1000}k", "-o", "!", "-newer", str(mark), "!", "-newercm", str(mark))
    peer = Command((needs("find"), str(folder), "-type", "f", "-name", "*.log", "(", *predicate, ")"))
    agree(ours, peer)
    yield Case(
        f"finding large and old logs in {files:,} files", Side("ours", lambda: ours), Side("find", lambda: peer),
        (Aim(reach=reach), Aim("core", reach, name="without an interpreter's start", against="cpu"), Aim("rss", name="memory")),
    )  # fmt: skip


def build(folder: Path, files: int, mark: Path) -> None:
    places = [folder / f"{number // 100}" / f"{number % 100:02}" for number in range(max(1, files // FILES_A_FOLDER))]
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
    said = (subprocess.run(each.argv, capture_output=True, check=True).stdout.splitlines() for each in (ours, peer))
    found = [sorted(line for line in lines if line.startswith(b"/")) for lines in said]
    if found[0] != found[1]:
        raise Broken(f"ours found {len(found[0])}, the peer {len(found[1])}")


if __name__ == "__main__":
    main({"logs": cases})
