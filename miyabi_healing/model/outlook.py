"""What a look ahead found: values as they are now, and the limits that are crossed or will be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from miyabi_healing.model.foreseen import Foreseen

HEALTHY, WARNING, CRITICAL, IMMINENT = LEVELS = (
    "healthy",
    "warning",
    "critical",
    "failure_imminent",
)
_IMMINENT, _CRITICAL = 30 * 60, 2 * 3600  # seconds to go, at most
SERIES = "series"  # the component and the metric of a series that is no reading of this host


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A limit that will be crossed, or is (`crossed`): of a `component` of the host, measured as
    `metric`. `seconds` is how long from now. `commands` show or mend it.
    """

    component: str
    metric: str
    foreseen: Foreseen
    seconds: float = 0.0
    crossed: bool = False
    commands: tuple[str, ...] = ()

    @property
    def level(self) -> str:
        """By the time that is left. What has happened already is critical, and imminent no more."""
        if self.crossed:
            return CRITICAL
        if self.seconds <= _IMMINENT:
            return IMMINENT
        return CRITICAL if self.seconds <= _CRITICAL else WARNING


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """All that a look ahead at `now` (seconds since the epoch) found within `horizon` seconds, None
    where it looks as far as it can.

    `metrics` are today's values; of `series` values there were `samples` past measurements in the
    last `span` seconds. `told` says whether anything that is to come could have been told from
    them, and `why_not` why not, if it is no want of them. `unknown` is what could not be read,
    `notes` what people should know besides; `commands` are what would let it tell more.
    """

    now: float
    horizon: float | None
    predictions: tuple[Prediction, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    series: int = 0
    samples: int = 0
    span: float = 0.0
    told: bool = False
    why_not: str = ""
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()

    @property
    def health(self) -> str:
        """The worst level of a prediction."""
        return max((each.level for each in self.predictions), key=LEVELS.index, default=HEALTHY)

    @property
    def could_not_tell(self) -> bool:
        """Whether nothing is known: neither that a limit is crossed, nor anything of what comes."""
        return not self.predictions and not self.told
