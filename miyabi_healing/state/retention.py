"""What leaves the quarantine: what has been there for long enough, by the wall clock and by what
runs have seen pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

from miyabi_healing.model import config
from miyabi_healing.model.steps import Purge
from miyabi_healing.state.quarantine import QuarantineEntry
from miyabi_healing.state.run_clock import Moment
from miyabi_healing.support.files import identity_at
from miyabi_healing.support.formatting import DAY, display, size_text
from miyabi_healing.support.invocation import own_command


def due(
    held: Sequence[QuarantineEntry], rules: config.QuarantineSettings, now: Moment, run: str
) -> list[list[Purge]]:
    """Steps that purge what is over its time, the oldest first; nothing that was set aside in this
    `run`.

    What one step took goes together: half of a worktree is of no use to anybody.
    """
    steps: dict[tuple[str, int], list[QuarantineEntry]] = {}
    for each in oldest_first(held, now):
        if each.manifest and each.run != run:  # without a manifest nobody can say what it is
            steps.setdefault((each.run, each.step), []).append(each)
    groups = []
    for things in steps.values():
        if all(each.is_older(rules.days, now) for each in things):
            with contextlib.suppress(FileNotFoundError):  # somebody else took it away
                groups.append(
                    [
                        purge(each, f"{kept(each, now)}; its time is {rules.days:g}")
                        for each in things
                    ]
                )
    return groups


def early(held: Iterable[QuarantineEntry], days: float, now: Moment) -> list[QuarantineEntry]:
    """What may go before its time, the oldest first, where so many `days` are enough."""
    return [each for each in oldest_first(held, now) if each.manifest and each.is_older(days, now)]


def oldest_first(held: Iterable[QuarantineEntry], now: Moment) -> list[QuarantineEntry]:
    """By both clocks: what was set aside while the wall clock was wrong is not older for that."""
    return sorted(held, key=lambda each: (-each.age(now), each.time, each.folder))


def kept(held: QuarantineEntry, now: Moment) -> str:
    return f"kept for {held.age(now) / DAY:.0f} days"


def purge(held: QuarantineEntry, reason: str) -> Purge:
    """The step that deletes one thing for good. Raises OSError where it is gone."""
    return Purge(
        target=held.name,
        reason=f"{reason}; it was {display(held.original)}",
        bytes=held.bytes,
        folder=held.folder,
        identity=identity_at(held.folder),
        optional=True,
    )


def full(
    held: Iterable[QuarantineEntry], rules: config.QuarantineSettings, refused: bool
) -> list[str]:
    """What people should know where the quarantine is over its limit, or something was `refused`
    because it would be.
    """
    size, limit = sum(each.bytes for each in held), rules.gigabytes * 1e9
    if size <= limit and not refused:
        return []
    state = (
        "is full: nothing more is set aside"
        if size > limit
        else "is nearly full: what does not fit is not set aside"
    )
    ways = f"{own_command()} quarantine purge makes room, or raise [quarantine] gigabytes"
    return [
        (
            f"the quarantine {state}; it holds {size_text(size)}, its limit is "
            f"{size_text(limit)}; {ways}"
        )
    ]


def next_one(
    held: Iterable[QuarantineEntry], days: float, now: Moment
) -> tuple[float, bool] | None:
    """When at the earliest the first thing goes, and whether the run clock decides that; None where
    nothing is there.
    """
    return min((each.end_of(days, now) for each in held), default=None)
