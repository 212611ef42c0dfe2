"""Processes that the kernel has ended for want of memory, by its own log.

Each is one line (dump_oom_summary in mm/oom_kill.c, since Linux 4.20): ``oom-kill:constraint=…,
task_memcg=/build,task=git,pid=4711,uid=1000``. Only root may read it where dmesg_restrict is set.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass

_LOG = "/dev/kmsg"
_LINE = re.compile(
    rb"^\d+,\d+,(\d+),[^;]*;oom-kill:.*?task_memcg=([^,]*),task=(.*),pid=(\d+),uid=(\d+)"
)
_RECORD = 8192  # bytes: one read gives one record (Documentation/ABI/testing/dev-kmsg)
_MOST = 20_000  # records


@dataclass(frozen=True)
class Kill:
    """One of them: when, in seconds since the epoch; its `group` is a path below the top of the
    memory cgroups.
    """

    time: float
    pid: int
    uid: int
    program: str
    group: str


def read_kills() -> tuple[Kill, ...]:
    """What is in the log still, the oldest first; nothing where it cannot be read."""
    began = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
    found = []
    try:
        log = os.open(_LOG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ()
    try:
        for _ in range(_MOST):
            try:
                line = os.read(log, _RECORD)
            except BrokenPipeError:  # it was overwritten meanwhile; the next read goes on
                continue
            except OSError:  # EAGAIN: that was all
                break
            if kill := kill_of(line, began):
                found.append(kill)
    finally:
        os.close(log)
    return tuple(found)


def kill_of(line: bytes, began: float) -> Kill | None:
    """What a record of the log says, whose clock began then; None where it speaks of no kill."""
    match = _LINE.match(line)
    if match is None:
        return None
    stamp, group, task, pid, uid = match.groups()
    name = task.decode("utf-8", "backslashreplace")
    return Kill(began + int(stamp) / 1e6, int(pid), int(uid), name, os.fsdecode(group))
