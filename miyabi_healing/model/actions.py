"""What became of a step and of an action, and of a step that an earlier run was ended in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from miyabi_healing.model.issue import Issue
    from miyabi_healing.model.plan import Plan
    from miyabi_healing.model.steps import Step


class StepStatus(StrEnum):
    """What became of a step. The values stand in reports and in journals, so they stay."""

    APPLIED = "applied"
    PLANNED = "planned"  # in a dry run
    NOT_NEEDED = "not needed"  # the goal was met before
    SKIPPED = "skipped"  # something spoke against it just before: it changed, or is in use
    BLOCKED = "vetoed"  # by the policy
    FAILED = "failed"
    UNDONE = "undone"  # applied, and taken back because a later step failed


@dataclass(frozen=True)
class Outcome:
    """What became of one step.

    `undo` names what it has in quarantine; `details` are measurements; `number` is the step's in
    the journal, 0 without one. `later` are the bytes that the gate measured of what it set aside,
    None where it measured nothing. `measured` are numbers that count in the action's details.
    `in_vain` is whether it was to free something and freed nothing, `stop` why nothing after it was
    carried out.
    """

    step: Step
    status: StepStatus
    message: str = ""
    freed: int = 0
    duration: float = 0
    undo: dict[str, object] = field(default_factory=dict)
    details: dict[str, object] = field(default_factory=dict)
    number: int = 0
    later: int | None = None
    measured: Mapping[str, int] = field(default_factory=dict)
    in_vain: bool = False
    stop: str = ""

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


INTERRUPTED = "interrupted"


@dataclass
class ActionResult:
    """One run of a healer for one issue. `passed` and `value_after` are set by the
    check that ran again. `problem` is why it failed, `INTERRUPTED` where it was asked to stop.
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
    def stopped(self) -> bool:
        """Whether somebody asked the run to stop meanwhile: that is no failure."""
        return self.problem == INTERRUPTED

    @property
    def early(self) -> bool:
        """Whether this is for an issue that was only foreseen."""
        return self.issue.foreseen

    @property
    def counts(self) -> Counter[str]:
        """How often what was done, by the names that the steps count under."""
        counted = Counter[str]()
        for each in self.outcomes:
            if each.status == StepStatus.APPLIED and each.step.counts and not each.in_vain:
                counted[each.step.counts] += 1
            counted.update(each.measured)
        counted["bytes_freed"] = sum(each.freed for each in self.outcomes)
        return counted

    @property
    def freed_later(self) -> int:
        """What emptying the quarantine of its steps frees, or would free."""
        taken = (StepStatus.APPLIED, StepStatus.PLANNED)
        return sum(each.freed_later for each in self.outcomes if each.status in taken)

    @property
    def gain(self) -> float:
        return 0 if self.value_after is None else self.issue.metric_value - self.value_after

    @property
    def status(self) -> ActionStatus:
        """As the documented report has it. What went away by itself is nobody's success, and that
        the check passes is none of a repair before the issue: there it is to be at the clear level.
        """
        applied = any(each.status == StepStatus.APPLIED for each in self.outcomes)
        clear = not self.early or (
            self.value_after is not None and self.value_after <= self.issue.limit.clear
        )
        if self.passed and clear and not self.problem:
            return ActionStatus.SUCCESS if applied else ActionStatus.SKIPPED
        if applied and self.plan and self.gain > 0 and self.gain >= self.plan.min_gain:
            return ActionStatus.PARTIAL
        if (
            self.problem
            or applied
            or any(each.status == StepStatus.FAILED for each in self.outcomes)
        ):
            return ActionStatus.FAILED
        return ActionStatus.SKIPPED


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
