"""Whether a value that is within its limit will cross it soon, from its history and what was just
measured.

A healthy run loads this, so it asks the history for a few rows, and loads the forecast only where
something grows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from miyabi_healing.model.issue import Limit

if TYPE_CHECKING:
    from miyabi_healing.model.foreseen import Foreseen
    from miyabi_healing.state.journal import Journal
    from miyabi_healing.state.run_clock import Moment


def foresee(
    journal: Journal,
    name: str,
    target: str,
    limit: Limit,
    value: float,
    now: Moment,
    horizon: float,
) -> Foreseen | None:
    """The issue that a check will find within `horizon` seconds, as its value was measured `now`
    (`Journal.now`); None where none is foreseen, and where it has occurred. Raises sqlite3.Error.
    """
    from miyabi_healing.foresight import forecast
    from miyabi_healing.model.foreseen import Foreseen
    from miyabi_healing.state import alarms, series

    if value >= limit.threshold or now.doubt:
        return None  # where the clock is not believed, rates mean nothing
    times, values = series.read_series(journal, name, target)
    # times of a clock that was ahead once
    past = [each for each in zip(times, values, strict=True) if each[0] < now.wall]
    found = forecast(
        [*(at for at, _ in past), now.wall], [*(each for _, each in past), value], limit.threshold
    )
    if found is None or found.eta_seconds > horizon:
        return None
    record = alarms.record_of(journal, name, target)
    alarm = alarms.open_alarms(journal).get((name, target))
    return Foreseen(
        issue=name,
        target=target,
        value=value,
        threshold=limit.threshold,
        unit=limit.unit,
        measured=now.wall,
        eta_seconds=found.eta_seconds,
        earliest=found.earliest,
        latest=found.latest,
        basis=found.basis,
        seen=alarm.looked(True).seen if alarm else 1,
        alarms=record.alarms,
        came_true=record.came_true,
    )
