"""Who is at work with a cache: its owner's programs, of the same user with the same home. Looks
only.

Another user's npm uses another cache, and so does one of the same user with another home. What has
the cache open counts whatever home it has. We ourselves, what we run below and what we started
never do.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from miyabi_healing.host.caches import Cache
from miyabi_healing.host.process_status import LINUX, PROC, Process, command_line, command_psutil
from miyabi_healing.host.processes import Processes, program_names
from miyabi_healing.host.unseen_users import reaches, rights
from miyabi_healing.host.users import Witness
from miyabi_healing.support import ownership
from miyabi_healing.support.files import is_within


@dataclass(frozen=True)
class _Running:
    """A living process, what it may be called, and its program with all arguments."""

    process: Process
    names: frozenset[str]
    arguments: tuple[str, ...]


class CacheOwners:
    """One look at the programs that run. `witness` knows who has which file open."""

    def __init__(self, processes: Processes, witness: Witness) -> None:
        self._processes, self._witness = processes, witness
        self._variables: dict[int, Mapping[str, str] | None] = {}

    @cached_property
    def _running(self) -> tuple[_Running, ...]:
        """All but zombies and ourselves: what we run below, and what we started."""
        everyone = {each.pid: each for each in self._processes.all()}
        found = []
        above = _above(os.getpid(), everyone)
        for pid, process in everyone.items():
            if process.state in "ZX" or pid in above or os.getpid() in _above(pid, everyone):
                continue
            program, arguments = command_line(pid) if LINUX else command_psutil(pid)
            names = program_names(process, program, arguments)
            found.append(_Running(process, frozenset(names), (program, *arguments)))
        return tuple(found)

    def of(self, cache: Cache) -> Process | None:
        """An owner of a cache that is at work with it, or cannot be told to be at another one;
        None where there is none.
        """
        wanted = set(cache.kind.users)
        named = [each.process for each in self._running if wanted & each.names] if wanted else []
        if not named or cache.kind.of_system:
            return next(iter(named), None)
        holders = {each.pid for each in self._witness.files.beneath(cache.path)}
        for process in named:
            if process.pid in holders or self._is_at_home(process, cache):
                return process
        return None

    def named_below(self, folder: Path) -> tuple[tuple[str, Process], ...]:
        """What the command lines and variables of programs name below a folder, and who: files that
        are read when they are needed are not open all the time (a server that npx started).
        """
        tops = {os.path.realpath(folder), str(folder)}
        return tuple(
            (word, process)
            for word, process in self._named.items()
            if any(is_within(word, top) for top in tops)
        )

    @cached_property
    def _named(self) -> Mapping[str, Process]:
        """Every path that a program was started with, and one that was."""
        found: dict[str, Process] = {}
        for each in self._running:
            texts = [*each.arguments, *(self._told(each.process) or {}).values()]
            for text in texts:
                for word in re.split(r"[:=,\s]", text) if "/" in text else ():
                    if word.startswith("/"):
                        found.setdefault(word.rstrip("/"), each.process)
        return found

    def _is_at_home(self, process: Process, cache: Cache) -> bool:
        """Whether a process is the same user's, or root's, with the same home, or with a variable
        that names a folder around the cache; also where that cannot be told.
        """
        try:
            uid = rights(process.pid).uid if LINUX else process.uid
        except ProcessLookupError:
            return False
        except (OSError, LookupError, ValueError):
            uid = process.uid
        if uid not in (cache.owner, ownership.ROOT):  # sudo may leave HOME as it was
            return False
        if process.pid in self._witness.files.elsewhere:
            return self._gets_to(process, cache)  # its own words for places mean nothing here
        told = self._told(process)
        home = (told or {}).get("HOME", "")
        if not home.startswith("/"):
            try:
                home = pwd.getpwuid(uid).pw_dir
            except KeyError:
                return True
        if os.path.realpath(home) == os.path.realpath(cache.home):
            return True
        return any(
            value.startswith("/") and is_within(str(cache.path), value.rstrip("/"))
            for name, value in (told or {}).items()
            if value != "/" and name not in ("PWD", "OLDPWD", "HOME")
        )

    def _gets_to(self, process: Process, cache: Cache) -> bool:
        """Whether a process with other mounts than ours has any by which it gets to a cache."""
        try:
            return reaches(process, rights(process.pid), self._witness.way(cache.path))
        except ProcessLookupError:
            return False
        except (OSError, LookupError, ValueError):
            return True

    def _told(self, process: Process) -> Mapping[str, str] | None:
        """The variables of a process; None where they cannot be read."""
        if process.pid not in self._variables:
            self._variables[process.pid] = _variables(process.pid)
        return self._variables[process.pid]


def _above(pid: int, everyone: Mapping[int, Process]) -> set[int]:
    """A process and everything it runs below."""
    found: set[int] = set()
    while pid > 0 and pid not in found:
        found.add(pid)
        pid = everyone[pid].ppid if pid in everyone else 0
    return found


def _variables(pid: int) -> Mapping[str, str] | None:
    """What a process was started with (proc_pid_environ(5)); None where that cannot be read."""
    if not LINUX:
        import psutil

        try:
            return psutil.Process(pid).environ()
        except (psutil.Error, OSError):
            return None
    try:
        with open(f"{PROC}/{pid}/environ", "rb") as file:
            rows = os.fsdecode(file.read(1 << 20)).split("\0")
    except OSError:
        return None
    return dict(row.split("=", 1) for row in rows if "=" in row)
