"""The one witness: who is using a file or folder, and who could be without being seen. Looks only.

A process uses what it has open, mapped, or as its folder, root or program, by device and inode: its
own path for it, in /proc/PID, lies where it has other mounts than we have. Not seen is not absent:
`Witness.unseen` says why somebody out of sight could be using a thing, with the way out. What the
configuration calls ``ours_alone`` lifts that, but nobody who is seen.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from miyabi_healing.host import unseen_users, visibility
from miyabi_healing.host.folder_search import search_folder
from miyabi_healing.host.open_files import OpenFile, OpenFiles, scan_open_files
from miyabi_healing.host.process_status import LINUX, container
from miyabi_healing.host.ways import Way
from miyabi_healing.model.config import Config
from miyabi_healing.support import mount_answers, mount_table
from miyabi_healing.support.files import is_within, place_of
from miyabi_healing.support.formatting import display
from miyabi_healing.support.mount_table import MountPoint

ALONE = "name its folder in [safety] ours_alone"


class Witness:
    """One look at who uses what, taken when it is first needed; ask a new one for fresh answers.

    Its answers raise OSError where the path is not there, or no process can be seen at all.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.known: dict[Path, OpenFile | None] = {}
        self.placed: dict[str, MountPoint | None] = {}
        self.could: dict[int, unseen_users.Rights | None] = {}
        self.near: dict[tuple[int, int | None, bool], tuple[OpenFile, ...]] = {}

    @cached_property
    def files(self) -> OpenFiles:
        return scan_open_files()

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

    def way(self, place: Path) -> Way:
        mount_answers.check(place, follow=False)
        folders = tuple((str(each), os.stat(each)) for each in reversed(place.parents))
        return Way(str(place), self.mount(place), folders, os.lstat(place))

    def mount(self, place: Path) -> MountPoint | None:
        """What a path lies on, asked of the kernel where that can be. Raises OSError."""
        if not LINUX:
            return mount_table.mount_around(str(place), self.mounts)
        descriptor = os.open(place, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return mount_table.mount_of(descriptor, self.mounts)
        finally:
            os.close(descriptor)

    def stranger_below(self, way: Way) -> OpenFile | None:
        """Who holds something in a folder, but calls it by a path that is not ours: found by
        looking at all that is in it.
        """
        found = sorted(
            (each for each in self.on_filesystem(way) if self.may_lie_below(each, way)),
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

    def on_filesystem(self, way: Way) -> tuple[OpenFile, ...]:
        """What is open on a path's filesystem, but for what our own paths tell all about: the same
        for all paths on one mount.
        """
        several = way.has_several_numbers
        key = (way.status.st_dev, way.mount.number if way.mount else None, several)
        if key in self.near:
            return self.near[key]
        numbers = {way.status.st_dev, way.mount.device if way.mount else 0}
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
        return self.near.setdefault(key, tuple(near))

    def may_lie_below(self, file: OpenFile, way: Way) -> bool:
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

    def mapping(self, way: Way) -> OpenFile | None:
        """Who has a file mapped under another device number than stat(2) tells, as on btrfs and
        overlays (proc_pid_maps(5)).
        """
        if way.mount is None or way.mount.device == way.status.st_dev:
            return None
        name = os.path.basename(way.path)
        found = self.files.of(way.mount.device, way.status.st_ino)
        return next((each for each in found if os.path.basename(each.path) == name), None)

    def mounted(self, way: Way) -> OpenFile | None:
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
        process = next(
            (each for each in self.files.unseen if unseen_users.could_use(each, way, self.could)),
            None,
        )
        if process is None:
            return None
        out = ALONE if os.geteuid() == 0 else f"run it as root, or {ALONE}"
        return f"{self.files.unseen_text(process)}; if it does not use it, {out}"

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
                f"{self.confined}, and who is outside cannot be seen: what lies on mounts from "
                "outside was kept, except in [safety] ours_alone"
            )
        if self.hidden:
            found.append(
                f"{self.hidden}: what others could be using was kept, except in [safety] ours_alone"
            )
        # but for a few, which are named where they matter
        sees_all = visibility.sees_everybody()
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
        return visibility.hidden_users()


def _mounted_volumes() -> Iterator[MountPoint]:
    """The table of mounts where there is no /proc."""
    import psutil

    for number, each in enumerate(psutil.disk_partitions(all=True)):
        yield MountPoint(number, 0, "/", each.mountpoint, each.fstype, each.device)


def words(user: OpenFile) -> str:
    """Who uses something, in a line."""
    how = f", mounted at {display(user.path)}" if user.link == "mount" else ""
    return f"by {user.name} (pid {user.pid}){how}"
