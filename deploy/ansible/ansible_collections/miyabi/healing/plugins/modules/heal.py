#!/usr/bin/python
# Copyright: Miyabi Healing contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What Ansible documents of the action in plugins/action/heal.py, which does it all."""

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
  - The program has to be there. The role P(miyabi.healing.install#role) installs it. Nothing else
    is needed on the host but a POSIX shell, and nothing is copied there.
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
      - The program, as a path, or as a name that is looked for on the PATH, in C(/usr/local/bin),
        in C(/opt/miyabi-healing/bin) and in C(~/.local/bin).
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
  from_variables:
    description:
      - Take options that the task does not give from the variables that are called C(miyabi_) and
        the option's name, such as C(miyabi_fleet_run), where there are some. The collection's
        playbooks do so.
    type: bool
    default: false
attributes:
  async:
    description: Whether the task can go on while the connection is closed.
    support: none
  check_mode:
    description: The program makes a dry run, which a host does not take for the run of that name.
    support: full
  diff_mode:
    description: Before are the issues that were found, after the steps.
    support: full
  platform:
    description: Where the program runs.
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
