"""The documented report: one JSON document a run, made from pytest-json-report's and from what the
healers did.

``report.schema.json`` beside this module describes it. The seven documented keys never change;
others are only ever added.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from miyabi_healing import __version__
from miyabi_healing.model.results import CheckResult, RunResult
from miyabi_healing.report.summary import summarize
from miyabi_healing.state import run_clock
from miyabi_healing.support import mount_answers
from miyabi_healing.support.formatting import display, printable, timestamp

if TYPE_CHECKING:
    from miyabi_healing.model.actions import ActionResult, Outcome, Recovered
    from miyabi_healing.report.document_types import (
        ActionRow,
        Document,
        ErrorRow,
        IssueRow,
        MetricRow,
        QuarantineRow,
        RecoveredRow,
        StepRow,
    )

_SCHEMA_VERSION = 1


def build_report(json_report: Mapping[str, Any], result: RunResult) -> Document:
    """The report of one run. A check that did not run to its end is an error, and then nothing is
    called healthy.

    Whatever others have named, written or said is in it as one printable line each: nobody forges a
    line of it.
    """
    checks = result.checks
    tests = json_report.get("tests", [])
    errors = [error for test in tests if (error := _trouble(test, checks.get(test["nodeid"])))]
    errors += [{"check": name, "message": why} for name, why in result.unknown]
    errors += [
        _uncollected(each)
        for each in json_report.get("collectors", [])
        if each["outcome"] == "failed"
    ]
    if result.interrupted and not errors:
        errors.append({"check": "", "message": "the run was interrupted"})
    found = [check for check in checks.values() if check.issue]
    any_ran = any(test["outcome"] != "skipped" for test in tests)  # off in the configuration
    actions = [action for check in checks.values() for action in check.deeds]
    healed = sum(check.healed for check in found)
    document: Document = {
        "schema_version": _SCHEMA_VERSION,
        "version": __version__,
        "ended": round(time.time(), 3),
        "timestamp": timestamp(),
        "host": os.uname().nodename,
        "run_id": result.run_id,
        "dry_run": result.dry_run,
        "overall_success": not errors
        and healed == len(found)
        and any_ran
        and not result.out_of_memory_kills,
        "summary": summarize(found, len(errors), result, any_ran),
        "issues_detected": [_issue_row(check) for check in found],
        "actions_taken": [_action_row(action, result.dry_run) for action in actions],
        "metrics": [metric for test in tests if (metric := _metric_row(test, checks))],
        "errors": errors,
        "notes": [*result.notes, *mount_answers.notes(), *_waivers(checks), *_said(tests, checks)],
        "recovered": [_recovered_row(each) for each in result.recovered],
        "quarantine": _quarantine_row(result),
    }
    if isinstance(seconds := json_report.get("duration"), (int, float)):
        document["duration_seconds"] = round(seconds, 3)
    if result.out_of_memory_kills:
        document["out_of_memory_kills"] = result.out_of_memory_kills
    if result.left_out:
        document["left_out"] = list(result.left_out)
    if result.fleet:
        document["fleet"] = {"run": result.fleet.label, "token": result.fleet.token}
    if result.foreseen:
        from miyabi_healing.report.foreseen import foreseen_row

        document["foreseen"] = [foreseen_row(each) for each in result.foreseen]
    return cast("Document", {key: printable(value) for key, value in document.items()})


def failed_report(reason: str) -> Document:
    """The report of a run that could not begin, or came to no end."""
    reason = display(reason)
    return {
        "schema_version": _SCHEMA_VERSION,
        "version": __version__,
        "ended": round(time.time(), 3),
        "timestamp": timestamp(),
        "host": os.uname().nodename,
        "run_id": "",
        "dry_run": False,
        "overall_success": False,
        "summary": f"The checks could not run: {reason}",
        "issues_detected": [],
        "actions_taken": [],
        "metrics": [],
        "errors": [{"check": "", "message": reason}],
        "notes": [],
        "recovered": [],
    }


def _waivers(checks: Mapping[str, CheckResult]) -> list[str]:
    rows = [
        (check, f" on {check.target}" if check.target else "")
        for check in checks.values()
        if check.waived
    ]
    return [f"{check.name}{where} is {check.waived}" for check, where in rows]


def _said(tests: list[Mapping[str, Any]], checks: Mapping[str, CheckResult]) -> list[str]:
    """The notes of checks. Where a healer has looked, its action says what was left alone, and
    why.
    """
    return [
        each["note"]
        for test in tests
        if not (record := checks.get(test["nodeid"]))
        or not any(action.plan for action in record.actions)
        for each in test.get("user_properties", [])
        if "note" in each
    ]


def _recovered_row(found: Recovered) -> RecoveredRow:
    return {
        "step": found.step,
        "run_id": found.run_id,
        "kind": found.kind,
        "target": found.target,
        "intended": timestamp(found.intended),
        "result": found.result,
    }


def _quarantine_row(result: RunResult) -> QuarantineRow:
    held = result.quarantine
    first = held.next_expiry
    return {
        "things": held.things,
        "bytes": held.bytes,
        "limit_bytes": held.limit_bytes,
        "days": held.days,
        "next_expiry": None if first is None else timestamp(first),
        "next_expiry_by": None if first is None else run_clock.decided_by(held.by_runs),
        "purged": [_step_row(each) for each in result.purged],
    }


def _trouble(test: Mapping[str, Any], record: CheckResult | None) -> ErrorRow | None:
    """Why a check's result is unknown; None where it is known. A check whose call never ended
    counts as not run.
    """
    name = record.name if record else test["nodeid"]
    if record and record.error:
        return {"check": name, "target": record.target, "message": " ".join(record.error.split())}
    skipped = test["outcome"] in ("skipped", "xfailed")
    target = record.target if record else ""
    return (
        None
        if "call" in test or skipped
        else {"check": name, "target": target, "message": "the run was interrupted"}
    )


def _uncollected(collector: Mapping[str, Any]) -> ErrorRow:
    lines = str(collector.get("longrepr", "")).strip().splitlines()
    last = next(
        (line.removeprefix("E").strip() for line in reversed(lines) if line.startswith("E")),
        lines[-1] if lines else "",
    )
    return {"check": collector["nodeid"], "message": f"could not be loaded: {last}"}


def _issue_row(record: CheckResult) -> IssueRow:
    issue = record.issue
    assert issue is not None  # only records with one are asked
    row: IssueRow = {
        "name": issue.name,
        "description": issue.description,
        "severity": issue.severity.label,
        "metric_value": issue.metric_value,
        "threshold": _number(issue.limit.threshold),
        "unit": issue.limit.unit,
        "target": issue.target,
        "healed": record.healed,
    }
    if issue.used_by:
        row["used_by"] = [dict(each) for each in issue.used_by]
    if issue.because:
        from miyabi_healing.report.reasons import because_row

        row["because"] = [because_row(each) for each in issue.because]
    if record.order and record.order.swaps:
        from miyabi_healing.report.learned_text import swap_text

        row["healer_order"] = {
            "healers": list(record.order.healers),
            "documented": list(record.order.documented),
            "swaps": [swap_text(each) for each in record.order.swaps],
        }
    return row


def _number(value: float) -> float | int:
    """A whole number without its ``.0``, as the documented sample has thresholds."""
    return int(value) if float(value).is_integer() else value


def _action_row(action: ActionResult, dry_run: bool) -> ActionRow:
    from miyabi_healing.report.wording import count_kept, expected_value, goal_text, message

    plan = action.plan
    kept = plan.kept if plan else ()
    said, trouble = _as_json(_details(action))
    details: dict[str, Any] = {
        **said,
        **{key: count for key, count in action.counts.items() if count},
    }
    if kept:
        details["kept"] = dict(count_kept(kept).most_common())
    if action.value_after is not None:
        details["metric_before"], details["metric_after"] = (
            action.issue.metric_value,
            action.value_after,
        )
    if action.freed_later:
        details["bytes_freed_later"] = action.freed_later
    text = message(action, dry_run)
    row: ActionRow = {
        "action": action.healer,
        "status": action.status.value,
        "message": f"{text}; the healer's details cannot be written as JSON: {trouble}"
        if trouble
        else text,
        "duration_seconds": round(action.duration, 3),
        "details": details,
        "issue": action.issue.name,
        "target": action.issue.target,
        "goal": goal_text(plan) if plan else "",
        "expected": expected_value(action) if dry_run else None,
        "brake": action.brake,
        "steps": [_step_row(each) for each in action.outcomes],
        "kept": [
            {
                "target": each.target,
                "reason": each.reason,
                "detail": each.detail,
                "count": each.count,
                "decide": each.decide,
                "command": each.command,
            }
            for each in kept
        ],
    }
    if action.stopped:
        row["stopped"] = True
    if action.early:
        row["early"] = True
    return row


def _details(action: ActionResult) -> object:
    """A healer's measurements, and where its plan was not enough those that it has for that; or why
    these failed.
    """
    plan = action.plan
    if not plan or not plan.if_short or action.passed or not isinstance(plan.details, dict):
        return plan.details if plan else {}
    try:
        return {**plan.details, **plan.if_short()}
    except Exception as error:
        return {**plan.details, "not_measured": f"{type(error).__name__}: {error}"}


def _as_json(details: object) -> tuple[dict[str, Any], str]:
    """A healer's details as JSON can have them, and why they are not what it gave, empty where they
    are.
    """
    try:
        if not isinstance(details, dict) or not all(isinstance(key, str) for key in details):
            raise TypeError("they are no dict whose keys are texts")
        json.dumps(details, allow_nan=False)
        return details, ""
    except Exception as error:
        trouble = " ".join(f"{type(error).__name__}: {error}".split())
    if not isinstance(details, dict):
        return {}, trouble
    good: dict[str, Any] = {}
    for key, value in details.items():
        with contextlib.suppress(Exception):  # what can be kept is kept
            json.dumps(value, allow_nan=False)
            good[str(key)] = value
    return good, trouble


def _step_row(outcome: Outcome) -> StepRow:
    step = outcome.step
    return {
        "number": outcome.number,
        "kind": step.kind,
        "target": step.target,
        "reason": step.reason,
        "bytes": step.bytes,
        "bytes_estimated": step.estimated,
        "bytes_later": outcome.freed_later,
        "undo": step.undo,
        "status": outcome.status,
        "message": outcome.message,
        "freed": outcome.freed,
        "details": outcome.details,
        "duration_seconds": round(outcome.duration, 3),
    }


def _metric_row(test: Mapping[str, Any], records: Mapping[str, CheckResult]) -> MetricRow | None:
    """What a check measured in the run that counts."""
    record = records.get(test["nodeid"])
    measured = [each["measured"] for each in test.get("user_properties", []) if "measured" in each]
    if record is None or not measured:
        return None
    critical = record.limit.critical_from
    return {
        "name": record.name,
        "target": record.target,
        "value": measured[-1]["value"],
        "description": measured[-1]["description"],
        "threshold": _number(record.limit.threshold),
        "critical": None if critical is None else _number(critical),
        "unit": record.limit.unit,
        "outcome": "waived" if record.waived else test["outcome"],
    }
