"""What it means that a check failed: an issue, which a healer is called for, or an error, after
which nothing is known.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from miyabi_healing.host.git.repositories import NoRepository
from miyabi_healing.model.actions import ActionResult
from miyabi_healing.model.config import ConfigError
from miyabi_healing.model.issue import Issue
from miyabi_healing.model.results import CheckResult, NotMeasured
from miyabi_healing.runner.fixtures import issue_name
from miyabi_healing.runner.healing import OutOfClass, heal
from miyabi_healing.runner.selection import RECORDS, REPORTS, RESOURCES, gate_of, healers_of
from miyabi_healing.support.mount_answers import NoAnswer

_logger = logging.getLogger(__name__)


def around_it(call: pytest.CallInfo[Any], failure: pytest.ExceptionInfo[BaseException]) -> str:
    """Why a check's result is unknown where what comes before or after it failed."""
    if isinstance(failure.value, (NoRepository, NoAnswer, ConfigError)):
        return str(failure.value)
    return f"{failure.typename} in {call.when}: {failure.value}"


def _pending(item: pytest.Item) -> str | None:
    """The next healer this check may call; None when it may call none."""
    record = item.config.stash[RECORDS][item.nodeid]
    names = _order(item, record)
    tried = len(record.actions)
    resources = item.config.stash[RESOURCES]
    if tried and (resources.dry_run or resources.blocked):
        return None
    return names[tried] if tried < len(names) else None


def _order(item: pytest.Item, record: CheckResult) -> Sequence[str]:
    """The healers of a check in the order in which they are tried, decided once a run."""
    documented, resources = healers_of(item), item.config.stash[RESOURCES]
    if len(documented) < 2 or not resources.config.learning.enabled:
        return documented
    if record.order is None:
        from miyabi_healing.runner import learning

        record.order = learning.choose_order(
            resources.readable, resources.config, record, documented, resources.notes
        )
    return record.order.healers


def judge_result(item: pytest.Item, call: pytest.CallInfo[None], record: CheckResult) -> None:
    """Note what a check that failed, or that a healer worked for, says now; order a repair where it
    found something.
    """
    action = record.actions[-1] if record.actions else record.early
    if action and not item.config.stash[RESOURCES].dry_run:
        action.passed = call.excinfo is None
        action.value_after = record.measured["value"] if record.measured else None
    if call.excinfo is None or call.excinfo.errisinstance(pytest.skip.Exception):
        return
    if not call.excinfo.errisinstance(AssertionError):
        plain = isinstance(call.excinfo.value, NotMeasured)
        kind = "" if plain else f"{call.excinfo.typename}: "
        record.error = f"{kind}{call.excinfo.value}"
        return
    if waived := item.get_closest_marker("xfail"):
        record.waived = str(waived.kwargs["reason"])
        return
    if record.measured is None:
        record.error = (
            "it failed without having measured anything: call measure(value, description) "
            "before the assertion"
        )
        return
    if record.issue is None:
        value, description = record.measured["value"], record.measured["description"]
        record.issue = Issue(
            record.name,
            record.target,
            description,
            value,
            record.limit,
            gate_of(item),
            tuple(record.measured.get("used_by", ())),
        )
        resources = item.config.stash[RESOURCES]
        record.issue = resources.diagnosis.explained(record.issue, getattr(item, "funcargs", {}))
    if name := _pending(item):
        # Finalizers run last in, first out: this is the first thing teardown does, while the
        # check's fixtures live.
        item.addfinalizer(partial(_heal, item, name, record))


def _heal(item: pytest.Item, name: str, record: CheckResult) -> None:
    """Call a healer, in the teardown of the check."""
    if REPORTS not in item.stash or record.issue is None:
        return  # pytest.exit or Ctrl-C came first; this is only the session's cleanup
    values: dict[str, object] = dict(getattr(item, "funcargs", {}))
    resources = item.config.stash[RESOURCES]
    record.actions.append(ActionResult(name, record.issue))
    within = record.order.class_of(name) if record.order else None
    try:
        heal(resources, record.actions[-1], values, within)
    except OutOfClass as riskier:
        from miyabi_healing.runner import learning

        record.actions.pop()
        done = [each.healer for each in record.actions]
        record.order = learning.documented_order(healers_of(item), done)
        resources.notes.append(
            f"{record.name}: the documented order holds, as {name} plans what is riskier than "
            f"before: {riskier}"
        )
        _heal(item, record.order.healers[len(done)], record)


def trace(item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
    """Say for who wants to know how long a check took, and where it failed."""
    from miyabi_healing.support import verbose

    parameters = getattr(getattr(item, "callspec", None), "params", {})
    name = " ".join([issue_name(item), *(str(each) for each in parameters.values() if each)])
    if call.when != "teardown":  # in which healers are at work, who have times of their own
        _logger.debug("check %s: %s %s, %.3f s", name, call.when, report.outcome, call.duration)
    if call.excinfo and not call.excinfo.errisinstance(pytest.skip.Exception):
        where = verbose.raised(call.excinfo.value, item.path)
        _logger.debug("check %s: failed in %s", name, call.when, exc_info=where)
