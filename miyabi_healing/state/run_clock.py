"""The run clock: how many seconds runs have seen pass. A wall clock can be wrong by years; this one
can only be too slow.

Each run adds the time since the last one, by the kernel's clock that also counts while the host
sleeps (clock_gettime(2), CLOCK_BOOTTIME). After a reboot only the time since then is known. No run
adds more than a day.
"""

from __future__ import annotations

import os
import sqlite3
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from miyabi_healing.support.formatting import DAY

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # random(4): another one after each boot
COLUMNS = "name, seen, boot, boot_id, wall, believed, doubted"


# a fifth of what a dataclass takes to be made, and every healthy run makes them
class Reading(NamedTuple):
    """What the host's clocks say: seconds since the epoch, seconds since the boot, and which boot
    that was (empty: unknown).
    """

    wall: float
    boot: float
    boot_id: str


class State(NamedTuple):
    """The run clock as the journal has it. `name` tells it from the clock of a journal that was
    begun anew.

    `wall`, `boot` and `boot_id` are the last run's readings. `believed` is the wall clock as far as
    it is believed: a jump of more than a day is believed once it has lasted for a day of the run
    clock. `doubted` is the run clock's value when the doubt began, None without one.
    """

    name: str
    seen: float
    boot: float
    boot_id: str
    wall: float
    believed: float
    doubted: float | None = None


@dataclass(frozen=True, repr=False)
class Moment:
    """One moment by all clocks, in seconds. `clock` is the name of the run clock that `seen` is of;
    empty without one.
    """

    wall: float
    believed: float
    seen: float = 0
    clock: str = ""

    @property
    def doubt(self) -> float:
        """By how many seconds the wall clock is ahead of what is believed; negative where it is
        behind; 0 without a doubt.
        """
        off = self.wall - self.believed
        return off if abs(off) > DAY else 0

    def has_passed(self, seconds: float, wall: float, seen: float | None) -> bool:
        """Whether so much time has passed since `wall` and `seen`: both clocks must say so.

        Where `wall` is in the future it was wrong then or is wrong now, and says nothing. None:
        only the wall clock is known.
        """
        if seen is None:
            return self.wall - wall >= seconds
        return self.seen - seen >= seconds and (wall > self.wall or self.wall - wall >= seconds)

    def since(self, wall: float, seen: float | None) -> float:
        """How many seconds have passed by the clock that says less; negative only where the wall
        clock alone is known.
        """
        if seen is None:
            return self.wall - wall
        ago = max(self.seen - seen, 0)
        return ago if wall > self.wall else min(ago, self.wall - wall)

    def end_of(self, seconds: float, wall: float, seen: float | None) -> tuple[float, bool]:
        """When at the earliest so much time will have passed, by the wall clock, and whether the
        run clock decides that.
        """
        if seen is None:
            return wall + seconds, False
        by_runs = self.wall + seconds - (self.seen - seen)
        if wall > self.wall or by_runs > wall + seconds + 1:
            return by_runs, True
        return wall + seconds, False


def read_clocks() -> Reading:
    """Ask the host's clocks."""
    return Reading(time.time(), since_boot(), boot_id())


def since_boot() -> float:
    """Seconds by the clock that nobody sets, and that goes on while the host sleeps."""
    # macOS has no CLOCK_BOOTTIME; there CLOCK_MONOTONIC counts while the host sleeps (its
    # clock_gettime(3))
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@cache
def boot_id() -> str:
    """Which boot this is; empty where it cannot be told. No process outlives one."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def decided_by(runs: bool) -> str:
    """Which clock a time rests on, for reports. By the run clock it comes later when no runs are
    made.
    """
    return "run clock" if runs else "wall clock"


def unknown_moment() -> Moment:
    """Now, where nothing is on record: nobody knows better than the wall clock, and no run has seen
    any time pass.
    """
    now = time.time()
    return Moment(now, now)


def begin_clock(now: Reading) -> State:
    return State(os.urandom(6).hex(), 0, now.boot, now.boot_id, now.wall, now.wall)


def advance(state: State, now: Reading) -> State:
    """The run clock as it is now, by what it was at the last run."""
    passed = _time_between(state, now)
    seen = state.seen + min(passed, DAY)
    expected = state.believed + passed
    if abs(now.wall - expected) <= DAY:
        return State(state.name, seen, now.boot, now.boot_id, now.wall, now.wall)
    jumped = abs(now.wall - (state.wall + passed)) > DAY
    doubted = seen if state.doubted is None or jumped else state.doubted
    if seen - doubted >= DAY:
        return State(state.name, seen, now.boot, now.boot_id, now.wall, now.wall)
    return State(state.name, seen, now.boot, now.boot_id, now.wall, expected, doubted)


def _time_between(state: State, now: Reading) -> float:
    """The least time that can have passed since the last run, in seconds."""
    since = now.boot - state.boot
    if state.boot_id and state.boot_id == now.boot_id:
        return max(since, 0)
    if state.boot_id and now.boot_id:
        return max(now.boot, 0)
    # which boot it was is not known: both are less than what passed
    return since if since >= 0 else max(now.boot, 0)


def moment_of(state: State) -> Moment:
    return Moment(state.wall, state.believed, state.seen, state.name)


def load_clock(database: sqlite3.Connection) -> State | None:
    """The run clock of a journal; None in one that is new. Raises sqlite3.Error."""
    found = database.execute(f"select {COLUMNS} from run_clock").fetchone()
    return State(*found) if found else None
