"""Deleting a cache that its tool makes again: through directory descriptors, against ``rm -rf`` by
path.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

from benchmarks.harness import Aim, Case, Command, Settings, Side, ext4, main, needs, python

FILES_A_FOLDER = 100
BUILD = """
import os, sys
top, folders, files = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for folder in range(folders):
    place = f"{top}/content-v2/sha512/{folder // 256:02x}/{folder % 256:02x}"
    os.makedirs(place)
    for number in range(files):
        with open(f"{place}/{number:04}", "wb") as file:
            file.write(b"x" * 1000)
"""


def cases(settings: Settings) -> Generator[Case, None, None]:
    with ext4(settings.folder, "2G") as disk:
        yield from deleting(disk / "home", settings.scaled(100_000))


def deleting(home: Path, files: int) -> Generator[Case, None, None]:
    cache = home / ".cache" / "thumbnails"

    def built() -> Path:
        subprocess.run(["rm", "-rf", str(home)], check=True)
        folders = str(max(1, files // FILES_A_FOLDER))
        subprocess.run(
            [sys.executable, "-c", BUILD, str(cache), folders, str(FILES_A_FOLDER)], check=True
        )
        subprocess.run(["sync", "-f", str(home)], check=True)
        return cache

    yield Case(
        f"deleting a cache of {files:,} files",
        Side("ours", lambda: python("benchmarks.ours", "delete_cache", home, built())),
        Side("rm -rf", lambda: Command((needs("rm"), "-rf", str(built())))),
        (
            Aim(name="all of it, with weighing it and the looks before each step"),
            Aim("gate", name="the looks before each step, and deleting", against="wall"),
            Aim("core", 0.7, name="deleting", against="wall"),
        ),
        rounds=5,
    )


if __name__ == "__main__":
    main({"deletion": cases})
