"""What starts the program for good: systemd's units, launchd's property list, cron's line. Renders
texts and writes nothing.

The texts of the units are in ``templates/``; ``deploy/`` shows them as they are installed.
"""

from __future__ import annotations

import os
import re
import shlex
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from miyabi_healing.support.formatting import interval_text

MARKER = "Written by miyabi-healing install"
UNIT_NAME = "miyabi-healing"
KINDS = ("systemd-timer", "systemd-watch", "launchd", "cron")
INTERVALS = {"systemd-watch": 300}  # seconds between two runs where none were asked for
INTERVAL = 900
MINUTES = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)  # calendars repeat by the hour and by the day
HOURS = (1, 2, 3, 4, 6, 8, 12, 24)
_MORE_TOOLS = "/usr/local/bin:/opt/homebrew/bin"  # neither cron nor launchd looks there


class Unusable(Exception):
    """What was asked for cannot be expressed in a unit; the message says why, and what can."""


@dataclass(frozen=True)
class Job:
    """What to start (`program` with its first arguments), how often (in seconds), and whether for
    the system or one user.

    `environment` are the folders that its configuration and state were moved to: a service knows
    nothing of a shell's.
    """

    program: tuple[str, ...]
    interval: float
    system: bool
    home: Path = Path("~")
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for word in (*self.program, *self.environment.values()):
            if not word.isprintable():
                raise Unusable(
                    f"{word!r} is a name that neither systemd nor cron can "
                    "write; move the program or the file"
                )


def _template(name: str) -> str:
    return (
        resources.files("miyabi_healing.cli.setup")
        .joinpath("templates", name)
        .read_text(encoding="utf-8")
    )


def fill(text: str, **values: str) -> str:
    """Put the values in place of ``@NAME@``; what is inside a value is left as it is."""
    return re.sub("@([A-Z]+)@", lambda found: values[found[1]], text)


def _systemd_word(word: str) -> str:
    """One word of an ``ExecStart=`` line: quoted, without specifiers (systemd.syntax(7),
    systemd.unit(5)).
    """
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def _systemd_program(program: Sequence[str]) -> str:
    """The beginning of an ``ExecStart=`` line. The colon keeps systemd from replacing ``$NAME``
    (systemd.service(5)).

    Raises Unusable for a program whose name systemd does not take, however it is quoted (its
    string_is_safe()).
    """
    if set(program[0]) & set("'\"\\"):
        raise Unusable(
            "systemd starts no program with quotes or backslashes in its name, "
            f"like {program[0]}; move it, or use cron"
        )
    return ":" + " ".join(_systemd_word(word) for word in program)


def render_unit(name: str, job: Job) -> str:
    """One of the units as it is installed. Raises Unusable."""
    hardening = _template("hardening.conf") + (
        _template("hardening-system.conf") if job.system else ""
    )
    folders = "".join(
        f"\nEnvironment={_systemd_word(f'{name}={value}')}"
        for name, value in job.environment.items()
    )
    shared = fill(_template("shared.conf"), HARDENING=hardening.rstrip("\n"), ENVIRONMENT=folders)
    timed = name.endswith(".timer")
    return fill(
        _template(name),
        MARKER=MARKER,
        PROGRAM=_systemd_program(job.program),
        SECONDS=f"{job.interval:g}",
        SHARED=shared.rstrip("\n"),
        TARGET="multi-user.target" if job.system else "default.target",
        EVERY=interval_text(job.interval),
        CALENDAR=calendar(job.interval) if timed else "",
        DELAY=f"{job.interval:g}",
        ACCURACY=f"{max(job.interval / 100, 1):g}",
    )


def _repeats(seconds: float) -> tuple[int, int]:
    """An interval as so many minutes or so many hours (the other is 0). Raises Unusable where no
    calendar can repeat it.
    """
    minutes, hours = seconds / 60, seconds / 3600
    if minutes in MINUTES:
        return int(minutes), 0
    if hours in HOURS:
        return 0, int(hours)
    raise Unusable(
        f"a timer or cron cannot repeat every {seconds:g} s; "
        f"it can every {', '.join(map(str, MINUTES))} minutes or every "
        f"{', '.join(map(str, HOURS))} hours, and --kind systemd-watch at any interval"
    )


