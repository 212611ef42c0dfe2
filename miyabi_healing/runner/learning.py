"""The order in which a check's healers are tried, by what their repairs came to; and what a run
adds to that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

from miyabi_healing.model.actions import ActionResult, StepStatus
from miyabi_healing.model.config import Config, HealerSettings
from miyabi_healing.model.learned import Order, learned_order
from miyabi_healing.model.risk import highest
from miyabi_healing.report.learned_text import swap_text
from miyabi_healing.state import attempts
from miyabi_healing.state.attempts import Attempt

if TYPE_CHECKING:
    from miyabi_healing.model.results import CheckResult
    from miyabi_healing.state.journal import Journal
    from miyabi_healing.state.run_clock import Moment

_COMMON = {each.name for each in fields(HealerSettings)}  # what says nothing about what it does
_UNREADABLE = "what repairs came to cannot be read, so healers go in the documented order"
_NEVER_TRIED = (StepStatus.BLOCKED, StepStatus.PLANNED)


def options_digest(config: Config, healer: str) -> str:
    """What tells a healer's settings from other ones; empty for the defaults."""
    own = {
        key: value for key, value in config.healers.get(healer, {}).items() if key not in _COMMON
    }
    if not own:
        return ""
    return hashlib.sha256(json.dumps(own, sort_keys=True, default=str).encode()).hexdigest()[:12]


def order_of(
    journal: Journal | None, config: Config, issue: str, target: str, documented: Sequence[str]
) -> Order:
    """The order in which the healers of a check are tried now. What was learned with other options
    counts for nothing. Raises sqlite3.Error, ValueError, TypeError.
    """
    if journal is None or not config.learning.enabled or len(documented) < 2:
        return Order(tuple(documented), tuple(documented))
    known = {
        name: each.sums
        for name, each in attempts.read_sums(journal, issue, target).items()
        if each.options == options_digest(config, name)
    }
    return learned_order(documented, known)


def choose_order(
    journal: Callable[[], Journal | None],
    config: Config,
    record: CheckResult,
    documented: Sequence[str],
    notes: list[str],
) -> Order:
    """The same for a run, which says it where it is not the documented one. Raises nothing."""
    try:
        order = order_of(journal(), config, record.name, record.target, documented)
    except Exception as error:
        text = f"{_UNREADABLE}: {type(error).__name__}: {error}"
        notes += [] if text in notes else [text]
        return Order(tuple(documented), tuple(documented))
    where = f"{record.name} on {record.target}" if record.target else record.name
    notes += [f"{where}: {swap_text(each)}" for each in order.swaps]
    return order


def documented_order(documented: Sequence[str], done: Sequence[str]) -> Order:
    """What was tried, and then what is left, as documented."""
    left = list(documented)
    for name in done:
        left.remove(name)
    return Order((*done, *left), tuple(documented))


def adding(config: Config, records: Iterable[CheckResult], notes: list[str]) -> Sequence[Any]:
    """What history is to do besides, in its transaction, with the attempts of a run; nothing where
    the run found nothing.
    """
    found = {
        (each.name, each.target): tuple(_attempts(config, each)) for each in records if each.issue
    }
    return [partial(_add, found, notes)] if found else []


def _add(
    found: Mapping[tuple[str, str], Sequence[Attempt]],
    notes: list[str],
    journal: Journal,
    number: int,
    now: Moment,
) -> None:
    if trouble := attempts.record(journal, number, now, found):
        notes.append(f"what repairs came to cannot be noted: {trouble}")


def _attempts(config: Config, record: CheckResult) -> Iterable[Attempt]:
    """What counts as a try: what was held back, or asked to stop, says nothing about a healer; nor
    does an issue that went away by itself, or what could not be measured again.
    """
    before = record.issue.metric_value if record.issue else 0.0
    for number, action in enumerate(record.actions, 1):
        if _was_tried(action):
            healed = bool(action.passed)
            yield Attempt(
                healer=action.healer,
                options=options_digest(config, action.healer),
                share=1.0 if healed else _share(action, before),
                healed=healed,
                outcome=action.status.value,
                before=before,
                after=action.value_after,
                seconds=action.duration,
                position=number,
                risk=highest(action.plan.steps) if action.plan else None,
            )
        before = before if action.value_after is None else action.value_after


def _was_tried(action: ActionResult) -> bool:
    if action.brake or action.stopped or action.passed is None:
        return False
    statuses = {each.status for each in action.outcomes}
    if StepStatus.APPLIED in statuses:
        return True
    return not action.passed and not statuses.intersection(_NEVER_TRIED)


def _share(action: ActionResult, before: float) -> float:
    """The part of what was above the threshold that is gone, for a repair that was not enough."""
    excess = before - action.issue.limit.threshold
    if action.value_after is None or excess <= 0:
        return 0
    if not any(each.status == StepStatus.APPLIED for each in action.outcomes):
        return 0
    return min(max((before - action.value_after) / excess, 0), 1)
