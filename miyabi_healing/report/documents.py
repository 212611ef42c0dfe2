"""The documented report: one JSON document a pass, made from pytest-json-report's and from what the
healers did.

``report.schema.json`` beside this module describes it. The seven documented keys never change;
others are only ever added.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from miyabi_healing.model.issue import Limit, Severity
from miyabi_healing.model.results import ActionResult, CheckResult
from miyabi_healing.runner.healing import Healing, goal_text, message
from miyabi_healing.state import quarantine, run_clock
from miyabi_healing.support import mount_answers
from miyabi_healing.support.formatting import display, printable

if TYPE_CHECKING:
    from miyabi_healing.model.results import Outcome
    from miyabi_healing.state.journal import Row

SCHEMA_VERSION = 1
Document = dict[str, Any]


def build(
    json_report: Mapping[str, Any], records: Mapping[str, CheckResult], healing: Healing
) -> Document:
    """The report of one pass. A check that did not run to its end is an error, and then nothing is
    called healthy.

    Whatever others have named, written or said is in it as one printable line each: nobody forges a
    line of it.
    """
    tests = json_report.get("tests", [])
    errors = [error for test in tests if (error := trouble(test, records.get(test["nodeid"])))]
    errors += [{"check": name, "message": why} for name, why in healing.folders.unknown]
    errors += [
        uncollected(each)
        for each in json_report.get("collectors", [])
        if each["outcome"] == "failed"
    ]
    found = [record for record in records.values() if record.issue]
    actions = [action for record in found for action in record.actions]
    healed = sum(record.healed for record in found)
    document = {
        "schema_version": SCHEMA_VERSION,
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "host": os.uname().nodename,
        "run_id": healing.run_id,
        "dry_run": healing.dry_run,
        "overall_success": not errors and healed == len(found) and bool(tests),
        "summary": summary(len(found), healed, len(errors), healing, bool(tests)),
        "issues_detected": [issue_row(record) for record in found],
        "actions_taken": [action_row(action, healing.dry_run) for action in actions],
        "metrics": [metric for test in tests if (metric := metric_row(test, records))],
        "errors": errors,
        "notes": [*healing.notes, *mount_answers.notes(), *waivers(records)],
        "recovered": [recovered_row(row, result) for row, result in healing.recovered],
        "quarantine": quarantine_row(healing),
    }
    return {key: printable(value) for key, value in document.items()}


def failed(reason: str, healing: Healing | None = None) -> Document:
    """The report of a pass that could not run."""
    reason = display(reason)
    return {
        "schema_version": SCHEMA_VERSION,
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "host": os.uname().nodename,
        "run_id": healing.run_id if healing else "",
        "dry_run": bool(healing and healing.dry_run),
        "overall_success": False,
        "summary": f"The checks could not run: {reason}",
        "issues_detected": [],
        "actions_taken": [],
        "metrics": [],
        "errors": [{"check": "", "message": reason}],
        "notes": [],
        "recovered": [],
    }


def waivers(records: Mapping[str, CheckResult]) -> list[str]:
    rows = [
        (record, f" on {record.target}" if record.target else "")
        for record in records.values()
        if record.waived
    ]
    return [f"{record.name}{where} is {record.waived}" for record, where in rows]


def recovered_row(row: Row, result: str) -> Document:
    """A step that an earlier pass was ended in, and what became of it."""
    return {
        "step": row.id,
        "run_id": row.run,
        "kind": row.kind,
        "target": row.target,
        "intended": moment(row.intended),
        "result": result,
    }


def quarantine_row(healing: Healing) -> Document:
    """What is in quarantine, what that will free and when, and what was purged in this pass."""
    held = [each for each in quarantine.find(healing.state) if each.facts]
    first: tuple[float, bool] | None = None
    if held:
        from miyabi_healing.state import retention

        first = retention.next_one(held, healing.config.quarantine.days, healing.last_moment())
    return {
        "things": len(held),
        "bytes": sum(each.bytes for each in held),
        "limit_bytes": int(healing.config.quarantine.gigabytes * 1e9),
        "next_expiry": moment(first[0]) if first else None,
        "next_expiry_by": run_clock.decided_by(first[1]) if first else None,
        "purged": [step_row(each) for each in healing.purged],
    }


def moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))


def summary(found: int, healed: int, errors: int, healing: Healing, any_test: bool) -> str:
    unknown = f" {errors} check(s) could not run." if errors else ""
    if not any_test:
        return f"No check ran.{unknown}"
    if not found:
        return (
            f"No issues detected, but{unknown}"
            if errors
            else "No issues detected. System is healthy."
        )
    if healing.dry_run:
        return f"Dry run: {found} issue(s) detected, nothing was changed.{unknown}"
    if healing.blocked:
        return f"{found} issue(s) detected, nothing was changed: {healing.blocked}.{unknown}"
    if healed == found:
        return f"Successfully healed {healed} issue(s).{unknown}"
    return f"Healed {healed}/{found} issues. {found - healed} failed.{unknown}"


def trouble(test: Mapping[str, Any], record: CheckResult | None) -> Document | None:
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
        else {"check": name, "target": target, "message": "it was interrupted"}
    )


def uncollected(collector: Mapping[str, Any]) -> Document:
    lines = str(collector.get("longrepr", "")).strip().splitlines()
    last = next(
        (line.removeprefix("E").strip() for line in reversed(lines) if line.startswith("E")),
        lines[-1] if lines else "",
    )
    return {"check": collector["nodeid"], "message": f"could not be loaded: {last}"}


def issue_row(record: CheckResult) -> Document:
    issue = record.issue
    assert issue is not None  # only records with one are asked
    return {
        "name": issue.name,
        "description": issue.description,
        "severity": issue.severity.label,
        "metric_value": issue.metric_value,
        "threshold": number(issue.limit.threshold),
        "unit": issue.limit.unit,
        "target": issue.target,
        "healed": record.healed,
    }


def critical(limit: Limit) -> float | int | None:
    """From where on an issue is critical; None where it never is."""
    bound = (
        limit.threshold
        if limit.severity == Severity.CRITICAL
        else limit.bounds.get(Severity.CRITICAL)
    )
    return None if bound is None else number(max(bound, limit.threshold))


def number(value: float) -> float | int:
    """A whole number without its ``.0``, as the documented sample has thresholds."""
    return int(value) if float(value).is_integer() else value


def action_row(action: ActionResult, dry_run: bool) -> Document:
    plan = action.plan
    kept = plan.kept if plan else ()
    said, trouble = as_json(plan.details if plan else {})
    details: Document = {**said, **{key: count for key, count in action.counts.items() if count}}
    if kept:
        details["kept"] = dict(Counter(each.reason for each in kept).most_common())
    if action.value_after is not None:
        details["metric_before"], details["metric_after"] = (
            action.issue.metric_value,
            action.value_after,
        )
    if later := sum(
        each.freed_later for each in action.outcomes if each.status in ("applied", "planned")
    ):
        details["bytes_freed_later"] = later
    text = message(action, dry_run)
    return {
        "action": action.healer,
        "status": action.status,
        "message": f"{text}; the healer's details cannot be written as JSON: {trouble}"
        if trouble
        else text,
        "duration_seconds": round(action.duration, 3),
        "details": details,
        "issue": action.issue.name,
        "target": action.issue.target,
        "goal": goal_text(plan) if plan else "",
        "brake": action.brake,
        "steps": [step_row(each) for each in action.outcomes],
        "kept": [
            {"target": each.target, "reason": each.reason, "detail": each.detail} for each in kept
        ],
    }


def as_json(details: object) -> tuple[Document, str]:
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
    good: Document = {}
    for key, value in details.items():
        with contextlib.suppress(Exception):  # what can be kept is kept
            json.dumps(value, allow_nan=False)
            good[str(key)] = value
    return good, trouble


def step_row(outcome: Outcome) -> Document:
    step = outcome.step
    return {
        "number": outcome.number,
        "kind": step.kind,
        "target": step.target,
        "reason": step.reason,
        "bytes": step.bytes,
        "bytes_later": outcome.freed_later,
        "undo": step.undo,
        "status": outcome.status,
        "message": outcome.message,
        "freed": outcome.freed,
        "details": outcome.details,
        "duration_seconds": round(outcome.duration, 3),
    }


def metric_row(test: Mapping[str, Any], records: Mapping[str, CheckResult]) -> Document | None:
    """What a check measured in the run that counts."""
    record = records.get(test["nodeid"])
    measured = [each["measured"] for each in test.get("user_properties", []) if "measured" in each]
    if record is None or not measured:
        return None
    return {
        "name": record.name,
        "target": record.target,
        "value": measured[-1]["value"],
        "description": measured[-1]["description"],
        "threshold": number(record.limit.threshold),
        "critical": critical(record.limit),
        "unit": record.limit.unit,
        "outcome": "waived" if record.waived else test["outcome"],
    }