def calendar(seconds: float) -> str:
    """An interval for ``OnCalendar=`` (systemd.time(7)). Raises Unusable.

    In UTC: by a local clock, systemd leaves out the hour that comes twice when summer time ends.
    """
    minutes, hours = _repeats(seconds)
    if minutes:
        return f"*:0/{minutes} UTC"
    return "00:00 UTC" if hours == 24 else f"0/{hours}:00 UTC"


def cron_times(seconds: float, host: str) -> str:
    """An interval as the five fields of crontab(5); each host has its own minute of it.

    Raises Unusable.
    """
    minutes, hours = _repeats(seconds)
    place = zlib.crc32(host.encode())
    if minutes:
        return "* * * * *" if minutes == 1 else f"{place % minutes}-59/{minutes} * * * *"
    if hours == 24:
        return f"{place % 60} {place // 60 % 24} * * *"
    first = place // 60 % hours
    return f"{place % 60} {first}-23/{hours} * * *" if hours > 1 else f"{place % 60} * * * *"


def _cron_word(word: str) -> str:
    """One word of a command in a crontab: quoted for sh, and without the ``%`` that cron takes for
    the end of a line.

    A backslash outside quotes is taken away by cron or, where cron does not do that, by sh.
    """
    quoted = shlex.quote(word)
    return quoted.replace("%", "'\\%'" if quoted.startswith("'") else "\\%")


def _cron_command(job: Job) -> str:
    """What cron starts: it ends with the program's status, and not with the logger's, which a pipe
    has (POSIX, 2.9.2). Only a user's own has more on its PATH: root takes no tools from folders
    that users may own.
    """
    path = "" if job.system else f'PATH="$PATH:{_MORE_TOOLS}" '
    folders = "".join(f"{name}={_cron_word(value)} " for name, value in job.environment.items())
    program = " ".join(map(_cron_word, job.program))
    started = f"{path}{folders}{program} --quiet 2>&1 3>&-; echo $? >&3"
    return f"exit $({{ {{ {started}; }} | logger -t {UNIT_NAME} >/dev/null 3>&-; }} 3>&1)"


def cron_block(job: Job, host: str) -> str:
    """The lines of a user's crontab that are ours. Raises Unusable."""
    return (
        f"# BEGIN {MARKER}\n{cron_times(job.interval, host)} {_cron_command(job)}\n# END {MARKER}\n"
    )


def cron_file(job: Job, host: str) -> str:
    """A file for ``/etc/cron.d``. Raises Unusable."""
    return f"# {MARKER}\n{cron_times(job.interval, host)} root {_cron_command(job)}\n"


def without_block(crontab: bytes) -> bytes:
    """A user's crontab without our lines, the others byte for byte. Raises Unusable where our lines
    have no end.
    """
    begin, end = f"# BEGIN {MARKER}\n".encode(), f"# END {MARKER}\n".encode()
    while (start := crontab.find(begin)) >= 0:
        stop = crontab.find(end, start)
        if stop < 0:
            raise Unusable(
                f"the crontab has a line {begin.decode().strip()!r} without the "
                "line that ends it; mend it by hand"
            )
        crontab = crontab[:start] + crontab[stop + len(end) :]
    return crontab


def property_list(job: Job) -> bytes:
    """What launchd starts (launchd.plist(5))."""
    import plistlib

    logs = Path("/Library/Logs") if job.system else job.home / "Library" / "Logs"
    entries: dict[str, object] = {
        "Label": UNIT_NAME,
        "ProgramArguments": [*job.program, "--quiet"],
        "StartInterval": max(int(job.interval), 1),
        "RunAtLoad": True,
        "ProcessType": "Background",
        "LowPriorityIO": True,
        "Nice": 10,
        "ExitTimeOut": 120,  # seconds to finish or take back the step in hand
        "StandardOutPath": os.fspath(logs / f"{UNIT_NAME}.log"),
        "StandardErrorPath": os.fspath(logs / f"{UNIT_NAME}.log"),
    }
    path = {} if job.system else {"PATH": f"/usr/bin:/bin:/usr/sbin:/sbin:{_MORE_TOOLS}"}
    if variables := {**path, **job.environment}:
        entries["EnvironmentVariables"] = variables
    head, _, body = plistlib.dumps(entries, sort_keys=False).partition(b"<plist")
    return head + f"<!-- {MARKER} -->\n".encode() + b"<plist" + body
