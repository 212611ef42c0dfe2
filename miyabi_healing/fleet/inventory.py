"""Which hosts an Ansible inventory and a pattern name."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from miyabi_healing.fleet.ansible_tools import ansible_tool, first_error
from miyabi_healing.fleet.worker import WorkerError
from miyabi_healing.support.formatting import display

_TIME_LIMIT = 120.0  # seconds; an inventory may be a program that asks a cloud
_VAULT = ("--vault-password-file", "--vault-pass-file", "--vault-id")
_UNPARSED = "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED"


def inventory_hosts(
    inventory: str,
    pattern: str = "all",
    arguments: Sequence[str] = (),
    meanwhile: Callable[[], None] = lambda: None,
) -> tuple[str, ...]:
    """The hosts that `pattern` names, in the inventory's order. `inventory` is a file, a folder, or
    a list with a comma; empty is what Ansible's own settings name. Of `arguments`, those to open a
    vault are heeded. `meanwhile` is called while Ansible reads. Raises WorkerError.
    """
    named = os.path.expanduser(inventory)
    if named and "," not in named and not Path(named).exists():
        raise WorkerError(f"there is no inventory {display(named)}")
    argv = [ansible_tool("ansible"), pattern, "--list-hosts", *_vault_arguments(arguments)]
    try:
        status, output, errors = _run([*argv, *(("-i", named) if named else ())], meanwhile)
    except subprocess.TimeoutExpired:
        raise WorkerError(f"the inventory gave no answer within {_TIME_LIMIT:g} s") from None
    except OSError as error:
        raise WorkerError(f"{argv[0]} could not be started: {error.strerror}") from None
    if status:
        raise WorkerError(f"the inventory cannot be read: {display(first_error(errors))}")
    if not named and "No inventory was parsed" in errors:
        raise WorkerError(
            "there is no inventory: name one by --inventory, by [fleet] inventory or in ansible.cfg"
        )
    # a line with how many they are, then each
    hosts = [each.strip() for each in output.splitlines()[1:]]
    if not hosts:
        raise WorkerError(f"no host of the inventory is meant by {display(pattern)}")
    for each in hosts:
        if each.startswith(("!", "&")):  # asked for alone, Ansible takes it for all but that one
            raise WorkerError(f"a host cannot be called {display(each)}: Ansible's patterns do so")
    return tuple(dict.fromkeys(hosts))


def _run(argv: Sequence[str], meanwhile: Callable[[], None]) -> tuple[int, str, str]:
    """The exit status, output and errors of a program that has a time limit, whatever it starts.
    Raises TimeoutExpired, OSError.
    """
    import psutil

    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={_UNPARSED: "True", **os.environ, "ANSIBLE_NOCOLOR": "1", "NO_COLOR": "1"},
    ) as process:
        try:
            meanwhile()
            output, errors = process.communicate(timeout=_TIME_LIMIT)
        except BaseException:
            # what it has started, such as a vault's program, may keep our end of its errors open
            with contextlib.suppress(psutil.Error):
                for each in psutil.Process(process.pid).children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        each.kill()
            process.kill()
            raise
    return process.returncode, output.decode("utf-8", "replace"), errors.decode("utf-8", "replace")


def _vault_arguments(arguments: Sequence[str]) -> list[str]:
    """What opens a vault, of arguments that are meant for ansible-playbook."""
    found: list[str] = []
    for number, each in enumerate(arguments):
        if each in _VAULT:
            found += arguments[number : number + 2]
        elif each.partition("=")[0] in _VAULT:
            found.append(each)
    return found
