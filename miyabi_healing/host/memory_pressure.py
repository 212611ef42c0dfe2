"""Whether anything waits for memory: a better witness than how much of it is taken. Looks only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pressure:
    """How much of the last 10 and 60 s some task waited for memory, in percent (Documentation/
    accounting/psi.rst in the kernel).
    """

    short: float
    long: float

    @property
    def none(self) -> bool:
        return self.short == 0 == self.long

    @property
    def words(self) -> str:
        if self.none:
            return "nothing has waited for memory in the last minute"
        return (
            f"programs waited for memory {self.short:g} % of the last 10 s "
            f"and {self.long:g} % of the last minute"
        )


def read_pressure(group: Path | None, proc: Path) -> Pressure | None:
    """How long tasks of a cgroup, or of the host, waited for memory; None where that is not told:
    in cgroups v1, before Linux 4.20, or switched off (``psi=0``).
    """
    file = group / "memory.pressure" if group else proc / "pressure" / "memory"
    try:
        lines = file.read_text().splitlines()
        some = next(line.split() for line in lines if line.startswith("some "))
        values = dict(each.split("=") for each in some[1:])
        return Pressure(float(values["avg10"]), float(values["avg60"]))
    except (OSError, StopIteration, KeyError, ValueError):
        return None
