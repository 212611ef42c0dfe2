"""One thing to tell somebody, and what is remembered of what was told."""

from __future__ import annotations

from dataclasses import dataclass

from miyabi_healing.support.formatting import figure, plain_number

Key = tuple[str, str]
FORESEEN = "foreseen "  # before the names of what has not occurred
WORDS = {
    "unhealed": "not healed",
    "healed": "healed",
    "recovered": "recovered",
    "reminder": "still not healed",
    "brake": "blocked",
    "flapping": "comes and goes",
    "unknown": "could not be checked",
    "foreseen": "foreseen",
    "sooner": "foreseen sooner than before",
    "early": "acted before it occurs",
    "passed": "no longer foreseen",
    "stopped": "stopped by a rule",  # a rollout
    "test": "a test",
}


FORECASTS = ("foreseen", "sooner", "early")  # kinds of alerts to what has not occurred


@dataclass(frozen=True)
class KnownIssue:
    """What was told last about one check of one target; what has not occurred is remembered so by
    `alerts.foreseen`, in its own words.

    Times are seconds since the epoch; `course` is how the last runs went, ``01101``: wrong or
    not.
    """

    state: str = ""
    severity: str = ""
    brake: str = ""
    since: float = 0
    told: float = 0
    course: str = ""


@dataclass(frozen=True)
class Alert:
    """One thing to tell. `kind` is a key of `WORDS`; `since` is when it began."""

    kind: str
    name: str
    target: str
    severity: str
    description: str
    value: float | None
    threshold: float | None
    unit: str
    done: tuple[str, ...]
    brake: str
    advice: str
    since: float

    @property
    def subject(self) -> str:
        where = f" on {self.target}" if self.target else ""
        return f"{self.name or 'the checks'}{where}"

    @property
    def measured(self) -> str:
        """``97.2 % of 90 %``, ``3 h of 10 min``; empty where nothing was measured."""
        if self.value is None or self.threshold is None:
            return ""
        if self.unit == "s":
            return f"{figure(self.value, 's', self.threshold)} of {figure(self.threshold, 's')}"
        unit = f" {self.unit}" if self.unit else ""
        return f"{plain_number(self.value)}{unit} of {plain_number(self.threshold)}{unit}"

    @property
    def line(self) -> str:
        """All of it in a line."""
        facts = "; ".join(part for part in (self.measured, self.description, *self.done) if part)
        return f"{WORDS[self.kind]}: {self.subject}" + (f" ({facts})" if facts else "")
