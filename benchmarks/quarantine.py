"""Setting things aside: one renaming, whatever their size; and what it costs to have it on
record.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

from benchmarks.harness import Aim, Case, Command, Settings, Side, ext4, main, python

NOTHING = Command((sys.executable, "-I", "-c", "pass"))
MANY = (
    "import os, sys; [open(os.path.join(sys.argv[1], str(number)), 'w').close() for number in "
    "range(int(sys.argv[2]))]"
)


def cases(settings: Settings) -> Generator[Case, None, None]:
    with ext4(settings.folder, "1G") as disk:
        yield from setting_aside(disk / "home", settings)


def setting_aside(top: Path, settings: Settings) -> Generator[Case, None, None]:
    state = top.with_name("state")
    for files in (1, settings.scaled(20_000)):

        def fresh(name: str, files: int = files) -> Command:
            filled(top, files)
            return python("benchmarks.ours", name, top, state)

        yield Case(
            f"quarantining a folder of {files:,} file(s)",
            Side("ours", lambda fresh=fresh: fresh("quarantine_tree")),  # type: ignore[misc]
            Side("python -c pass", lambda: NOTHING),
            (
                Aim("gate", 3, name="through the gate, on record", against="wall"),
                Aim(name="all of it, with what it imports"),
            ),
        )

    items = settings.scaled(1000)

    def heal(journal: str) -> Command:
        filled(top, 0)
        subprocess.run([sys.executable, "-c", MANY, str(top), str(items)], check=True)
        return python("benchmarks.ours", "quarantine_many", top, state, journal)

    yield Case(
        f"healing {items:,} items", Side("with the journal", lambda: heal("journal")),
        Side("without the journal", lambda: heal("none")), (Aim(reach=1.5),), rounds=3,
    )  # fmt: skip


def filled(top: Path, files: int) -> None:
    subprocess.run(["rm", "-rf", str(top), str(top.with_name("state"))], check=True)
    (top / "thing").mkdir(parents=True)
    subprocess.run([sys.executable, "-c", MANY, str(top / "thing"), str(files)], check=True)
    if not files:
        (top / "thing").rmdir()
    subprocess.run(["sync", "-f", str(top)], check=True)


if __name__ == "__main__":
    main({"quarantine": cases})
