"""What `install` has installed here, and whether it is at work: read from what it wrote, and asked
of systemd where that can be asked.

A user's own crontab can be read through ``crontab`` alone, which is started only where nothing else
was found.
"""

from __future__ import annotations

import calendar
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.cli.setup import service, service_steps, service_units
from miyabi_healing.cli.setup.service_trust import NotInstalled
from miyabi_healing.support import command_errors, commands

_PATIENCE = 3.0  # seconds for systemctl
_UNITS = {"s": 1, "min": 60, "h": 3600}
_WANTED_BY = ("timers.target", "multi-user.target", "default.target")


@dataclass(frozen=True)
class Installed:
    """A timer, watch service or line of cron that is ours.

    `every` are the seconds between two runs, `due` is when the next begins, in seconds since the
    epoch; each None where it cannot be told. `active` is whether the service manager has it at
    work, None where that cannot be asked. `remedy` is the command that puts right what is wrong.
    """

    kind: str
    every: float | None = None
    enabled: bool = True
    active: bool | None = None
    due: float | None = None
    remedy: str = ""


def find_installed() -> list[Installed]:
    """What is installed for this user and, for root, for the system. Raises nothing."""
    systems = (True, False) if os.geteuid() == 0 else (False,)
    found = [each for system in systems for each in _in_files(service.here(system))]
    return found or list(_in_crontab())


def _in_files(place: service.ServicePlace) -> Iterator[Installed]:
    for kind in service_units.KINDS:
        files = place.files(kind)
        text = _ours(files[-1]) if files else ""
        if not text:
            continue
        if kind == "cron":
            yield Installed(kind, _cron_interval(text))
        elif kind == "launchd":
            every = re.search(r"<key>StartInterval</key>\s*<integer>(\d+)</integer>", text)
            yield Installed(kind, float(every[1]) if every else None)
        else:
            yield _unit(kind, files[-1], text, place)


def _ours(path: Path) -> str:
    """The text of a file that `install` wrote; empty where there is none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text if service_units.MARKER in text else ""


def _unit(kind: str, file: Path, text: str, place: service.ServicePlace) -> Installed:
    """A timer, whose description says how often, or a watch, whose arguments do."""
    often = re.search(r"^Description=.*, every ([\d.]+) (s|min|h)$", text, re.MULTILINE)
    every = float(often[1]) * _UNITS[often[2]] if often else None
    if seconds := re.search(r"^ExecStart=.* --interval ([\d.]+)", text, re.MULTILINE):
        every = float(seconds[1])
    enabled = any(
        os.path.lexists(file.parent / f"{target}.wants" / file.name) for target in _WANTED_BY
    )
    active, due = _ask_systemd(file.name, place)
    user = "" if place.system else " --user"
    remedy = "" if enabled and active is not False else f"systemctl{user} enable --now {file.name}"
    return Installed(kind, every, enabled, active, due, remedy)


def _ask_systemd(name: str, place: service.ServicePlace) -> tuple[bool | None, float | None]:
    """Whether a unit is at work, and when a timer elapses next."""
    if not service_steps.runs("systemd-timer", place.system):
        return None, None
    asked = "--property=ActiveState,NextElapseUSecRealtime"
    argv = place.systemctl("show", asked, name).argv
    try:
        result = commands.run_program(
            argv,
            time_limit=_PATIENCE,
            environment={**service_steps.bus(), "TZ": "UTC"},
            whole_environment=True,
        )
    except command_errors.ToolError:
        return None, None
    said = dict(line.split("=", 1) for line in result.stdout.decode().splitlines() if "=" in line)
    if result.code or "ActiveState" not in said:
        return None, None
    due = re.search(r"\d+-\d\d-\d\d \d\d:\d\d:\d\d", said.get("NextElapseUSecRealtime", ""))
    active = said["ActiveState"] in ("active", "activating")
    return active, calendar.timegm(time.strptime(due[0], "%Y-%m-%d %H:%M:%S")) if due else None


def _cron_interval(text: str) -> float | None:
    """How often a line of ours begins a run, in seconds, by its fields (crontab(5))."""
    line = next((each for each in text.splitlines() if re.match(r"[\d*]", each)), "")
    minute, hour = (*line.split(), "", "")[:2]
    if not minute:
        return None
    if minute == "*":
        return 60
    if step := re.fullmatch(r"\d+-59/(\d+)", minute):
        return 60.0 * int(step[1])
    if hour == "*":
        return 3600
    # the star is of earlier versions
    step = re.fullmatch(r"(?:\*|\d+-23)/(\d+)", hour)
    return 3600.0 * int(step[1]) if step else 86_400


def _in_crontab() -> Iterator[Installed]:
    if not commands.find_program("crontab"):
        return
    try:
        text = service.crontab().decode("utf-8", "replace")
    except NotInstalled:
        return
    _, begin, block = text.partition(f"# BEGIN {service_units.MARKER}\n")
    if begin:
        yield Installed("cron", _cron_interval(block))
