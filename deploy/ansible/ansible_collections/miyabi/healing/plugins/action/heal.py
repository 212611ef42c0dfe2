# Copyright: Miyabi Healing contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Runs the program on a host, and tells Ansible what came of it. Nothing is copied there, and no
Python of Ansible's is started: a module would take as long as the program.
"""

from __future__ import annotations

import secrets
import time

from ansible import errors
from ansible.plugins.action import ActionBase
from ansible_collections.miyabi.healing.plugins.plugin_utils import asking, host_report

NAMES = {"type": "list", "elements": "str", "default": []}
OPTIONS = {
    "fleet_run": {"type": "str"},
    "fleet_token": {"type": "int", "no_log": False},
    # the type path would mean the controller's HOME
    "executable": {"type": "str", "default": "miyabi-healing"},
    "config": {"type": "str"},
    "only": NAMES,
    "skip": NAMES,
    "wait": {"type": "int", "default": 60},
    "fail_on": {"type": "str", "choices": list(host_report.FAILS), "default": "issues"},
    "from_variables": {"type": "bool", "default": False},
}
OMITTED = getattr(errors, "AnsibleValueOmittedError", ())  # before 2.19 there is a value for it
NOTHING = {"code": None, "report": {}, "again": False, "issues": [], "summary": ""}


class ActionModule(ActionBase):
    """What Ansible calls."""

    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        """One host's result, as the module's page says."""
        super().run(tmp, task_vars)
        _validation, parameters = self.validate_argument_spec(OPTIONS)
        if parameters["from_variables"]:
            self._add_variables(task_vars or {})
            _validation, parameters = self.validate_argument_spec(OPTIONS)
        return {**self._asked(parameters), "invocation": {"module_args": parameters}}

    def _add_variables(self, variables):
        """Take options from variables where the task has none. Templates in a playbook could do so,
        too: eight of them cost as much as all else that Ansible does for a host.
        """
        for name in OPTIONS:
            if name in self._task.args or variables.get(f"miyabi_{name}") is None:
                continue
            try:
                value = self._templar.template(variables[f"miyabi_{name}"])
            except OMITTED:
                continue
            if value not in (None, "", variables.get("omit")):
                self._task.args[name] = value

    def _asked(self, parameters):
        check_mode = self._task.check_mode
        try:
            code, report, said = self._ask(parameters)
        except asking.NoAnswer as error:
            return {**NOTHING, "failed": True, "state": "failed", "msg": str(error)}
        if code is None:
            missing = (
                f"{parameters['executable']} is not there. The role miyabi.healing.install "
                "installs it; 'executable' says where it is."
            )
            return {**NOTHING, "failed": True, "state": "failed", "msg": missing}
        state = host_report.state_of(code, report)
        changed = host_report.is_changed(report, check_mode)
        result = {
            "code": code,
            "state": state,
            "report": report,
            "again": bool(report.get("again")),
            "changed": changed,
            "failed": host_report.fails(state, parameters["fail_on"], check_mode, changed),
            "issues": host_report.issues_of(report),
            "summary": report.get("summary", ""),
            "msg": host_report.message(state, code, report, said),
        }
        if self._task.diff:
            result["diff"] = host_report.diff_of(report, check_mode)
        return result

    def _ask(self, parameters):
        """Have the run made, again while another one is at work. Returns status, report, stderr."""
        waits = asking.pauses(parameters["wait"])
        while True:
            answer = self._ask_once(parameters)
            report = host_report.read_report(answer.printed)
            if answer.code is None or host_report.state_of(answer.code, report) != "busy":
                return answer.code, report, answer.said
            pause = next(waits, None)
            if pause is None:
                return answer.code, report, answer.said
            time.sleep(pause)

    def _ask_once(self, parameters):
        mark = f"miyabi-healing-{secrets.token_hex(8)}"
        command = asking.command(parameters, self._task.check_mode, mark)
        if environment := self._compute_environment_string():
            command = f"{environment} {command}"
        # A terminal is wanted only where become may need one: with it, a connection that is lost
        # ends the run. ssh asks for none where there is input, which nobody reads.
        is_direct = self._is_pipelining_enabled("new") or (
            self._connection.has_pipelining and not self._connection.become
        )
        done = self._low_level_execute_command(
            command, sudoable=bool(self._connection.become), in_data=b"\n" if is_direct else None
        )
        return asking.read_answer(done["stdout"], mark, done["rc"], done["stderr"])
