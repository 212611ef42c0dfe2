"""What became of things: of a step, of an action, of a check, of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypedDict

from miyabi_healing.model.issue import Issue, Limit

if TYPE_CHECKING:
    from miyabi_healing.model.plan import Plan
    from miyabi_healing.model.steps import Step


@dataclass(frozen=True)
class Outcome:
    """What became of one step.

    `status` is one of ``applied``, ``planned`` (dry run), ``not needed`` (the goal was met before),
    ``skipped`` (it changed since it was measured), ``vetoed`` (a brake), ``failed``, ``undone``
    (applied, and taken back because a later step failed). `undo` names what it has in quarantine;
    `details` are measurements; `number` is the step's in the journal, 0 without one. `later` are
    the bytes that the gate measured of what it set aside, None where it measured nothing.
    """

    step: Step
    status: str
    message: str = ""
    freed: int = 0
    duration: float = 0
    undo: dict[str, object] = field(default_factory=dict)
    details: dict[str, object] = field(default_factory=dict)
    number: int = 0
    later: int | None = None

    @property
    def freed_later(self) -> int:
        """What emptying the quarantine frees: as measured, or else as planned."""
        return self.step.later if self.later is None else self.later


class ActionStatus(StrEnum):
    """What an action came to, in the words of the documented report."""

    SUCCESS = "success"
    PARTIAL = "partial"
    FAILED = "failed"
    SKIPPED = "skipped"


class Measurement(TypedDict):
    """What `measure` records; pytest keeps it among a test's properties, so it is a plain dict."""

    value: float
    description: str


@dataclass
class ActionResult:
    """One run of a healer for one issue. `verdict` is set by the check that ran again: the new
    value, and whether it passed.
    """

    healer: str
    issue: Issue
    plan: Plan | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    problem: str = ""
    brake: str = ""
    duration: float = 0
    passed: bool | None = None
    value_after: float | None = None

    @property
    def counts(self) -> Counter[str]:
        """How often what was done, by the names that the steps count under."""
        counted = Counter(
            each.step.counts
            for each in self.outcomes
            if each.status == "applied" and each.step.counts
        )
        counted["bytes_freed"] = sum(each.freed for each in self.outcomes)
        return counted

    @property
    def gain(self) -> float:
        return 0 if self.value_after is None else self.issue.metric_value - self.value_after

    @property
    def status(self) -> ActionStatus:
        """As the documented report has it."""
        applied = any(each.status == "applied" for each in self.outcomes)
        if self.passed and not self.problem:
            return ActionStatus.SUCCESS
        if applied and self.plan and self.gain > 0 and self.gain >= self.plan.min_gain:
            return ActionStatus.PARTIAL
        if self.problem or applied or any(each.status == "failed" for each in self.outcomes):
            return ActionStatus.FAILED
        return ActionStatus.SKIPPED


@dataclass
class CheckResult:
    """What happened to one check: the issue it found, what was done, and the numbers."""

    name: str
    target: str
    limit: Limit
    issue: Issue | None = None
    actions: list[ActionResult] = field(default_factory=list)
    error: str = ""
    measured: Measurement | None = None
    waived: str = ""

    @property
    def healed(self) -> bool:
        return any(action.passed for action in self.actions)


@dataclass(frozen=True)
class Recovered:
    """A step that an earlier run was ended in, by the journal, and what became of it.

    `intended` is when it was written down, in seconds since the epoch.
    """

    step: int
    run_id: str
    kind: str
    target: str
    intended: float
    result: str


@dataclass(frozen=True)
class QuarantineSummary:
    """What is in quarantine at the end of a run.

    `next_expiry` is when the first thing leaves it, in seconds since the epoch, None where nothing
    is in it; `by_runs` is whether what runs have seen pass decides that, not the wall clock.
    """

    things: int
    bytes: int
    limit_bytes: int
    next_expiry: float | None = None
    by_runs: bool = False


@dataclass(frozen=True)
class RunResult:
    """What a run came to: all that its report is made of, besides what pytest reports.

    `blocked` is why nothing might be changed, empty where something might. `checks` are by pytest's
    node id; `unknown` are folders of checks that could not be looked into, each with why. `notes`
    are lines for people. `purged` is what left the quarantine because its time had come.
    """

    run_id: str
    dry_run: bool
    blocked: str
    checks: Mapping[str, CheckResult]
    unknown: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    recovered: tuple[Recovered, ...]
    purged: tuple[Outcome, ...]
    quarantine: QuarantineSummary
