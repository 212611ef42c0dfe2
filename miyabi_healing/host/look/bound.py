"""How much one look may cost."""

from __future__ import annotations

import time

CPU_SECONDS = 0.045  # of all looks of one run together; what is around them takes the rest of 50 ms
ENTRIES = 20_000
SECONDS = 2.0  # of a disk that has to be asked
_ROUND = 16  # entries between two looks at the clock


class Bound:
    """Counts what looks take; `reached` is which bound ended them, empty where none did."""

    def __init__(self, cpu: float = CPU_SECONDS, entries: int = ENTRIES) -> None:
        self._cpu, self._end = time.thread_time() + cpu, time.monotonic() + SECONDS
        self._most, self.entries = entries, 0
        self.reached = ""

    def is_spent(self) -> bool:
        """Whether nothing more may be looked at, after one more entry."""
        self.entries += 1
        if not self.reached:
            if self.entries > self._most:
                self.reached = f"more than {self._most:,} entries"
            elif self.entries % _ROUND:
                return False
            elif time.thread_time() > self._cpu or time.monotonic() > self._end:
                self.reached = "it would have taken too long"
        return bool(self.reached)
