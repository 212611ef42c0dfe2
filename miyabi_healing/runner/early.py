"""Repairs before an issue occurs: when one is ordered, and what its healer is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from miyabi_healing.gate.early import may_heal
from miyabi_healing.model.actions import ActionResult
from miyabi_healing.model.issue import Issue
from miyabi_healing.model.results import CheckResult
from miyabi_healing.report.foreseen import foreseen_row
from miyabi_healing.report.foreseen_text import basis, when
from miyabi_healing.runner.healing import heal
from miyabi_healing.runner.selection import REPORTS, healers_of
from miyabi_healing.state import alarms
from miyabi_healing.support.formatting import figure

if TYPE_CHECKING:
    from miyabi_healing.model.because import Because
    from miyabi_healing.model.foreseen import Foreseen
    from miyabi_healing.runner.resources import Resources


def order(item: pytest.Item, resources: Resources, record: CheckResult, found: Foreseen) -> None:
    """Have the check's first healer called in its teardown, while its fixtures live, unless
    something speaks against that. Raises nothing.
    """
    try:
        _order(item, resources, record, found)
    except Exception as error:
        resources.foresight.give_up(error, resources.notes)


def _order(item: pytest.Item, resources: Resources, record: CheckResult, found: Foreseen) -> None:
    rules, healer = resources.config.foresight, next(iter(healers_of(item)), "")
    if not healer or not rules.heal_early or (resources.blocked and not resources.dry_run):
        return
    if not resources.config.healer(healer).enabled:
        return  # neither named as who acts, nor counted as who tried
    policy = resources.policy
    journal = policy.journal
    if journal is None:
        return
    rested = alarms.rested(journal, record.name, record.target, policy.now)
    if not may_heal(found, record.limit, rules.horizon * 3600, rested):
        return
    because = resources.diagnosis.found.get((record.name, record.target), ())
    issue = issue_of(record, found, because)
    # asked before it is planned: a plan can take seconds, and the next run would ask again
    if policy.resting() or policy.too_soon(journal, healer, issue):
        return
    resources.foresight.found[record.name, record.target] = replace(found, early=healer)
    # as for an issue, this is the first thing teardown does
    item.addfinalizer(partial(_heal, item, resources, record, ActionResult(healer, issue)))


def issue_of(record: CheckResult, found: Foreseen, because: Sequence[Because] = ()) -> Issue:
    """What a healer is given: as if the issue had occurred, but for its value. Its words are read
    later as well, so days have dates.
    """
    row, limit = foreseen_row(found), figure(found.threshold, found.unit)
    moment = when(row, found.measured, "dates")
    words = f"foreseen: over {limit} {moment}, {basis(row)}".removesuffix(", ")
    return Issue(
        record.name,
        record.target,
        words,
        found.value,
        record.limit,
        foreseen=True,
        because=tuple(because),
    )


def _heal(
    item: pytest.Item, resources: Resources, record: CheckResult, action: ActionResult
) -> None:
    if REPORTS not in item.stash:
        return  # Ctrl-C came first
    record.early = action
    values: dict[str, Any] = dict(getattr(item, "funcargs", {}))
    heal(resources, action, values)
