# Copyright: Miyabi Healing contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What a report of the program says of its host, in Ansible's terms."""

from __future__ import annotations

import json

from ansible_collections.miyabi.healing.plugins.plugin_utils.asking import printable

STATES = {0: "well", 1: "issues", 3: "unknown", 75: "busy"}
FAILS = {
    "issues": ("issues", "unknown", "busy", "superseded"),
    "unknown": ("unknown", "busy", "superseded"),
    "never": (),
}


def read_report(text):
    """The report that a program printed, in printable text; empty where that is none."""
    try:
        found = printable(json.loads(text))
    except (ValueError, RecursionError):
        return {}
    needed = ("summary", "issues_detected", "actions_taken", "errors")
    return found if isinstance(found, dict) and all(name in found for name in needed) else {}


def state_of(code, report):
    """Where a host stands. A program that says that all is well has to show it."""
    state = STATES.get(code, "failed")
    if not report or (state == "well" and not report.get("overall_success")):
        return "failed"
    if state == "busy" and report.get("superseded_by") is not None:
        return "superseded"
    return state


def steps_of(report):
    """All steps of a report, those that emptied the quarantine included."""
    plans = [each.get("steps", []) for each in report.get("actions_taken", [])]
    plans.append(report.get("quarantine", {}).get("purged", []))
    return [step for plan in plans for step in plan]


def is_changed(report, check_mode):
    """Whether a step was applied, or would be; never by a run that was made before."""
    wanted = "planned" if check_mode else "applied"
    return not report.get("again") and any(
        step.get("status") == wanted for step in steps_of(report)
    )


def issues_of(report):
    """The rows of the issues, short."""
    names = ("name", "target", "severity", "healed")
    return [{name: each.get(name) for name in names} for each in report.get("issues_detected", [])]


def named(issue):
    """One issue in words."""
    about = f" ({issue['target']})" if issue["target"] else ""
    return f"{issue['name']}{about}, {issue['severity']}"


def errors_of(report):
    """What could not be checked, or why nothing was done, in words."""
    words = [
        ": ".join(filter(None, (each.get("check"), each.get("message"))))
        for each in report.get("errors", [])
    ]
    return "; ".join(words)


def message(state, code, report, said):
    """What is wrong, and the way out. `said` is what the program printed on standard error."""
    if state == "well":
        return report["summary"]
    if state == "issues":
        left = [named(each) for each in issues_of(report) if not each["healed"]]
        show = "miyabi-healing show {}".format(report.get("run_id", "")).strip()
        if report.get("dry_run"):
            show = "miyabi-healing --dry-run"
        return "{} issue(s) remain: {}. On the host, '{}' says why.".format(
            len(left), "; ".join(left) or report["summary"], show
        )
    if state == "unknown":
        why = errors_of(report) or report["summary"]
        return f"Not all could be checked: {why}. On the host: miyabi-healing doctor."
    if state == "busy":
        return f"{errors_of(report)}. Ask again later, or raise 'wait'."
    if state == "superseded":
        return f"{errors_of(report)}. Somebody else has taken over; nothing was done."
    last = printable(said.strip().splitlines()[-1][:500]) if said.strip() else ""
    if report:
        return f"The run came to no end (status {code}): {errors_of(report) or last}"
    return (
        "The program gave no report (status {}){}. "
        "On the host, 'miyabi-healing doctor' may say why.".format(code, last and ": " + last)
    )


def diff_of(report, check_mode):
    """The issues before, the steps after."""
    made = "would be made" if check_mode else "were made"
    before = [named(each) + "\n" for each in issues_of(report)]
    after = [
        "{} {}: {} ({})\n".format(
            step.get("kind"), step.get("target"), step.get("reason"), step.get("status")
        )
        for step in steps_of(report)
    ]
    if report.get("again"):
        after = []
    return {
        "before_header": "issues",
        "before": "".join(before),
        "after_header": f"steps that {made}",
        "after": "".join(after),
    }


def fails(state, fail_on, check_mode, changed):
    """Whether the task is to fail; of a dry run, whether the run would."""
    if state == "issues" and check_mode and changed:
        return False
    return state == "failed" or state in FAILS[fail_on]
