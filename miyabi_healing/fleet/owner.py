"""Who has a slice."""

from __future__ import annotations

import os
import time
from pathlib import Path


def new_owner() -> str:
    """A name that no other coordinator has, had, or will have: its host, the boot, the process with
    its start, and something random. It begins with the host's name and the process's number.
    """
    return "/".join((os.uname().nodename, str(os.getpid()), _boot(), _start(), os.urandom(6).hex()))


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "-"


def _start() -> str:
    """The process's start in clock ticks since the boot (proc(5)), or now."""
    try:
        return Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return f"{time.time():.6f}"
