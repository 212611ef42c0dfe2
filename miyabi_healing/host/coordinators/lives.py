"""Whether a process lives, when it began, and whether it gets on with anything. Looks only."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property

from miyabi_healing.host.process_status import LINUX, PROC, Process, living, read_process
from miyabi_healing.host.process_status import read_status as read_rows

MARGIN = 2.0  # seconds: /proc/stat has the time of the boot in whole ones


def living_process(pid: int) -> Process | None:
    """A process that is not dead; None where there is none. Raises PermissionError where there is
    one that cannot be looked at (hidepid in proc(5)).
    """
    process = read_process(pid) if pid > 0 else None
    if process is None and pid > 0 and _is_there(pid):
        raise PermissionError(f"pid {pid} lives and cannot be looked at")
    if process is None or process.is_zombie or process.state == "X" or _is_thread(pid):
        return None
    return process


def _is_there(pid: int) -> bool:
    """A pidfd is had of processes that /proc hides, too (pidfd_open(2))."""
    if not hasattr(os, "pidfd_open"):
        import psutil

        return psutil.pid_exists(pid)
    try:
        os.close(os.pidfd_open(pid))
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # no process has such a number
        return pid < MOST_PIDS and not _is_thread(pid)
    return read_process(pid) is None  # else it has begun between the two looks


def thread(pid: int) -> Process | None:
    """The thread that has a number, where it is no process's."""
    return read_process(pid) if 0 < pid < MOST_PIDS and _is_thread(pid) else None


class Inside:
    """The processes in PID namespaces below ours, as in containers of this host, by the numbers
    that they have there and call themselves by. Looked for when first asked.
    """

    @cached_property
    def _by_number(self) -> dict[int, list[Process]]:
        found: dict[int, list[Process]] = {}
        for each in living() if LINUX else ():
            with suppress(OSError):  # it has ended
                for number in read_rows(each.pid).get("NSpid", "").split()[1:]:
                    found.setdefault(int(number), []).append(each)
        return found

    def called(
        self, pid: int, start: int | None = None, until: float | None = None
    ) -> Process | None:
        """Who has that number there, and, where they are known, that start time, and began not
        after `until`.
        """
        for each in self._by_number.get(pid, ()):
            if start in (None, each.start) and (until is None or began(each) <= until + MARGIN):
                return each
        return None


MOST_PIDS = 1 << 22  # PID_MAX_LIMIT in the kernel's threads.h


def _is_thread(pid: int) -> bool:
    """/proc has a folder for the number of each thread, too, and does not list it."""
    try:
        return LINUX and read_rows(pid).get("Tgid") != str(pid)
    except OSError:
        return False


def age(process: Process) -> float:
    """For how many seconds it has been there, by the clock that counts from the boot."""
    if not LINUX:
        return time.time() - process.start / 1000
    return time.clock_gettime(time.CLOCK_BOOTTIME) - process.start / os.sysconf("SC_CLK_TCK")


def began(process: Process) -> float:
    """When it began, in seconds since the epoch, as the wall clock has it now; or earlier, where
    that was set forward since: the kernel dates a folder of /proc when it is first looked at, and
    its process has begun by then.
    """
    now = time.time() - age(process)
    try:
        return min(now, os.stat(PROC / str(process.pid)).st_mtime) if LINUX else now
    except OSError:
        return now


def stopped(process: Process) -> bool:
    """Whether somebody has stopped it (SIGSTOP), and no debugger holds it."""
    now = read_process(process.pid)
    if now is None or now.start != process.start or now.state != "T":
        return False
    try:
        return not LINUX or read_rows(process.pid).get("TracerPid", "0") == "0"
    except OSError:
        return False


def _below(process: Process, without: frozenset[int]) -> tuple[Process, ...]:
    """All that descend from it, itself first; not through those that are left out."""
    children: dict[int, list[Process]] = {}
    for each in living():
        children.setdefault(each.ppid, []).append(each)
    found = [process]
    for each in found:
        found += (one for one in children.get(each.pid, ()) if one.pid not in without)
    return tuple(found)


def progress(process: Process, without: frozenset[int]) -> frozenset[tuple[object, ...]]:
    """What a process and all below it, but for the pids in `without`, have come to: processor time
    and context switches of each thread. Another value later is a sign of life.
    """
    return frozenset(mark for each in _below(process, without) for mark in _marks(each.pid))


def _marks(pid: int) -> Iterator[tuple[object, ...]]:
    if not LINUX:
        import psutil

        with suppress(psutil.Error):
            process = psutil.Process(pid)
            yield pid, tuple(process.cpu_times()), tuple(process.num_ctx_switches())
        return
    with suppress(OSError):  # it has ended: the next look has one less
        for task in os.listdir(PROC / str(pid) / "task"):
            rows = read_rows(f"{pid}/task/{task}")
            switches = rows.get("voluntary_ctxt_switches"), rows.get("nonvoluntary_ctxt_switches")
            text = (PROC / str(pid) / "task" / task / "stat").read_bytes().rpartition(b") ")[2]
            yield pid, task, *switches, *text.split()[11:13]
