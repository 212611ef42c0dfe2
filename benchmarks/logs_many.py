"""Very many small closed logs in one folder: finding, planning and archiving them, against packing
them with the usual tools.

Those put nothing on disk (fsync(2)), look for no writer, and keep no record; ours does.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path

from benchmarks.harness import Aim, Case, Command, Settings, Side, main, needs, python
from benchmarks.logs import HEAP

SIZE = 10_000  # bytes of each
FILES = 20_000


def cases(settings: Settings) -> Generator[Case, None, None]:
    folder, files = settings.folder / "logs", settings.scaled(FILES)
    packed, state = settings.folder / "packed.tar.zst", settings.folder / "state"
    ours = python("benchmarks.ours", "archive_many", folder, state, files)
    tar = (needs("tar"), "--zstd", "--remove-files", "-cf", str(packed), "-C", str(folder), ".")
    each = f"{needs('find')} {folder} -type f -exec {needs('zstd')} -3 -q --rm {{}} +"
    peers = (
        ("tar --zstd --remove-files", Command(tar, codes=(0, 1, 2))),
        ("find -exec zstd --rm", Command((needs("sh"), "-c", each))),
    )
    within: tuple[Aim, ...] = (Aim("wall", 60, absolute=True, name="all of it", unit="s"),)
    for name, peer in peers:
        yield Case(
            f"archiving {files:,} logs of {SIZE // 1000} kB",
            Side("ours", on(folder, files, state, packed, ours)),
            Side(name, on(folder, files, state, packed, peer)),
            (
                *within,
                Aim(name="all of it"),
                Aim("cpu", name="CPU"),
                Aim("gate", name="the looks before, archiving, and deleting", against="wall"),
                Aim("rss", name="memory"),
            ),
            rounds=3,
        )
        within = ()


def on(
    folder: Path, files: int, state: Path, packed: Path, command: Command
) -> Callable[[], Command]:
    """The same command, each time on fresh logs that are on disk."""

    def prepared() -> Command:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(state, ignore_errors=True)
        packed.unlink(missing_ok=True)
        folder.mkdir()
        for number in range(files):
            begin = HEAP.index(b"\n", number * 331 % (len(HEAP) - 2 * SIZE)) + 1
            end = HEAP.rindex(b"\n", begin, begin + SIZE) + 1
            (folder / f"{number:08x}.txt").write_bytes(HEAP[begin:end])
        subprocess.run(["sync", "-f", str(folder)], check=True)
        return command

    return prepared


if __name__ == "__main__":
    main({"logs_many": cases})
