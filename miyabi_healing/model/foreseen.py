"""An issue that has not occurred, and when it will if nothing is done."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Foreseen:
    """A limit that will be crossed.

    `measured` is when the value was, in seconds since the epoch; `eta_seconds` how long after that
    the threshold is reached, between `earliest` and `latest` in eight of ten cases, both None where
    too few forecasts have come true to say. `seen` is in how many of the last three runs it was
    foreseen. `came_true` is how many did, of the `alarms` of this value whose time has come.
    `causes` are sentences, the largest share first, after the path alone that has most of it.
    `early` is the healer that is allowed to act before it occurs, empty where none is.
    """

    issue: str
    target: str
    value: float
    threshold: float
    unit: str
    measured: float
    eta_seconds: float
    earliest: float | None = None
    latest: float | None = None
    basis: str
    seen: int = 1
    alarms: int = 0
    came_true: int = 0
    causes: tuple[str, ...] = ()
    early: str = ""

    @property
    def confidence(self) -> float | None:
        """The share of past alarms of this value that came true; None before there was one."""
        return self.came_true / self.alarms if self.alarms else None
