"""Swap: how full it is, and whether that hurts. Looks only.

A full swap is no harm by itself: what nobody uses may lie there for weeks. It hurts where memory is
short as well, or where what lies there is wanted back all the time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from miyabi_healing.host import memory
from miyabi_healing.support.formatting import size_text

_PLENTY = 20  # percent of the memory that is available
_BUSY = 1.0  # percent of the time in which something waited for memory
_LOOK = 0.2  # seconds


@dataclass(frozen=True)
class Swap:
    """A reading in bytes (proc_meminfo(5)); `available` is how much of the memory is, in percent.
    `total` is 0 where there is no swap.
    """

    total: int
    free: int
    available: float

    @property
    def percent(self) -> float:
        return 100 * (self.total - self.free) / self.total if self.total else 0.0

    @property
    def words(self) -> str:
        if not self.total:
            return "There is no swap"
        taken = size_text(self.total - self.free)
        return (
            f"{self.percent:.1f} % of the swap is taken ({taken} of {size_text(self.total)}), "
            f"{self.available:.0f} % of the memory is available"
        )

    def harmless(self, above: float) -> str:
        """Why it is none of an issue that it is fuller than `above` percent; empty where it is one,
        or is not that full.
        """
        if self.percent <= above or self.available < _PLENTY or is_read_back():
            return ""
        return f"{self.words} and nothing is read back from swap: that is harmless"

    def users(self) -> list[dict[str, object]]:
        """Who has most in it, at most five rows, the largest first."""
        from miyabi_healing.host import memory_rows

        return memory_rows.swap_users()


def read_swap() -> Swap:
    """Raises OSError."""
    reading = memory.of_host()
    total, free = memory.swap_sizes()
    return Swap(total, free, 100 - reading.percent)


def is_read_back() -> bool:
    """Whether programs wait for memory, by the kernel's own account; where it keeps none, whether
    pages come back from swap (``pswpin`` in proc_vmstat(5)) while we look.
    """
    from miyabi_healing.host import memory_pressure

    pressure = memory_pressure.read_pressure(None, memory.PROCFS)
    if pressure is not None:
        return max(pressure.short, pressure.long) >= _BUSY
    before = _pages_read_back()
    time.sleep(_LOOK)
    return _pages_read_back() != before


def _pages_read_back() -> int:
    try:
        return memory.read_keyed(memory.PROCFS / "vmstat").get("pswpin", 0)
    except OSError:
        return 0
