"""Ansible's programs and the user's settings of it. Nothing of Ansible is imported here."""

from __future__ import annotations

import configparser
import importlib.util
import os
import shutil
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from miyabi_healing.fleet.worker import WorkerError

MISSING = (
    f"reaching hosts needs Ansible, which {sys.prefix} does not have: this program has to be "
    "installed as miyabi-healing[fleet]"
)


def ansible_tool(name: str) -> str:
    """The path of one of Ansible's programs: of this environment, else by PATH. Raises
    WorkerError.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(name)
    if found is None:
        raise WorkerError(MISSING)
    return found


def require_ansible() -> None:
    """Raises WorkerError where what asks hosts is not installed."""
    ansible_tool("ansible-playbook")
    if importlib.util.find_spec("ansible_runner") is None:
        raise WorkerError(MISSING)


def first_error(output: str) -> str:
    """The line in which one of Ansible's programs says why it did nothing; the last one where none
    says so.
    """
    lines = [each.strip() for each in output.splitlines() if each.strip()]
    for each in lines:
        for mark in ("[ERROR]:", "ERROR!", "error:"):
            if mark in each:
                return each.partition(mark)[2].strip()
    return lines[-1] if lines else "it said nothing"


def config_file(environment: Mapping[str, str], folder: Path) -> Path | None:
    """The ansible.cfg that holds in a folder (Ansible's documentation, "The configuration file"):
    not one in a folder that everybody can write.
    """
    found = []
    if named := environment.get("ANSIBLE_CONFIG"):
        path = Path(named).expanduser()
        found.append(path / "ansible.cfg" if path.is_dir() else path)
    if not folder.stat().st_mode & stat.S_IWOTH:
        found.append(folder / "ansible.cfg")
    found += [Path("~/.ansible.cfg").expanduser(), Path("/etc/ansible/ansible.cfg")]
    return next((each for each in found if each.is_file()), None)


def user_has_set(environment: Mapping[str, str], folder: Path, *names: str) -> bool:
    """Whether any of some settings is made by the environment or ansible.cfg: ``pipelining`` is
    also ANSIBLE_PIPELINING and ANSIBLE_SSH_PIPELINING. Yes where the file cannot be read.
    """
    upper = [each.upper() for each in names]
    if any(
        f"ANSIBLE_{part}{each.removeprefix('SSH_')}" in environment
        for each in upper
        for part in ("", "SSH_")
    ):
        return True
    file = config_file(environment, folder)
    if file is None:
        return False
    parser = configparser.RawConfigParser(strict=False, inline_comment_prefixes=(";",))
    try:
        parser.read(file, encoding="utf-8")
    except (configparser.Error, OSError, ValueError):
        return True
    return any(parser.has_option(section, each) for section in parser.sections() for each in names)
