"""Whether everything that the program rests on is there: one line a matter, with the way out.

Every look has a limit: nothing here waits for a mount, a tool or a server that does not answer.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sqlite3
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from miyabi_healing import __version__
from miyabi_healing.model.config import Config
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.state import run_lock, watch_presence
from miyabi_healing.state.journal import TooNew
from miyabi_healing.support import command_errors, commands, mount_answers, mount_table, paths
from miyabi_healing.support.formatting import (
    display,
    duration_text,
    interval_text,
    size_text,
    time_text,
    timestamp,
)
from miyabi_healing.support.invocation import own_command

OK, WARNING, PROBLEM = "ok", "warning", "problem"
_PATIENCE = 5.0  # seconds for a tool to say its version
_LITTLE_ROOM, _LEAST_ROOM = 100 << 20, 1 << 20  # bytes: what is set aside soon, or now, is too much
_NETWORK = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "9p",
    "fuse.sshfs",
)  # where flock(2) may not reach others
_PARTS = ("pytest", "pytest-json-report", "click", "msgspec", "platformdirs", "rich", "psutil")


@dataclass(frozen=True)
class Finding:
    """One line: how a matter stands (`OK`, `WARNING`, `PROBLEM`), and what to do about it."""

    topic: str
    state: str
    message: str
    way_out: str = ""

    def row(self) -> dict[str, str]:
        return asdict(self)


_Found = Iterator[Finding]


def diagnose(chosen: Config, broken: str) -> _Found:
    """Every line. `broken` is why the configuration cannot be read; then `chosen` are the defaults.

    What cannot be looked at is a line of its own, and the others are there.
    """
    looks: tuple[Callable[[Config], _Found], ...] = (
        _program, _configuration, _git, _caches, _rights, _mounts, _state, _journal, _lock,
        _services, _last_run, _alerts, _fleet,
    )  # fmt: skip
    for look in looks:
        if broken and look is _configuration:
            way = f"{own_command()} config check"
            yield Finding("configuration", PROBLEM, broken, f"{way} says all that is wrong")
            continue
        try:
            yield from look(chosen)
        except Exception as error:  # also what nobody thought of: the other lines count
            topic = look.__name__.strip("_").replace("_", " ")
            yield Finding(topic, PROBLEM, f"cannot be told: {type(error).__name__}: {error}")


def _program(_: Config) -> _Found:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("program", OK, f"miyabi-healing {__version__} in {display(paths.PACKAGE)}")
    known = {name: _version(name) for name in _PARTS}
    missing = [name for name, found in known.items() if not found]
    how = ", ".join(f"{name} {found}" for name, found in known.items() if found)
    yield Finding("Python", OK, f"{version} ({display(sys.executable)}); {how}")
    if missing:
        words = f"not installed: {', '.join(missing)}"
        yield Finding("Python", PROBLEM, words, "install the requirements again")
    if _no_zstd():
        yield Finding(
            "zstd", PROBLEM, "Python has no zstd: logs cannot be archived, so none is shortened",
            "pip install backports.zstd",
        )  # fmt: skip
    lock, made = paths.PACKAGE.parent / "requirements/runner.txt", Path(sys.prefix, "runner.txt")
    if made.is_file() and lock.is_file() and made.read_bytes() != lock.read_bytes():
        yield Finding(
            "environment", WARNING, f"{display(sys.prefix)} was made of another runner.txt",
            "./run_healing.sh makes it anew",
        )  # fmt: skip


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _no_zstd() -> bool:
    try:
        from miyabi_healing.support import zstd

        zstd.library()
    except ImportError:
        return True
    return False


def _configuration(chosen: Config) -> _Found:
    if not chosen.file:
        where = display(paths.config_candidates()[0])
        words = f"none: the defaults hold, and the repository of the current folder ({where})"
        yield Finding("configuration", OK, words, f"{own_command()} init writes one")
        return
    yield Finding("configuration", OK, display(chosen.file))


def _git(_: Config) -> _Found:
    if why := commands.missing("git"):
        yield Finding(
            "git", PROBLEM, f"{why}: worktrees cannot be judged, so none is cleared", "install git"
        )
        return
    try:
        said = commands.run_program(["git", "version"], time_limit=_PATIENCE).stdout.decode()
    except command_errors.ToolError as error:
        yield Finding("git", PROBLEM, str(error))
        return
    yield Finding("git", OK, f"{said.strip()} ({commands.find_program('git')})")


def _caches(chosen: Config) -> _Found:
    """Known caches that are there, while the tool that tidies them is not."""
    from miyabi_healing.host import cache_steps, caches

    lost: dict[str, str] = {}
    for cache in caches.find_caches(chosen.caches):
        ways = [each for each in (cache.kind.gentle, cache.kind.strong) if each]
        if (
            cache.allowed
            and ways
            and not any(cache_steps.is_installed(cache, each) for each in ways)
        ):
            by_path = cache.kind.deletable and not cache.kind.of_system
            rest = "it is cleaned by path alone" if by_path else "it is left alone"
            lost.setdefault(f"{ways[0][0]}", f"{display(cache.path)}: {rest}")
    for tool, what in lost.items():
        yield Finding("tools", WARNING, f"{tool} is not there for {what}", f"install {tool}")
    if not lost:
        yield Finding("tools", OK, "every known cache here has its tool, or needs none")


def _rights(chosen: Config) -> _Found:
    from miyabi_healing.host.readings import Host
    from miyabi_healing.support import ownership

    who = "root" if os.geteuid() == 0 else ownership.user_name(os.geteuid())
    limits = list(Host(chosen).witness().limits())
    sees = (
        "sees every process" if not limits else "does not see everything, and keeps what it doubts"
    )
    yield Finding("rights", OK, f"runs as {who}; {sees}")
    for each in limits:
        yield Finding("rights", WARNING, each)
    if note := paths.note_on_home():
        yield Finding("rights", WARNING, note)


def _mounts(_: Config) -> _Found:
    if mount_answers.may_block():
        for row in mount_table.mount_table():
            if row.can_block and mount_answers.is_silent(row.path):
                words = f"{row.name} does not answer: what lies there is unknown"
                yield Finding("mounts", WARNING, words, f"umount -l {display(row.path)}")


def _state(_: Config) -> _Found:
    state = paths.state_folder()
    there = paths.existing(state)
    mount = mount_table.mount_around(str(there))
    room = os.statvfs(there)
    free = room.f_bavail * room.f_frsize
    where = f"{display(state)} on {mount.name if mount else 'an unknown filesystem'}"
    if state.is_dir() and (reason := paths.distrust(state)):
        yield Finding(
            "state", PROBLEM, f"{display(state)} is not used: {reason}", "chown or chmod it"
        )
    elif not os.access(there, os.W_OK | os.X_OK) or os.statvfs(there).f_flag & os.ST_RDONLY:
        words = f"{where} cannot be written: nothing is healed, as nothing can be recorded"
        yield Finding("state", PROBLEM, words, "make it writable, or set XDG_STATE_HOME")
    elif free < _LEAST_ROOM:
        words = f"{where} has {size_text(free)} left: nothing more can be set aside"
        yield Finding("state", PROBLEM, words, f"{own_command()} space {display(there)}")
    elif free < _LITTLE_ROOM:
        yield Finding("state", WARNING, f"{where} has {size_text(free)} left")
    else:
        yield Finding("state", OK, f"{where}, {size_text(free)} free")
    if mount and mount.kind in _NETWORK:
        words = f"{where} is shared: runs of two hosts may be at work on it at once"
        yield Finding("state", WARNING, words, "set XDG_STATE_HOME to a disk of this host")
    if aside := paths.fallback_in_use(state):
        words = f"the journal is in {display(aside)}, as its own disk was full"
        yield Finding("state", WARNING, words, "a run takes it home once there is room")


def _journal(_: Config) -> _Found:
    from miyabi_healing.state.store import open_read_only

    state = paths.state_folder()
    file = (paths.fallback_in_use(state) or state) / paths.JOURNAL
    try:
        status = file.stat()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        words = "there is none yet" if missing else f"{display(file)}: {error.strerror}"
        yield Finding("journal", OK if missing else PROBLEM, words)
        return
    try:
        with open_read_only(state) as journal:
            if journal is None:
                words = f"{display(file)} cannot be read as a journal"
                way = "the next run sets it aside and begins another"
                yield Finding("journal", PROBLEM, words, way)
                return
            left = len(journal.unfinished())
            words = f"version {journal.version}, {size_text(status.st_size)}"
            yield Finding("journal", OK, words)
            if left and not run_lock.is_held(state):
                words = f"{left} step(s) were left half done"
                yield Finding("journal", WARNING, words, "the next run repairs them")
    except (OSError, TooNew, sqlite3.Error) as error:
        yield Finding("journal", PROBLEM, str(error))
    if stat.S_IMODE(status.st_mode) & 0o077:
        yield Finding("journal", WARNING, f"{display(file)} can be read by others", "chmod 600 it")


def _lock(_: Config) -> _Found:
    state = paths.state_folder()
    if not run_lock.is_held(state):
        yield Finding("lock", OK, "no run is at work")
        return
    holder = ""
    try:
        holder = (state / run_lock.FILE).read_text(encoding="utf-8")[:300].strip()
    except (OSError, ValueError):
        holder = ""
    yield Finding("lock", OK, f"a run is at work ({display(holder) or 'just started'})")


def _services(_: Config) -> _Found:
    from miyabi_healing.cli.setup.installed import find_installed

    watch = watch_presence.find_running(paths.state_folder())
    if watch:
        due = time_text(timestamp(watch.due))
        yield Finding("services", OK, f"a watch runs (process {watch.pid}); next run {due}")
    found = find_installed()
    for each in found:
        every = f" every {interval_text(each.every)}" if each.every else ""
        if each.remedy:
            words = f"{each.kind}{every} is installed, but not at work"
            yield Finding("services", PROBLEM, words, each.remedy)
        else:
            yield Finding("services", OK, f"{each.kind}{every} is installed")
    if not found and not watch:
        words = "nothing begins runs by itself"
        yield Finding("services", WARNING, words, f"{own_command()} install")


def _last_run(chosen: Config) -> _Found:
    from miyabi_healing.cli.setup.installed import find_installed
    from miyabi_healing.report.status import build_status
    from miyabi_healing.state.store import open_read_only

    state = paths.state_folder()
    with open_read_only(state) as journal:
        document = build_status(journal, state, chosen, find_installed())
    if document["last_pass"] is None:
        yield Finding("last run", WARNING, "none yet; a dry run does not count", own_command())
        return
    age = duration_text(max(document["age_seconds"], 0))
    when = f"{time_text(document['last_pass'])}, {age} ago"
    if document["stale"]:
        part = " of a part of the checks" if document["left_out"] else ""
        words = f"{when}{part}: runs of all should be no further apart than {_interval(document)}"
        yield Finding("last run", WARNING, words, own_command())
    else:
        yield Finding("last run", OK, f"{when}; {own_command()} status says how it stands")


def _interval(document: dict[str, object]) -> str:
    return duration_text(float(str(document["stale_after_seconds"])))


def _alerts(chosen: Config) -> _Found:
    from miyabi_healing.report.outputs import dispatch
    from miyabi_healing.support import secrets

    complaints: list[str] = []
    to = dispatch.channels(chosen, complaints.append)
    for each in complaints:
        yield Finding("alerts", PROBLEM, each)
    if to:
        names = ", ".join(each.name for each in to)
        yield Finding("alerts", OK, f"to {names}", f"{own_command()} doctor --alert tries them")
    elif not complaints:
        yield Finding("alerts", OK, "none are set up")
    if chosen.ping.url_file and secrets.PING not in secrets.withdrawn:
        file = Path(chosen.ping.url_file).expanduser()
        secrets.secret_lines(file)
        yield Finding("ping", OK, f"set up in {display(file)}")


def _fleet(chosen: Config) -> _Found:
    """Whether the store of a fleet takes reports, where this host makes any."""
    if not chosen.fleet.report:
        return
    from miyabi_healing.report import fleet_store

    try:
        fleet_store.try_to_keep(chosen.fleet.store, chosen.fleet.report_time_limit)
    except fleet_store.StoreProblem as error:
        yield Finding("fleet", PROBLEM, str(error), "[fleet] in the configuration")
        return
    every = duration_text(chosen.fleet.report_every)
    yield Finding("fleet", OK, f"the store takes this host's reports: changes, else every {every}")


def send_test(chosen: Config) -> _Found:
    """Send a message to every channel of alerts, within the time that a run may spend on it."""
    from miyabi_healing.report.alerts.alert import Alert
    from miyabi_healing.report.alerts.message import Message, NotSent
    from miyabi_healing.report.alerts.queue import try_channel
    from miyabi_healing.report.outputs import dispatch

    complaints: list[str] = []
    to = dispatch.channels(chosen, complaints.append)
    for each in complaints:
        yield Finding("test message", PROBLEM, each)
    if not to and not complaints:
        words = "no alerts are set up, so there is nobody to send one to"
        yield Finding("test message", PROBLEM, words, "[alerts] in the configuration")
    text = "This is a test: nothing is wrong, and nothing was changed."
    alert = Alert(
        "test", "", "", "low", text, None, None, "", (), "", "Nothing to do.", time.time()
    )
    message = Message(os.uname().nodename, "doctor", timestamp(), (alert,))
    for channel in to:
        try:
            try_channel(channel, message, chosen.alerts.time_limit)
            yield Finding("test message", OK, f"{channel.name} took it")
        except NotSent as error:
            words = f"{channel.name} did not take it: {error}"
            yield Finding("test message", PROBLEM, words, "look at the address and the network")


def exit_code(found: list[Finding]) -> int:
    bad = any(each.state == PROBLEM for each in found)
    return ExitCode.ISSUES if bad else ExitCode.HEALTHY
