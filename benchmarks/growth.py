"""What a filesystem grew by: two looks at many files, with three real writers between them, whose
truth is known.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

from benchmarks.harness import (
    Aim,
    Case,
    Command,
    Settings,
    Side,
    Skipped,
    ext4,
    main,
    needs_root,
    python,
)

FOLDERS = 2_000
# as many files as are wanted, in folders of a tree; most say nothing, and are not to be asked
BUILD = """
import os, sys
top, files, folders = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for number in range(folders):
    folder = f"{top}/src/p{number % 20}/d{number}"
    os.makedirs(folder)
    for each in range(files // folders):
        os.close(os.open(f"{folder}/{each}", os.O_CREAT | os.O_WRONLY))
os.makedirs(f"{top}/home/.cache/huggingface/hub")
os.makedirs(f"{top}/logs")
open(f"{top}/logs/app.log", "wb").write(bytes(5_000_000))
"""


def cases(settings: Settings) -> Generator[Case, None, None]:
    files = settings.scaled(500_000)
    with ext4(settings.folder, "20G") as disk:
        folders = min(FOLDERS, files)
        build(disk, files, folders)
        ours = python("benchmarks.ours", "look_at_growth", disk)
        yield Case(
            f"three writers among {files:,} files in {folders:,} folders",
            Side("ours", lambda: ours),
            None,
            (
                Aim("first", 0.05, absolute=True, name="CPU of the first look", unit="s"),
                Aim("second", 0.05, absolute=True, name="CPU of the second look", unit="s"),
                Aim("error", 3, absolute=True, name="largest error of a share", unit="points"),
                Aim("rest", 3, absolute=True, name="not explained", unit="points"),
            ),
        )

    repository = settings.folder / "repository"
    with memory_group() as group:
        ours = python("benchmarks.ours", "explain_lock", repository, group)
        yield Case(
            "a git lock, once the kernel has ended git in a memory cgroup",
            Side("ours", lambda: emptied(repository, ours)),
            None,
            (
                Aim("explain", 0.05, absolute=True, name="CPU", unit="s"),
                Aim("unsaid", 0, absolute=True, name="locks that it is not said of"),
            ),
        )


def emptied(repository: Path, command: Command) -> Command:
    shutil.rmtree(repository, ignore_errors=True)
    return command


@contextlib.contextmanager
def memory_group() -> Iterator[Path]:
    """A cgroup with little memory (v1, or v2). Raises Skipped."""
    needs_root()
    for top, limit in (("memory", "memory.limit_in_bytes"), ("", "memory.max")):
        folder = Path("/sys/fs/cgroup", top, f"miyabi-bench-{os.getpid()}")
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / limit).write_text("30M")
            yield folder
            return
        except FileNotFoundError:
            continue
        finally:
            folder.rmdir()
    raise Skipped("no memory cgroup can be made here")


def build(disk: Path, files: int, folders: int) -> None:
    argv = [sys.executable, "-c", BUILD, str(disk), str(files), str(folders)]
    subprocess.run(argv, check=True)
    subprocess.run(["sync", "-f", str(disk)], check=True)
    # what was made just now is no growth of the first look
    os.utime(disk / "logs" / "app.log")


if __name__ == "__main__":
    main({"growth": cases})
