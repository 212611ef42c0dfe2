"""What a failing check found, and the limit it found it by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # few issues have any
    from miyabi_healing.model.because import Because


class Severity(IntEnum):
    """How bad an issue is; ordered, so that severities compare."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4

    @property
    def label(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class Limit:
    """What a check allows: it trips above `threshold`, and a repair aims for `clear`.

    `bounds` raise the severity: a value at or above ``bounds[Severity.HIGH]`` is high.
    """

    threshold: float
    severity: Severity = Severity.MEDIUM
    bounds: Mapping[Severity, float] = field(default_factory=dict)
    unit: str = ""
    clear_at: float | None = None

    @property
    def clear(self) -> float:
        """The level a repair aims for: a little below the threshold, so that the issue does not
        return at once.
        """
        if self.clear_at is not None:
            return self.clear_at
        return self.threshold - 5 if self.unit == "%" else self.threshold * 0.9

    @property
    def critical_from(self) -> float | None:
        """From where on a value is critical; None where none ever is."""
        bound = (
            self.threshold
            if self.severity == Severity.CRITICAL
            else self.bounds.get(Severity.CRITICAL)
        )
        return None if bound is None else max(bound, self.threshold)

    def severity_of(self, value: float) -> Severity:
        return max(
            [
                self.severity,
                *(severity for severity, bound in self.bounds.items() if value >= bound),
            ]
        )


def limit_of_mark(
    threshold: float,
    *,
    severity: str = "medium",
    unit: str = "",
    clear: float | None = None,
    opt_in: bool = False,
    **bounds: float,
) -> Limit:
    """The arguments of ``@pytest.mark.limit``: ``limit(90, severity="high", critical=95,
    unit="%")``. With `opt_in` a check is off until the configuration has its threshold. Raises
    TypeError, KeyError, ValueError.
    """
    raised = {Severity[name.upper()]: float(bound) for name, bound in bounds.items()}
    return Limit(float(threshold), Severity[severity.upper()], raised, unit, clear)


@dataclass(frozen=True)
class Issue:
    """One thing found wrong on one target.

    `gate` is in how many of how many runs it must be found before watch mode does something about
    it. `used_by` is who takes what was measured, where the check says so: rows with ``name``,
    ``bytes`` and ``text``; `because` why it is so, where that is known. One that is `foreseen` has
    not occurred: the value is within the limit.
    """

    name: str
    target: str
    description: str
    metric_value: float
    limit: Limit
    gate: tuple[int, int] = (1, 1)
    used_by: tuple[Mapping[str, object], ...] = ()
    foreseen: bool = False
    because: tuple[Because, ...] = ()

    @property
    def severity(self) -> Severity:
        return self.limit.severity_of(self.metric_value)
