"""How busy the processors are. Looks only."""

from __future__ import annotations

import time
from pathlib import Path

from miyabi_healing.host.process_status import LINUX

_STAT = Path("/proc/stat")
_PAUSE = 0.2  # seconds between two looks


def read_cpu_percent(pause: float = _PAUSE) -> float:
    """The share of all processors' time that was worked in, over `pause` seconds, in per cent.
    Raises OSError.
    """
    if not LINUX:
        import psutil

        return float(psutil.cpu_percent(interval=pause))
    before = _STAT.read_text(encoding="ascii")
    time.sleep(pause)
    return busy_percent(before, _STAT.read_text(encoding="ascii"))


def busy_percent(before: str, after: str) -> float:
    """What two looks at /proc/stat tell: user, nice, system, idle, iowait, irq, softirq and steal
    (proc_stat(5)); guests are in user's and nice's time already, and waiting for a disk is idle.
    """
    first, second = (list(map(int, text.split(None, 9)[1:9])) for text in (before, after))
    spent = [max(0, late - early) for early, late in zip(first, second, strict=True)]
    whole = sum(spent)
    return 100 * (whole - spent[3] - spent[4]) / whole if whole else 0.0
