#!/usr/bin/python
# Copyright: Miyabi Healing contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Runs the program on a host, and tells Ansible what came of it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: heal
short_description: Check a host, and repair what can be repaired without losing anything
version_added: 0.1.0
description:
  - Runs C(miyabi-healing) once on the host, and returns its report.
  - What is in RV(report) is documented in the project's docs/report.md.
  - With O(fleet_run), a request that is sent twice makes one run. The second one gets the report of
    the first, so a playbook that was killed can be started again as it was.
  - The program has to be there. The role P(miyabi.healing.install#role) installs it.
author: Miyabi Healing contributors (@miyabi-healing)
options:
  fleet_run:
    description:
      - The name of this run, at most 200 characters. A host makes the run of that name once.
      - Without one, a run is made each time.
    type: str
  fleet_token:
    description:
      - The fencing token of whoever asks. A host that was asked with a higher one before refuses.
    type: int
  executable:
    description:
      - The program, as a path, or as a name that is looked for on the PATH, in
        C(/opt/miyabi-healing/bin) and in C(~/.local/bin).
    type: path
    default: miyabi-healing
  config:
    description: A configuration file on the host. Without it the program reads its usual one.
    type: path
  only:
    description: Run these checks alone, by a check's name, or a healer's for all that call it.
    type: list
    elements: str
    default: []
  skip:
    description: Run all checks but these.
    type: list
    elements: str
    default: []
  wait:
    description:
      - How many seconds to ask again while another run is at work on the host, at random intervals
        that grow. A refused token is not asked for again.
    type: int
    default: 60
  fail_on:
    description:
      - From which state on the task fails.
      - V(issues) is when issues remain, when something could not be checked, when another run was
        at work for longer than O(wait), and when the token was refused.
      - V(unknown) leaves out the first of these, and V(never) all of them.
      - A program that is missing, was killed, or gave no report always fails.
      - In check mode, issues fail only where no step is planned for any of them.
    type: str
    choices: [issues, unknown, never]
    default: issues
attributes:
  check_mode:
    description: The program makes a dry run, which a host does not take for the run of that name.
    support: full
  diff_mode:
    description: Before are the issues that were found, after the steps.
    support: full
  platform:
    description: Where the program runs, and what the module itself needs there.
    platforms: posix
    support: full
"""

EXAMPLES = r"""
- name: Heal, and fail where something remains
  miyabi.healing.heal:

- name: Heal once under this name, however often the playbook is started
  miyabi.healing.heal:
    fleet_run: 2026-11-26/build-hosts

- name: Look at logs and disks alone, and go on whatever is found
  miyabi.healing.heal:
    only: [large_log_files, disk_space_critical]
    fail_on: never
  check_mode: true
  register: look
"""

RETURN = r"""
code:
  description:
    - The program's exit status, 128 and the signal's number where one ended it.
    - Null where it could not be started.
  returned: always
  type: int
  sample: 0
state:
  description: V(well), V(issues), V(unknown), V(busy), V(superseded) or V(failed).
  returned: always
  type: str
  sample: well
report:
  description: The program's report, empty where it gave none.
  returned: always
  type: dict
again:
  description: Whether the run of that name was made before, and nothing was done now.
  returned: always
  type: bool
issues:
  description: What was found.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: The issue's name., type: str, returned: always}
    target: {description: What it is about., type: str, returned: always}
    severity: {description: How bad it is., type: str, returned: always}
    healed: {description: Whether it was healed., type: bool, returned: always}
summary:
  description: The report in a sentence.
  returned: always
  type: str
msg:
  description: The summary. Where the host is not well, what is wrong, and the way out.
  returned: always
  type: str
"""

import json
import os
import random
import time

from ansible.module_utils.basic import AnsibleModule

PLACES = ["/opt/miyabi-healing/bin", os.path.join(os.environ.get("HOME", "/"), ".local/bin")]
STATES = {0: "well", 1: "issues", 3: "unknown", 75: "busy"}
FAILS = {
    "issues": ("issues", "unknown", "busy", "superseded"),
    "unknown": ("unknown", "busy", "superseded"),
    "never": (),
}
FIRST_WAIT = 1.0  # seconds between two requests, at most
LONGEST_WAIT = 10.0


def command(program, parameters, check_mode):
    """The program with its arguments, as a list."""
    words = [program, "--json"]
    if check_mode:
        words.append("--dry-run")
    for name in ("config", "fleet_run", "fleet_token"):
        if parameters[name] not in (None, ""):
            words.append("--{}={}".format(name.replace("_", "-"), parameters[name]))
    for name in ("only", "skip"):
        words += [f"--{name}={each}" for each in parameters[name]]
    return words


def read_report(text):
    """The report that a program printed; empty where that is none."""
    try:
        found = json.loads(text)
    except ValueError:
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
    last = said.strip().splitlines()[-1][:500] if said.strip() else ""
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


def pauses(seconds, clock=time.monotonic, chance=random.uniform):
    """How long to sleep before each further request: full jitter, as long as there is time."""
    end, most = clock() + seconds, FIRST_WAIT
    while clock() < end:
        yield min(chance(0, most), max(0, end - clock()))
        most = min(most * 2, LONGEST_WAIT)


def ask(module, words):
    """Have the run made, again while another one is at work. Returns status, report, stderr."""
    waits = pauses(module.params["wait"])
    while True:
        code, out, said = module.run_command(words, handle_exceptions=False)
        code = 128 - code if code < 0 else code
        report = read_report(out)
        if state_of(code, report) != "busy":
            return code, report, said
        pause = next(waits, None)
        if pause is None:
            return code, report, said
        time.sleep(pause)


def fails(state, fail_on, check_mode, changed):
    """Whether the task is to fail; of a dry run, whether the run would."""
    if state == "issues" and check_mode and changed:
        return False
    return state == "failed" or state in FAILS[fail_on]


def main():
    """The module."""
    names = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "fleet_run": {"type": "str"},
            "fleet_token": {"type": "int", "no_log": False},
            "executable": {"type": "path", "default": "miyabi-healing"},
            "config": {"type": "path"},
            "only": names,
            "skip": names,
            "wait": {"type": "int", "default": 60},
            "fail_on": {
                "type": "str",
                "choices": ["issues", "unknown", "never"],
                "default": "issues",
            },
        },
        supports_check_mode=True,
    )
    wanted, check_mode = module.params["executable"], module.check_mode
    nothing = {"state": "failed", "report": {}, "again": False, "issues": [], "summary": ""}
    program = module.get_bin_path(wanted, opt_dirs=PLACES)
    if program is None:
        module.fail_json(
            msg=f"{wanted} is not there. The role miyabi.healing.install installs it; "
            "'executable' says where it is.",
            code=None,
            **nothing,
        )
    try:
        code, report, said = ask(module, command(program, module.params, check_mode))
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"{program} could not be started: {error}", code=None, **nothing)
    state, changed = state_of(code, report), is_changed(report, check_mode)
    result = {
        "code": code,
        "state": state,
        "report": report,
        "again": bool(report.get("again")),
        "changed": changed,
        "issues": issues_of(report),
        "summary": report.get("summary", ""),
        "msg": message(state, code, report, said),
    }
    if module._diff:
        result["diff"] = diff_of(report, check_mode)
    if fails(state, module.params["fail_on"], check_mode, changed):
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
