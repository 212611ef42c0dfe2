"""Processes whose parent is gone: what took them over is init, or a user's service manager, they
have no terminal, and nobody of their session is left above them. Looks only.

Every run asks this of the whole host, so it goes from the cheapest question to the dearest:
who the children of the few are that take over orphans (``children`` in proc_tid_children(5)),
who leads a session (getsid(2)), and only of those left what their ``stat`` and ``cgroup`` say.
"""

from __future__ import annotations

import fnmatch
import os
from collections import Counter

from miyabi_healing.host.process_status import LINUX, PROC, Process, _numbers, living, read_process

INIT = 1
MANY = 2  # of one program
LARGE = 500_000_000  # bytes, of one alone
_USER_MANAGER = "systemd"  # the name of systemd --user, which is a subreaper (prctl(2))
# scopes that hold a whole login, or whatever an app has started; their own main process aside
_SHARED_SCOPES = (
    "session-*.scope",
    "app-*.scope",
    "vte-spawn-*.scope",
    "tmux-spawn-*.scope",
    "snap.*.scope",
)


def many_or_large() -> tuple[Process, ...]:
    """Those of them that are not alone of their name, or have much in memory: on most hosts none.
    The kernel's short name will do, which is the same for all of one program.
    """
    found = reparented_processes()
    alike = Counter(each.name for each in found)
    return tuple(each for each in found if alike[each.name] >= MANY or _resident(each) >= LARGE)


def reparented_processes() -> tuple[Process, ...]:
    """All of them that are ours to look at: as root everybody's, else our own user's."""
    if not LINUX:
        return ()
    found = []
    ours, group = os.getsid(0), cgroup_of(INIT)
    managers = [INIT]
    for manager in managers:  # those that are found on the way are appended
        children = _children_of(manager)
        for pid in map(int, _numbers()) if children is None else children:
            if not _is_top_of_session(pid, ours):
                continue
            process = _read(pid)
            if process is None or process.ppid != manager:
                continue
            if process.name == _USER_MANAGER and manager == INIT:
                managers.append(pid)
            elif not (reason_not_reparented(process, managers) or own_unit(pid, group)):
                found.append(process)
    return tuple(found)


def reason_not_reparented(process: Process, managers: list[int]) -> str:
    """What shows that a process still belongs to somebody; empty where nothing does. `managers`
    are those that take over orphans.
    """
    if process.kernel or process.ppid == 2 or process.pid == INIT:
        return "it is the kernel's or init"
    if process.is_zombie or process.state == "X":
        return "it has ended"
    if os.geteuid() not in (0, process.uid):
        return "it belongs to another user"
    if process.ppid not in managers:
        return "its parent lives"
    if process.tty:
        return "it has a terminal"
    if process.session not in (0, process.pid) and _exists(process.session):
        return "the leader of its session lives"
    return ""


def user_managers() -> list[int]:
    """Who takes over orphans: init, and each user's own service manager."""
    children = below(INIT, deep=False)
    return [INIT, *(each.pid for each in children if each.name == _USER_MANAGER)]


def below(pid: int, *, deep: bool = True) -> list[Process]:
    """The living children of a process, and with `deep` all that live below them, level by
    level.
    """
    everyone: tuple[Process, ...] | None = None
    found: list[Process] = []
    parents = [pid]
    for parent in parents:
        children = _children_of(parent)
        if children is None:
            everyone = living() if everyone is None else everyone
            more = [each for each in everyone if each.ppid == parent]
        else:
            seen = (_read(child) for child in children)
            more = [each for each in seen if each and not each.is_zombie]
        found += more
        parents += [each.pid for each in more] if deep else []
    return found


def own_unit(pid: int, init: str) -> str:
    """The unit, container or other cgroup that was made for a process; empty where it is merely
    in a login's or an app's, or in that of init (`init`), as all are in a container.

    A service counts as somebody's whatever is left of it: its manager ends what it leaves behind
    (KillMode= in systemd.kill(5)), unless it is meant to stay.
    """
    path = cgroup_of(pid)
    if path in ("", "/", init):
        return ""
    parts = path.strip("/").split("/")
    units = [
        each
        for each in parts
        if each.endswith((".service", ".scope")) and not fnmatch.fnmatchcase(each, "user@*.service")
    ]
    if not units:
        return "" if parts[-1].endswith((".slice", ".service")) else path
    last = units[-1]
    shared = any(fnmatch.fnmatchcase(last, each) for each in _SHARED_SCOPES)
    return "" if shared and not last.endswith(f"-{pid}.scope") else last


def cgroup_of(pid: int) -> str:
    """Where a process is in the tree that its service manager keeps (proc_pid_cgroup(5)): the
    unified one, or, where both are mixed, the one named systemd. Empty where it cannot be told.
    """
    try:
        with open(f"{PROC}/{pid}/cgroup", "rb", buffering=0) as file:
            lines = os.fsdecode(file.read(8192)).splitlines()
    except OSError:
        return ""
    rows = (line.split(":", 2) for line in lines if line.count(":") >= 2)
    return max(
        (path for _, name, path in rows if name in ("", "name=systemd")), key=len, default=""
    )


def _read(pid: int) -> Process | None:
    try:
        return read_process(pid)
    except PermissionError:  # hidepid
        return None


def _children_of(pid: int) -> list[int] | None:
    """The children of all threads of a process; None where the kernel does not list them
    (CONFIG_PROC_CHILDREN), or it has ended.
    """
    found: list[int] = []
    try:
        for task in os.listdir(f"{PROC}/{pid}/task"):
            with open(f"{PROC}/{pid}/task/{task}/children", "rb") as file:
                found += map(int, file.read().split())
    except OSError:
        return None
    return found


def _is_top_of_session(pid: int, ours: int) -> bool:
    """Whether a process leads its session, or nobody does any more: the session is not `ours`."""
    try:
        session = os.getsid(pid)
    except OSError:
        return False
    return session not in (0, ours) and (session == pid or not _exists(session))


def _exists(pid: int) -> bool:
    try:
        os.getsid(pid)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _resident(root: Process) -> int:
    """What a process and all below it have in memory, in bytes, what they share several times."""
    pages = 0
    for pid in (root.pid, *(each.pid for each in below(root.pid))):
        try:
            with open(f"{PROC}/{pid}/statm", "rb", buffering=0) as file:
                pages += int(file.read(200).split()[1])
        except (OSError, IndexError):
            continue
    return pages * os.sysconf("SC_PAGE_SIZE")
