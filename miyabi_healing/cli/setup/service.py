"""Installing the program as a service: what goes where, what is started, and whether what is
started can be trusted.

Only files with our marker are ever replaced or removed. Everything is a list of small steps, so
that a dry run shows exactly what would be done.
"""

from __future__ import annotations

import os
import stat
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.cli.setup import service_units
from miyabi_healing.cli.setup.service_steps import (
    STEP_TIME_LIMIT,
    RemoveFile,
    RunProgram,
    ServiceStep,
    WriteFile,
    booted,
    runs,
)
from miyabi_healing.cli.setup.service_trust import NotInstalled
from miyabi_healing.support import command_errors, commands, paths
from miyabi_healing.support.formatting import display


@dataclass(frozen=True)
class ServicePlace:
    """Where services go: for the system or for one user, with that user's home."""

    system: bool
    home: Path
    host: str

    @property
    def unit_folder(self) -> Path:
        if self.system:
            return Path("/etc/systemd/system")
        moved = os.environ.get("XDG_CONFIG_HOME", "")
        return (Path(moved) if os.path.isabs(moved) else self.home / ".config") / "systemd" / "user"

    def files(self, kind: str) -> tuple[Path, ...]:
        """The files a kind of service consists of; a user's crontab is none."""
        if kind == "launchd":
            top = (
                Path("/Library/LaunchDaemons")
                if self.system
                else self.home / "Library" / "LaunchAgents"
            )
            return (top / f"{service_units.UNIT_NAME}.plist",)
        if kind == "cron":
            return (Path("/etc/cron.d") / service_units.UNIT_NAME,) if self.system else ()
        names = (
            (f"{service_units.UNIT_NAME}-watch.service",)
            if kind == "systemd-watch"
            else (f"{service_units.UNIT_NAME}.service", f"{service_units.UNIT_NAME}.timer")
        )
        return tuple(self.unit_folder / name for name in names)

    def systemctl(self, verb: str, *arguments: str, may_fail: bool = False) -> RunProgram:
        offline = verb in ("enable", "disable") and not booted()
        return RunProgram(
            ("systemctl", *(() if self.system else ("--user",)), verb, *arguments),
            may_fail=may_fail,
            offline=offline,
        )

    @property
    def domain(self) -> str:
        """launchd's name for where our job lives (launchctl(1))."""
        return "system" if self.system else f"gui/{os.getuid()}"


def here(system: bool) -> ServicePlace:
    return ServicePlace(system, Path.home(), os.uname().nodename)


def default_kind(system: bool) -> str:
    """What starts programs on this host."""
    if sys.platform == "darwin":
        return "launchd"
    return "systemd-timer" if runs("systemd-timer", system) else "cron"


def moved_folders() -> dict[str, str]:
    """Where configuration, state and caches were moved to; else the service would keep a journal of
    its own elsewhere.
    """
    names = ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")
    return {name: os.environ[name] for name in names if os.path.isabs(os.environ.get(name, ""))}


def program(config_file: str | None) -> tuple[str, ...]:
    """How this program is started from anywhere: run_healing.sh of a checkout, or the installed
    miyabi-healing.
    """
    more = ("--config", os.path.abspath(os.path.expanduser(config_file))) if config_file else ()
    script = paths.PACKAGE.parent / "run_healing.sh"
    if script.is_file():
        return (str(script), *more)
    for found in (Path(sys.argv[0]), Path(sysconfig.get_path("scripts")) / service_units.UNIT_NAME):
        if found.name == service_units.UNIT_NAME and os.access(found, os.X_OK):
            return (str(found.resolve()), *more)
    return (sys.executable, "-m", "miyabi_healing", *more)


def _is_ours(path: Path) -> bool:
    """Whether we wrote what is at `path`. Raises NotInstalled for what others wrote, and for what
    is no file.
    """
    try:
        status = path.lstat()
        text = path.read_bytes()[:1000] if stat.S_ISREG(status.st_mode) else b""
    except FileNotFoundError:
        return False
    except OSError as error:
        raise NotInstalled(f"{display(path)}: {error.strerror}") from None
    if service_units.MARKER.encode() not in text:
        raise NotInstalled(
            f"{display(path)} was not written by miyabi-healing install; move it away first"
        )
    return True


