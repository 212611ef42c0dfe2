"""Whether a process that cannot be looked into could have a path in use: by what it is, by what is
mounted where it is, and by its permissions. Looks only.

All of it is what the kernel tells of a process to anybody; where that does not settle it, the
answer is yes.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass

from miyabi_healing.host.process_status import LINUX, PROC, Process
from miyabi_healing.host.ways import Way
from miyabi_healing.support import mount_table
from miyabi_healing.support.files import is_within

# CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: no permission stops whoever has one
OVERRIDES = 1 << 1 | 1 << 2
_SEARCH, _FOLDER_USE, _FILE_USE = 0o1, 0o5, 0o6
_FILTERED = 2  # SECCOMP_MODE_FILTER in proc_pid_status(5)
# A unit of the system (systemd.special(7)), not what a container runtime or a session keeps below
# one.
_SERVICE = re.compile(r"/system\.slice/(?:[^/]+\.slice/)*([^/]+\.service)(?:/udev)?$")
# What starts other people's jobs: it works in no folder itself, those jobs may.
_SCHEDULERS = frozenset("cron crond cronie anacron atd".split())
# What keeps sessions open, and keys: such a process cannot be looked into, and works in nobody's
# folders.
_KEEPERS = frozenset(
    """
    (sd-pam) sshd sshd-session sshd-auth login su sudo doas pkexec agetty getty systemd
    dbus-daemon dbus-broker dbus-broker-lau polkitd fusermount fusermount3 ssh-agent gpg-agent
    scdaemon gnome-keyring-d gdm-session-wor sddm-helper lightdm
    """.split()
)


@dataclass(frozen=True)
class Rights:
    """What proc_pid_status(5) says of a process to anybody. `uid` and `groups` are those it uses
    files by.
    """

    uid: int
    groups: frozenset[int]
    capabilities: int
    seccomp: int

    def permit(self, path: str, status: os.stat_result, wanted: int) -> bool:
        """Whether it may do one of the `wanted` things with a file; where a list of its own says
        who may, that is unsure.
        """
        if self.uid == 0 or self.capabilities & OVERRIDES:
            return True
        shift = 6 if self.uid == status.st_uid else 3 if status.st_gid in self.groups else 0
        return bool(status.st_mode >> shift & wanted) or _has_list(path)


def _has_list(path: str) -> bool:
    """Whether a file has an access control list (acl(5)), by which others may be let in than its
    mode says.
    """
    try:
        return (
            bool(os.getxattr(path, "system.posix_acl_access", follow_symlinks=False))
            if LINUX
            else True
        )
    except OSError:
        return False


def rights(pid: int) -> Rights:
    """What a process may do. Raises OSError where it is gone, ValueError where that cannot be
    read.
    """
    with open(f"{PROC}/{pid}/status", encoding="utf-8", errors="replace") as file:
        lines = dict(line.split(":", 1) for line in file if ":" in line)
    fields = {
        name: lines.get(name, "").split() for name in ("Uid", "Gid", "Groups", "CapEff", "Seccomp")
    }
    groups = frozenset(int(each) for each in [fields["Gid"][3], *fields["Groups"]])
    seccomp = int(fields["Seccomp"][0]) if fields["Seccomp"] else 0
    return Rights(int(fields["Uid"][3]), groups, int(fields["CapEff"][0], 16), seccomp)


def could_use(process: Process, way: Way, known: dict[int, Rights | None]) -> bool:
    """Whether a process that cannot be looked into could have a path in use. Unsure counts as yes.

    `known` is what was found out about processes already; None in it for one that is gone.
    """
    if _is_service(process) or (process.name in _KEEPERS and process.uid in (0, os.geteuid())):
        return False  # anybody can call a process so; only root's, or our own, is believed
    if not LINUX:
        return True
    if process.pid not in known:
        try:
            known[process.pid] = rights(process.pid)
        except (FileNotFoundError, ProcessLookupError):
            known[process.pid] = None
        except (OSError, LookupError, ValueError):
            return True
    its = known[process.pid]
    if its is None or (
        its.uid == os.geteuid() and its.seccomp == _FILTERED and _is_sandboxed(process)
    ):
        return False
    return reaches(process, its, way)


def reaches(process: Process, its: Rights, way: Way) -> bool:
    """Whether a process gets to a path, by what is mounted where it is and by permissions."""
    table = mount_table.mount_table(str(process.pid))
    folders = list(way.folders)
    if way.mount and table and not any(each.number == way.mount.number for each in table):
        tops = [
            each.root
            for each in table
            if each.device == way.mount.device and is_within(way.inner, each.root)
        ]
        if not tops:
            return False  # other mounts than ours, and none of them leads there
        top, mount = max(tops, key=len), way.mount
        on_it = [each for each in folders if is_within(each[0], mount.path)]
        folders = [
            each for each in on_it if is_within(mount_table.path_in_filesystem(mount, each[0]), top)
        ]
    if not all(its.permit(path, status, _SEARCH) for path, status in folders):
        return False
    return its.permit(
        way.path, way.status, _FOLDER_USE if stat.S_ISDIR(way.status.st_mode) else _FILE_USE
    )


def _is_service(process: Process) -> bool:
    """Whether a process is a service of the system, which works in no user's folders: by its
    control group (cgroups(7)).
    """
    if not LINUX:
        return not process.tty and process.ppid == 1
    try:
        with open(f"{PROC}/{process.pid}/cgroup", encoding="utf-8", errors="replace") as file:
            rows = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return False
    groups = {kinds: group for _number, kinds, group in rows}
    found = _SERVICE.match(groups.get("name=systemd") or groups.get("") or "")
    if not found:
        return False
    return found[1].removesuffix(".service") not in _SCHEDULERS or process.name in _SCHEDULERS


def _is_sandboxed(process: Process) -> bool:
    """Whether it is one of those that Chromium, and so Electron, keeps from all files: only asked
    of filtered processes.
    """
    try:
        with open(f"{PROC}/{process.pid}/cmdline", "rb") as file:
            return b"--type=" in file.read(1 << 16)
    except OSError:
        return False
