"""Which users' processes can be seen from here at all: whether /proc lists them, and whose ids ours
are. Looks only.
"""

from __future__ import annotations

import os

from miyabi_healing.host.process_status import LINUX, PROC

# PROC_USER_INIT_INO in the kernel's proc_ns.h: the number of a host's own user namespace
_FIRST_USERS = 0xEFFFFFFD


def sees_everybody() -> bool:
    """Whether no user's process can be hidden from us: we are root, and that of the host."""
    return os.geteuid() == 0 and users_of_the_host()


def hidden_users() -> str | None:
    """Why other users' processes are not even listed (hidepid in proc(5)); None where they are, or
    we see them all.
    """
    if not LINUX or sees_everybody():
        return None
    options = mount_options(str(PROC))
    value = options.get("hidepid", "0")
    ours = options.get("gid", "0") in map(str, os.getgroups()) and value not in ("4", "ptraceable")
    return (
        None
        if value in ("0", "off") or ours
        else f"{PROC} hides other users' processes (hidepid={value})"
    )


def users_of_the_host() -> bool:
    """Whether our user ids are the host's own: root of a user namespace of its own is no root
    (user_namespaces(7)).
    """
    try:
        return os.stat(f"{PROC}/self/ns/user").st_ino == _FIRST_USERS
    except OSError:
        return False


def mount_options(path: str) -> dict[str, str]:
    """What the filesystem that is mounted at `path` was mounted with (the last field in
    proc_pid_mountinfo(5)).
    """
    found = ""
    try:
        with open(f"{PROC}/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                mount, _, filesystem = line.partition(" - ")
                found = filesystem.split()[-1] if mount.split()[4] == path else found
    except OSError:
        return {}
    pairs = (each.partition("=") for each in found.split(","))
    return {name: value for name, _, value in pairs}