def crontab() -> bytes:
    """The user's crontab; empty where there is none. Raises NotInstalled."""
    try:
        result = commands.run_program(
            ("crontab", "-l"), time_limit=STEP_TIME_LIMIT, whole_environment=True
        )
    except command_errors.ToolError as error:
        raise NotInstalled(str(error)) from None
    if result.code and not any(
        words in result.stderr for words in (b"no crontab", b"No such file")
    ):
        raise NotInstalled(f"crontab -l: {result.complaint}")
    return result.stdout if result.code == 0 else b""


def steps_to_install(kind: str, job: service_units.Job, place: ServicePlace) -> list[ServiceStep]:
    """Everything to do for one kind of service; other kinds of ours are removed first. Raises
    NotInstalled, service_units.Unusable.
    """
    contents = {
        "launchd": lambda _: service_units.property_list(job),
        "cron": lambda _: service_units.cron_file(job, place.host).encode(),
    }
    render: Callable[[Path], bytes] = contents.get(
        kind, lambda path: service_units.render_unit(path.name, job).encode()
    )
    written: list[ServiceStep] = [WriteFile(path, render(path)) for path in place.files(kind)]
    for path in place.files(kind):
        _is_ours(path)
    steps = [*steps_to_remove([each for each in removable(place) if each != kind], place), *written]
    if kind == "cron" and not place.system:
        before = service_units.without_block(crontab())
        before += b"\n" if before and not before.endswith(b"\n") else b""
        steps.append(
            RunProgram(
                ("crontab", "-"), stdin=before + service_units.cron_block(job, place.host).encode()
            )
        )
    elif kind == "cron" and not Path("/etc/cron.d").is_dir():
        raise NotInstalled("this cron has no /etc/cron.d; choose another --kind, or --user")
    elif kind == "launchd":
        old = RunProgram(
            ("launchctl", "bootout", f"{place.domain}/{service_units.UNIT_NAME}"), may_fail=True
        )
        steps += [
            old,
            RunProgram(("launchctl", "bootstrap", place.domain, str(place.files(kind)[0]))),
        ]
    elif kind.startswith("systemd"):
        name = place.files(kind)[-1].name
        steps += [
            place.systemctl("daemon-reload"),
            place.systemctl("enable", name),
            place.systemctl("restart", name),
        ]
    return steps


def removable(place: ServicePlace) -> list[str]:
    """The kinds of service that can be there: no crontab of a user's where there is no cron."""
    return [
        kind
        for kind in service_units.KINDS
        if kind != "cron" or place.system or commands.find_program("crontab")
    ]


def steps_to_remove(kinds: Sequence[str], place: ServicePlace) -> list[ServiceStep]:
    """Everything to do for these kinds to be gone: stopped first, then removed. Raises
    NotInstalled, service_units.Unusable.
    """
    steps: list[ServiceStep] = []
    for kind in kinds:
        present = [path for path in place.files(kind) if _is_ours(path)]
        if kind == "cron" and not place.system:
            before = crontab()
            after = service_units.without_block(before)
            if after != before:
                steps.append(
                    RunProgram(("crontab", "-"), stdin=after)
                    if after.strip()
                    else RunProgram(("crontab", "-r"))
                )
        if not present:
            continue
        if kind == "launchd":
            steps.append(
                RunProgram(
                    ("launchctl", "bootout", f"{place.domain}/{service_units.UNIT_NAME}"),
                    may_fail=True,
                )
            )
        elif kind.startswith("systemd"):
            name = place.files(kind)[-1].name
            steps += [place.systemctl("disable", name), place.systemctl("stop", name)]
            if name.endswith(".timer"):  # systemd remembers when it last ran, for Persistent=
                steps.append(place.systemctl("clean", "--what=state", name, may_fail=True))
        steps += [RemoveFile(path) for path in present]
        if kind.startswith("systemd"):
            steps.append(place.systemctl("daemon-reload"))
    return steps
