"""From an issue to an action: plan, policy, gate. Whether it healed is not decided here, only by
the check that runs again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from miyabi_healing.host.context import HealerContext
from miyabi_healing.model.actions import INTERRUPTED, ActionResult, Outcome, StepStatus
from miyabi_healing.model.plan import Plan, fault
from miyabi_healing.runner import registry
from miyabi_healing.runner.resources import Resources
from miyabi_healing.support import deadline

if TYPE_CHECKING:
    from miyabi_healing.model.risk import Risk

logger = logging.getLogger(__name__)


class OutOfClass(Exception):
    """A healer that is tried before its documented place has planned what is riskier than it was
    known for; nothing was done. The message says what.
    """


def heal(
    resources: Resources,
    action: ActionResult,
    fixtures: Mapping[str, object],
    within: Risk | None = None,
) -> None:
    """Plan, and carry the plan out unless this is a dry run or something objects, or a step is
    beyond the class `within`. Raises OutOfClass, and nothing a healer raises.
    """
    begun = time.monotonic()
    healer, issue = action.healer, action.issue
    if not resources.config.healer(healer).enabled:
        action.brake = f"{healer} is switched off in {resources.config.source}"
        return
    try:
        logger.debug(
            "healer %s: asked about %s (%s), to bring it to %g",
            *(healer, f"{issue.name} {issue.target}".rstrip(), issue.description),
            issue.limit.clear,
        )
        resources.progress(f"{healer}: looking for what can be done about {issue.name}")
        with deadline.time_limit(healer, resources.config.healer(healer).time_limit):
            with deadline.planning():
                function, kind = registry.load_healer(healer, resources.files[healer])
                options = registry.options(resources.config, healer, kind)
                plan = function(
                    HealerContext(
                        resources.host,
                        fixtures,
                        resources.moment,
                        partial(resources.seen_for, healer),
                    ),
                    issue,
                    options,
                )
            if wrong := fault(plan):
                raise TypeError(f"{healer} {wrong}")
            if issue.because:
                from miyabi_healing.runner import causes_first

                plan = causes_first.by_the_cause(plan, issue)
            if issue.foreseen:
                from miyabi_healing.gate import early

                plan = early.lowest(plan, resources.host)
            if within is not None:
                _refuse_riskier(plan, within)
            action.plan = plan
            planned = f"{len(plan.steps)} step(s), {len(plan.kept)} thing(s) kept"
            logger.debug("healer %s: %s, %.3f s", healer, planned, time.monotonic() - begun)
            action.brake = resources.blocked or resources.no_journal
            if not (resources.dry_run or action.brake):
                resources.note_sightings(healer, plan.sightings)
            if not plan.steps:
                return  # nothing is to be blocked or done, and what could is much to load
            if resources.dry_run or action.brake:
                describe(resources, action, action.plan)
            else:
                action.brake = _carry_out(resources, action, action.plan)
                if tried := () if action.brake else plan.tried():
                    resources.note_sightings(healer, (*plan.sightings, *tried))
    except OutOfClass:
        raise
    except deadline.TooLong as late:
        action.problem = f"{late}, and it had not made its plan"
        _trace(resources, healer, late)
    except Exception as error:
        action.problem = (
            f"{type(error).__name__}: {error}{_place(error, resources.files.get(healer))}"
        )
        _trace(resources, healer, error)
    except BaseException:
        action.problem = INTERRUPTED
        raise
    finally:
        action.duration = time.monotonic() - begun
        logger.debug("healer %s: over, %.3f s", healer, action.duration)


def _refuse_riskier(plan: Plan, within: Risk) -> None:
    """Raises OutOfClass."""
    from miyabi_healing.model.risk import risk_of

    if riskier := next((step for step in plan.steps if risk_of(step) > within), None):
        raise OutOfClass(f"{riskier.kind} {riskier.target}")


def _place(error: BaseException, file: Path | None) -> str:
    """Where in a healer's own file it failed; empty where that cannot be told."""
    import traceback

    frames = [
        each
        for each in traceback.extract_tb(error.__traceback__)
        if file and each.filename == str(file)
    ]
    return f" ({file.name}, line {frames[-1].lineno})" if file and frames else ""


def _trace(resources: Resources, healer: str, error: BaseException) -> None:
    """Where a healer failed, from its own file on, for who wants to know."""
    if logger.isEnabledFor(logging.DEBUG):
        from miyabi_healing.support import verbose

        where = verbose.raised(error, resources.files.get(healer))
        logger.debug("healer %s: failed", healer, exc_info=where)


def describe(resources: Resources, action: ActionResult, plan: Plan) -> None:
    """What would be done: every step, in order, with what would block it."""
    action.brake = (
        action.brake
        or resources.policy.reason_against_plan(action.healer, action.issue, plan)
        or ""
    )
    end = time.monotonic() + resources.config.healer(action.healer).time_limit
    for step in plan.steps:
        blocked = (
            action.brake
            if action.brake and not resources.blocked
            else resources.policy.reason_against_steps(step, deadline=end)
        )
        status = StepStatus.BLOCKED if blocked else StepStatus.PLANNED
        action.outcomes.append(Outcome(step, status, blocked or ""))
        if not blocked:
            later = sum(sizes.values()) if (sizes := resources.policy.sizes(step)) else None
            action.outcomes[-1] = replace(action.outcomes[-1], later=later)
            resources.policy.charge(step)


def _carry_out(resources: Resources, action: ActionResult, plan: Plan) -> str:
    from miyabi_healing.gate import execute

    return execute.carry_out_plan(
        plan, resources.work(action.healer, action.issue), action.outcomes
    )
