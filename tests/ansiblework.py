"""Ansible as people run it: the collection in ``deploy/ansible``, real ssh, nothing of this user's
own settings.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fleetwork import Hosts
from program import environment

from conftest import PROJECT

COLLECTIONS = PROJECT / "deploy" / "ansible"
COLLECTION = COLLECTIONS / "ansible_collections" / "miyabi" / "healing"
needs_ansible = pytest.mark.skipif(
    find_spec("ansible") is None, reason="needs ansible-core: the extra fleet"
)
INSTALL = """
- hosts: all
  gather_facts: false
  roles: [miyabi.healing.install]
"""


def plugin(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A plugin of the collection, such as ``filter/broken_rule``, without Ansible: that would make
    folders in the HOME of whoever runs the tests.
    """
    callback, action = ModuleType("ansible.plugins.callback"), ModuleType("ansible.plugins.action")
    callback.CallbackBase = action.ActionBase = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ansible.plugins.callback", callback)
    monkeypatch.setitem(sys.modules, "ansible.plugins.action", action)
    monkeypatch.syspath_prepend(str(COLLECTIONS))
    spec = spec_from_file_location(Path(name).name, COLLECTION / "plugins" / f"{name}.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec.loader.exec_module(module)
    return module


STEP = {"kind": "trim log", "target": "/a.log", "reason": "over its limit", "status": "applied"}
ISSUE = {"name": "large_log_files", "target": "/a.log", "severity": "medium", "healed": False}


def document(**changes: object) -> dict[str, Any]:
    """A report as the module sees it: an issue that was not healed, though a step was applied."""
    return {
        "run_id": "a", "overall_success": False, "summary": "Looked.", "errors": [],
        "issues_detected": [ISSUE], "actions_taken": [{"steps": [STEP]}], **changes,
    }  # fmt: skip


@dataclass(frozen=True)
class Stand:
    """A host with a program that stands in for ours: it writes down that it was started, and says
    `found` is wrong with the host. One that is not `reachable` has an address where nobody listens;
    with one that is not `there`, the program is missing.
    """

    name: str
    found: tuple[str, ...] = ()
    healed: bool = False
    reachable: bool = True
    there: bool = True


_STAND = """\
#!/bin/sh
echo "$@" >>{log}
cat <<'END'
{report}
END
exit {code}
"""


@dataclass
class Play:
    """Where one playbook is run. `before` are variables that it is given each time."""

    folder: Path
    hosts: Hosts
    before: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def environment(self) -> dict[str, str]:
        self.folder.mkdir(exist_ok=True)
        return environment(
            HOME=str(self.folder),
            ANSIBLE_HOME=str(self.folder / "ansible"),
            ANSIBLE_LOCAL_TEMP=str(self.folder / "tmp"),
            ANSIBLE_CONFIG=None,
            ANSIBLE_COLLECTIONS_PATH=str(COLLECTIONS),
            ANSIBLE_CALLBACKS_ENABLED="miyabi.healing.reports",
            ANSIBLE_FORKS="10",
            ANSIBLE_NOCOLOR="1",
            ANSIBLE_PIPELINING="1",
            PYTHONDONTWRITEBYTECODE="1",
        )

    def command(self, name: str, *options: str, inventory: Path, **variables: object) -> list[str]:
        """`name` is a playbook of the collection, or a file."""
        wanted = json.dumps({**self.before, **variables})
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        playbook = name if "/" in name else f"miyabi.healing.{name}"
        return [program, "-i", str(inventory), playbook, "-e", wanted, *options]

    def run(
        self, name: str, *options: str, inventory: Path, **variables: object
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(name, *options, inventory=inventory, **variables),
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    def lines(self, label: str) -> list[dict[str, Any]]:
        """What the callback has written under that label so far; each line is whole."""
        file = self.folder / "miyabi-reports" / f"{label}.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def stands(self, *stands: Stand) -> Path:
        """An inventory of stand-ins, all reached by the first host's sshd."""
        self.folder.mkdir(exist_ok=True)
        lines = []
        for each in stands:
            port = self.hosts.hosts[0].port if each.reachable else 1
            lines.append(
                f"{each.name} ansible_host=127.0.0.1 ansible_port={port} "
                f"miyabi_executable={self._stand(each)}"
            )
        file = self.folder / "stands.ini"
        common = self.hosts.inventory().read_text().partition("[all:vars]")
        file.write_text("\n".join(lines) + "\n" + common[1] + common[2])
        return file

    def _stand(self, stand: Stand) -> Path:
        issues = [
            {"name": name, "target": "", "severity": "medium", "healed": stand.healed}
            for name in stand.found
        ]
        well = stand.healed or not issues
        report = {
            "run_id": "a", "overall_success": well, "summary": "Looked.", "errors": [],
            "issues_detected": issues, "actions_taken": [],
        }  # fmt: skip
        program = self.folder / f"stand-{stand.name}"
        log = self.folder / f"log-{stand.name}"
        if not stand.there:
            return program
        program.write_text(_STAND.format(log=log, report=json.dumps(report), code=0 if well else 1))
        program.chmod(0o755)
        return program

    def started(self) -> list[str]:
        """The stand-ins that were started, by their own logs."""
        return sorted(file.name.removeprefix("log-") for file in self.folder.glob("log-*"))


def recap(output: str) -> dict[str, dict[str, int]]:
    """Ansible's counts by host."""
    rows = output.partition("PLAY RECAP")[2].splitlines()[1:]
    return {
        row.split()[0]: {key: int(count) for key, count in (word.split("=") for word in words)}
        for row in rows
        if (words := [word for word in row.split() if "=" in word])
    }
