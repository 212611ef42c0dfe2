"""Real processes that write in known ways, and the looks that are to find them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from conftest import wait_for
from miyabi_healing.host.look import mount_look
from miyabi_healing.host.look.bound import Bound
from miyabi_healing.model.config import CacheSettings, Config, LogSettings
from miyabi_healing.model.look import MountLook
from miyabi_healing.report.shares import Growth, mount_growth

# what is written, where, and how much of it, once a line comes; then it says so, and stays or ends
WRITER = """
import os, sys
kind, where, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
if kind == "log":
    file = open(where, "ab", buffering=0)
if kind == "deleted":
    file = open(where, "wb", buffering=0)
    os.unlink(where)
print("ready", flush=True)
sys.stdin.readline()
for number in range(20):
    if kind == "cache":
        folder = f"{where}/model{number % 4}/blobs"
        os.makedirs(folder, exist_ok=True)
        with open(f"{folder}/{number}", "wb") as blob:
            blob.write(os.urandom(size // 20))
    elif kind == "lines":
        with open(where, "ab") as log:
            log.write(b"a line of text\\n" * (size // 20 // 15))
    elif kind == "log":
        file.write(b"a line of text\\n" * (size // 20 // 15))
    else:
        file.write(os.urandom(size // 20))
print("done", flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def writer(kind: str, where: Path, size: int) -> Iterator[subprocess.Popen[str]]:
    """A process that is ready to write: ``cache`` (new files in folders), ``deleted`` (a file that
    has lost its name), ``log`` (one that is open) or ``lines`` (one that is opened each time).
    """
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, kind, str(where), str(size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    try:
        process.stdout.readline()
        yield process
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.wait()
        process.stdout.close()


def write(process: subprocess.Popen[str]) -> None:
    """Have it write all; it lives on."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"


def world(disk: Path) -> Config:
    """A filesystem with a home, a cache that is known, logs, and another folder."""
    for name in ("home/.cache/huggingface/hub", "logs", "tmp", "src/a/b"):
        (disk / name).mkdir(parents=True)
    (disk / "logs" / "app.log").write_bytes(os.urandom(2_000_000))
    (disk / "src" / "a" / "b" / "old").write_bytes(os.urandom(1_000_000))
    return Config(
        caches=CacheSettings(homes=(str(disk / "home"),)),
        logs=LogSettings(patterns=(f"{disk}/logs/*.log",)),
    )


def look(disk: Path, config: Config, before: MountLook | None = None) -> MountLook:
    """One look, bounded by entries alone: the processor is shared with other tests."""
    bound = Bound(cpu=10)
    return mount_look.look_at_mount(str(disk), config, before, bound)


def first(disk: Path, config: Config) -> MountLook:
    """The look before. What was made within a step of the clock before it counts as new, so that
    has to be over.
    """
    made = time.time()
    wait_for(lambda: time.time() > made + mount_look._CLOCK_STEP)
    return mount_look.for_the_record(look(disk, config), None)


def growth(disk: Path, config: Config, before: MountLook) -> Growth:
    return mount_growth(before, look(disk, config, before))
