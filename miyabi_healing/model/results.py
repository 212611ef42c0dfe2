"""What became of a check, and of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NotRequired, TypedDict

from miyabi_healing.model.issue import Issue, Limit

if TYPE_CHECKING:  # a run in which nothing was done needs none of these
    from miyabi_healing.model.actions import ActionResult, Outcome, Recovered
    from miyabi_healing.model.fleet import FleetOrder
    from miyabi_healing.model.foreseen import Foreseen
    from miyabi_healing.model.learned import Order


class NotMeasured(Exception):
    """What a check could measure is within its limit, and not all of it could be; the message names
    the rest.
    """


class Measurement(TypedDict):
    """What `measure` records; pytest keeps it among a test's properties, so it is a plain dict.

    `used_by` is who takes what was measured, for an issue: rows with ``name``, ``bytes``, ``text``.
    """

    value: float
    description: str
    used_by: NotRequired[list[dict[str, object]]]


@dataclass
class CheckResult:
    """What happened to one check: the issue it found, what was done, and the numbers. One that was
    `skipped`, as the configuration has it off, looked at nothing. `order` is the one that its
    healers are tried in, None where it has not been asked for. `early` is what was done before an
    issue that was foreseen, which is none of `actions`.
    """

    name: str
    target: str
    limit: Limit
    issue: Issue | None = None
    actions: list[ActionResult] = field(default_factory=list)
    error: str = ""
    measured: Measurement | None = None
    waived: str = ""
    skipped: bool = False
    order: Order | None = None
    early: ActionResult | None = None

    @property
    def deeds(self) -> list[ActionResult]:
        """Everything that healers did or tried, the early one first; that only where it had a step
        that nothing blocked.
        """
        early = self.early
        if early and (early.problem or any(each.status != "vetoed" for each in early.outcomes)):
            return [early, *self.actions]
        return self.actions

    @property
    def healed(self) -> bool:
        return any(action.passed for action in self.actions)

    @property
    def unproven(self) -> bool:
        """Whether only a later run can say that it is healed."""
        return any(each.passed and each.plan and each.plan.unproven for each in self.actions)


@dataclass(frozen=True)
class QuarantineSummary:
    """What is in quarantine at the end of a run.

    `next_expiry` is when the first thing leaves it, in seconds since the epoch, None where nothing
    is in it; `by_runs` is whether what runs have seen pass decides that, not the wall clock. `days`
    is how long what is set aside stays.
    """

    things: int
    bytes: int
    limit_bytes: int
    next_expiry: float | None = None
    by_runs: bool = False
    days: float = 0


@dataclass(frozen=True)
class RunResult:
    """What a run came to: all that its report is made of, besides what pytest reports.

    `blocked` is why nothing might be changed, empty where something might. `checks` are by pytest's
    node id; `unknown` are folders of checks that could not be looked into, each with why. `notes`
    are lines for people. `purged` is what left the quarantine because its time had come.
    `out_of_memory_kills` is how many processes the kernel ended meanwhile for want of memory.
    `left_out` are the checks that are on and were not to run: of these it says nothing.
    `interrupted` is whether the run came to its end before everything was checked. `foreseen` are
    issues that have not occurred, `fleet` is who asked for the run, None where nobody did.
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
    out_of_memory_kills: int = 0
    left_out: tuple[str, ...] = ()
    interrupted: bool = False
    foreseen: tuple[Foreseen, ...] = ()
    fleet: FleetOrder | None = None
