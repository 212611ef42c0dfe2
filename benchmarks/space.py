"""What takes a home's space: all of it, against ``du -x``; and the glance of a healing run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

from benchmarks.harness import Aim, Case, Command, Settings, Side, ext4, main, needs, python

# A home as developers have it: most files are in dependencies, most bytes are not.
BUILD = """
import os, sys
top, files = sys.argv[1], int(sys.argv[2])
def put(path, size=0):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        if size:
            os.posix_fallocate(file.fileno(), 0, int(size))
for number in range(files * 7 // 10):
    package = f"{top}/src/app{number // 9600}/node_modules/p{number // 24}"
    put(f"{package}/lib/part{number % 3}/{number}.js", 1)
for number in range(files // 10):
    put(f"{top}/.cache/uv/archive-v0/{number // 200}/lib/{number // 20}/{number}.py", 9000)
for number in range(files // 10):
    put(f"{top}/.claude/projects/{number // 500}/{number}.jsonl", 12000)
for number in range(files // 10):
    put(f"{top}/screenshots/{number}.png", 5000)
put(f"{top}/Downloads/image.iso", files * 1500)
put(f"{top}/vm/disks/build/disk.qcow2", files * 2500)
"""


def cases(settings: Settings) -> Generator[Case, None, None]:
    du, files = needs("du"), settings.scaled(500_000)
    with ext4(settings.folder, "20G") as disk:
        home = disk / "home"
        build(home, files)
        ours = python("benchmarks.ours", "look_at_space", home)
        yield Case(
            f"what takes the space of {files:,} files",
            Side("ours", lambda: ours),
            Side("du -x", lambda: Command((du, "-xs", str(home)))),
            (
                Aim(reach=1.2),
                Aim("core", 1.2, name="without an interpreter's start", against="wall"),
                Aim("rss", name="memory of the largest process"),
            ),
        )
        environment = {"HOME": str(home)}
        glance = python("benchmarks.ours", "glance_at_space", home, environment=environment)
        yield Case(
            f"a glance at {files:,} files",
            Side("ours", lambda: glance),
            None,
            (
                Aim("glance", 0.05, absolute=True, name="CPU", unit="s"),
                Aim("missed", 0, absolute=True, name="missed of the five largest folders"),
            ),
        )


def build(home: Path, files: int) -> None:
    subprocess.run([sys.executable, "-c", BUILD, str(home), str(files)], check=True)
    subprocess.run(["sync", "-f", str(home)], check=True)


if __name__ == "__main__":
    main({"space": cases})
