"""The one witness: who is using a file or folder, and who could be without being seen. Looks only.

A process uses what it has open, mapped, or as its folder, root or program, by device and inode: its
own path for it, in /proc/PID, lies where it has other mounts than we have. Not seen is not absent:
`Witness.unseen` says why somebody out of sight could be using a thing, with the way out. What the
configuration calls ``ours_alone`` lifts that, but nobody who is seen.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from miyabi_healing.host.processes import (
    LINUX,
    PROC,
    OpenFile,
    OpenFiles,
    Process,
    Processes,
    container,
)
from miyabi_healing.model.config import Config
from miyabi_healing.support import mount_answers, mount_table
from miyabi_healing.support.files import is_within, place_of
from miyabi_healing.support.formatting import display
from miyabi_healing.support.mount_table import MountPoint

# PROC_USER_INIT_INO in the kernel's proc_ns.h: the number of a host's own user namespace
_FIRST_USERS = 0xEFFFFFFD
ALONE = "name its folder in [safety] ours_alone"
_DEEPEST = 200  # one descriptor a level
# files of one such mount differ in st_dev
_SEVERAL_NUMBERS = ("overlay", "btrfs", "bcachefs", "zfs")
# CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: no permission stops whoever has one
OVERRIDES = 1 << 1 | 1 << 2
SEARCH, _FOLDER_USE, _FILE_USE = 0o1, 0o5, 0o6
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
class _SeenBy:
    """How a path is reached: the mount it is on, the folders above it from the top, each with its
    status, and its own.
    """

    path: str
    mount: MountPoint | None
    folders: tuple[tuple[str, os.stat_result], ...]
    status: os.stat_result

    @property
    def inner(self) -> str:
        return mount_table.path_in_filesystem(self.mount, self.path) if self.mount else self.path


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


class Witness:
    """One look at who uses what, taken when it is first needed; ask a new one for fresh answers.

    Its answers raise OSError where the path is not there, or no process can be seen at all.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.known: dict[Path, OpenFile | None] = {}
        self.placed: dict[str, MountPoint | None] = {}
        self.could: dict[int, Rights | None] = {}

    @cached_property
    def files(self) -> OpenFiles:
        return Processes(self.config.processes.protected).open_files()

    @cached_property
    def mounts(self) -> tuple[MountPoint, ...]:
        return mount_table.mount_table() if LINUX else tuple(_mounted_volumes())

    @cached_property
    def elsewhere(self) -> dict[int, tuple[int, tuple[MountPoint, ...]]]:
        """The other mount namespaces that are seen: number to one process in it, and its table of
        mounts.
        """
        ours = {each.number for each in self.mounts}
        found: dict[int, tuple[int, tuple[MountPoint, ...]]] = {}
        for pid, namespace in self.files.elsewhere.items():
            if namespace not in found:
                table = mount_table.mount_table(str(pid))
                found[namespace] = pid, () if ours & {each.number for each in table} else table
        return found

    # Who is seen

    def user(self, path: Path) -> OpenFile | None:
        """Somebody who is seen using a file, or a folder with all that is below it; None where
        nobody is.
        """
        place = place_of(path)
        if place not in self.known:
            self.known[place] = self.look(place)
        return self.known[place]

    def look(self, place: Path) -> OpenFile | None:
        mount_answers.check_tree(place)
        way = self.way(place)
        if stat.S_ISDIR(way.status.st_mode):
            found = next(iter(self.files.beneath(place)), None) or self.stranger_below(way)
        else:
            found = next(
                iter(self.files.of(way.status.st_dev, way.status.st_ino)), None
            ) or self.mapping(way)
        return found or self.mounted(way)

    def way(self, place: Path) -> _SeenBy:
        mount_answers.check(place, follow=False)
        folders = tuple((str(each), os.stat(each)) for each in reversed(place.parents))
        return _SeenBy(str(place), self.mount(place), folders, os.lstat(place))

    def mount(self, place: Path) -> MountPoint | None:
        """What a path lies on, asked of the kernel where that can be. Raises OSError."""
        if not LINUX:
            return mount_table.mount_around(str(place), self.mounts)
        descriptor = os.open(place, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return mount_table.mount_of(descriptor, self.mounts)
        finally:
            os.close(descriptor)

    def stranger_below(self, way: _SeenBy) -> OpenFile | None:
        """Who holds something in a folder, but calls it by a path that is not ours: found by
        looking at all that is in it.
        """
        numbers = {way.status.st_dev, way.mount.device if way.mount else 0}
        several = way.mount is not None and way.mount.kind in _SEVERAL_NUMBERS
        near = [
            each
            for each in self.files.files
            if each.device in numbers or (several and not os.major(each.device))
        ]
        if (
            way.mount
            and not several
            and sum(each.device == way.mount.device for each in self.mounts) == 1
        ):
            # what has one mount has one name for us, unless that is gone
            top, away = way.mount.path, self.files.elsewhere
            near = [each for each in near if each.pid in away or not is_within(each.path, top)]
        found = sorted(
            (each for each in near if self.may_lie_below(each, way)),
            key=lambda each: each.link != "maps",
        )
        # of two, the one whose numbers are stat(2)'s
        strangers = {(each.device, each.inode): each for each in found}
        if not strangers:
            return None
        descriptor = os.open(way.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return search_folder(descriptor, strangers, way)
        finally:
            os.close(descriptor)

    def may_lie_below(self, file: OpenFile, way: _SeenBy) -> bool:
        """Whether a file could be in a folder for all that its path says, which may be on another
        mount, or not ours.
        """
        if file.path not in self.placed:
            self.placed[file.path] = mount_table.mount_around(file.path, self.mounts)
        found = self.placed[file.path]
        if found is None or way.mount is None or found.number != way.mount.number:
            return True
        if file.pid not in self.files.elsewhere:
            return False
        try:
            mount_answers.check(file.path, follow=False)
            status = os.lstat(file.path)
        except OSError:
            return True
        # its path says the same here as there
        told = (status.st_dev, status.st_ino) == (file.device, file.inode)
        return not told or is_within(file.path, way.path)

    def mapping(self, way: _SeenBy) -> OpenFile | None:
        """Who has a file mapped under another device number than stat(2) tells, as on btrfs and
        overlays (proc_pid_maps(5)).
        """
        if way.mount is None or way.mount.device == way.status.st_dev:
            return None
        name = os.path.basename(way.path)
        found = self.files.of(way.mount.device, way.status.st_ino)
        return next((each for each in found if os.path.basename(each.path) == name), None)

    def mounted(self, way: _SeenBy) -> OpenFile | None:
        """Who has just this file or folder, or one in it, mounted somewhere else: a container that
        it was given to.
        """
        if way.mount is None:
            return None
        ours = {(each.device, each.root, each.path) for each in self.mounts}
        tables = [(os.getpid(), self.mounts), *self.elsewhere.values()]
        for pid, table in tables:
            for each in table:
                copied = pid != os.getpid() and (each.device, each.root, each.path) in ours
                if copied or each.number == way.mount.number or each.device != way.mount.device:
                    continue
                if is_within(each.root, way.inner):
                    name = next(
                        (one.name for one in self.files.everyone if one.pid == pid), "this program"
                    )
                    return OpenFile(
                        pid, name, each.device, way.status.st_ino, each.path, link="mount"
                    )
        return None

    # Who could be there unseen

    def unseen(self, path: Path) -> str | None:
        """Why somebody who cannot be seen could be using a path, and what to do about it; None
        where nobody could.
        """
        place = place_of(path)
        return None if self.ours_alone(place) else self.doubt(place)

    def doubt(self, place: Path) -> str | None:
        """The same, whatever the configuration says. Raises OSError."""
        way = self.way(place)
        if LINUX and way.mount is None:
            return f"what it is mounted from cannot be told; if nobody else uses it, {ALONE}"
        if way.mount and way.mount.is_shared:
            return (
                f"users on other hosts cannot be seen ({way.mount.kind}); if there are none, "
                f"{ALONE}"
            )
        if self.confined and not self.is_our_own_root(way.mount):
            return (
                f"{self.confined}, and who uses it from outside cannot be seen; if nobody does, "
                f"{ALONE}"
            )
        if self.hidden:
            return f"{self.hidden}; run it as root, or, if nobody else uses it, {ALONE}"
        process = next((each for each in self.files.unseen if self.could_use(each, way)), None)
        if process is None:
            return None
        out = ALONE if os.geteuid() == 0 else f"run it as root, or {ALONE}"
        return (
            f"{process.name} (pid {process.pid}) cannot be looked into; if it does not use it, "
            f"{out}"
        )

    def of(self, path: Path) -> OpenFiles:
        """The scan, and for one path how far it can be relied on."""
        seen, place = self.files, place_of(path)
        try:
            blind = self.doubt(place) or ""
        except OSError as error:  # it was renamed meanwhile
            blind = f"who could be using it cannot be told: {error.strerror or error}"
        return replace(seen, blind=blind, alone=self.ours_alone(place))

    def ours_alone(self, place: Path) -> bool:
        """Whether the configuration says that nobody else uses what is there."""
        return any(
            is_within(str(place), os.path.realpath(os.path.expanduser(each)))
            for each in self.config.safety.ours_alone
        )

    def limits(self) -> list[str]:
        """What cannot be seen from here, for people; nothing where all can."""
        found = []
        if self.confined:
            found.append(
                f"{self.confined}: what lies on mounts from outside was kept, but for [safety] "
                "ours_alone"
            )
        if self.hidden:
            found.append(
                f"{self.hidden}: what others could be using was kept, but for [safety] ours_alone"
            )
        # but for a few, which are named where they matter
        sees_all = os.geteuid() == 0 and users_of_the_host()
        if not sees_all and (number := len({each.pid for each in self.files.unseen})):
            found.append(
                f"{number} processes of other users could not be looked into: what they could be "
                "using was kept, but for "
                "[safety] ours_alone; services of the system are assumed not to work in users' "
                "folders; "
                "run it as root to see more"
            )
        return found

    @cached_property
    def confined(self) -> str | None:
        return container()

    def is_our_own_root(self, mount: MountPoint | None) -> bool:
        """Whether a mount is what a container runtime made for this container alone: the overlay
        that is its root.
        """
        root = next((each for each in reversed(self.mounts) if each.path == "/"), None)
        return (
            mount is not None
            and root is not None
            and mount.number == root.number
            and mount.kind == "overlay"
        )

    @cached_property
    def hidden(self) -> str | None:
        """Why other users' processes are not even listed (hidepid in proc(5)); None where they are,
        or we see them all.
        """
        if not LINUX or (os.geteuid() == 0 and users_of_the_host()):
            return None
        options = mount_options(str(PROC))
        value = options.get("hidepid", "0")
        ours = options.get("gid", "0") in map(str, os.getgroups()) and value not in (
            "4",
            "ptraceable",
        )
        return (
            None
            if value in ("0", "off") or ours
            else f"{PROC} hides other users' processes (hidepid={value})"
        )

    def could_use(self, process: Process, way: _SeenBy) -> bool:
        """Whether a process that cannot be looked into could have a path in use. Unsure counts as
        yes.
        """
        if _is_service(process) or (process.name in _KEEPERS and process.uid in (0, os.geteuid())):
            return False  # anybody can call a process so; only root's, or our own, is believed
        if not LINUX:
            return True
        if process.pid not in self.could:
            try:
                self.could[process.pid] = rights(process.pid)
            except (FileNotFoundError, ProcessLookupError):
                self.could[process.pid] = None
            except (OSError, LookupError, ValueError):
                return True
        its = self.could[process.pid]
        if its is None or (
            its.uid == os.geteuid() and its.seccomp == _FILTERED and _is_sandboxed(process)
        ):
            return False
        return reaches(process, its, way)


def search_folder(
    folder: int, wanted: Mapping[tuple[int, int], OpenFile], way: _SeenBy, depth: int = 0
) -> OpenFile | None:
    """Whoever holds a folder or something in it, on its own filesystem, by device and inode. Raises
    OSError.
    """
    if depth > _DEEPEST:
        raise OSError(f"folders are nested more than {_DEEPEST} deep")
    status, several = os.fstat(folder), way.mount is not None and way.mount.kind in _SEVERAL_NUMBERS
    found = wanted.get((status.st_dev, status.st_ino))
    if found and found.link != "maps":
        return found
    number = way.mount.device if way.mount else status.st_dev
    deeper = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                deeper.append(entry.name)
                continue
            # without a look at each: these are their own numbers
            device, inode = status.st_dev, entry.inode()
            if several:
                each = entry.stat(follow_symlinks=False)
                device, inode = each.st_dev, each.st_ino
            found = wanted.get((device, inode))
            if found and not (several and found.link == "maps"):
                return found
            # a mapping shows other numbers there: its name has to fit as well
            found = found or wanted.get((number, inode))
            if found and found.link == "maps" and os.path.basename(found.path) == entry.name:
                return found
    for name in deeper:
        try:
            inner = os.open(
                name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder
            )
        except FileNotFoundError:
            continue
        try:
            same = os.fstat(inner).st_dev == status.st_dev
            if same and (found := search_folder(inner, wanted, way, depth + 1)):
                return found
        finally:
            os.close(inner)
    return None


def reaches(process: Process, its: Rights, way: _SeenBy) -> bool:
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
    if not all(its.permit(path, status, SEARCH) for path, status in folders):
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


def _mounted_volumes() -> Iterator[MountPoint]:
    """The table of mounts where there is no /proc."""
    import psutil

    for number, each in enumerate(psutil.disk_partitions(all=True)):
        yield MountPoint(number, 0, "/", each.mountpoint, each.fstype, each.device)


def words(user: OpenFile) -> str:
    """Who uses something, in a line."""
    how = f", mounted at {display(user.path)}" if user.link == "mount" else ""
    return f"by {user.name} (pid {user.pid}){how}"
