"""Which mounts do not answer: asked in a child that can be given up, so that nothing else here
waits for one.

A stat(2) on a FUSE or hard-mounted NFS filesystem whose server is gone blocks in the kernel, where
no handler of a signal runs. The table of mounts, the text of a symbolic link and /proc/PID/fdinfo
never block: by these alone is found what leads to such a mount. Only mounts that can block are
asked, each filesystem once in a run, all at a time.
"""

from __future__ import annotations

import errno
import os
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from miyabi_healing.support.mount_table import MountPoint

_MOST_LINKS_FOLLOWED = 40  # as Linux has it, path_resolution(7)
_MOST_NAMED = 3  # places that a note names
# What mounts.MountPoint.can_block tells, found without loading that, and without making rows of the
# whole table.
_CAN_BLOCK = frozenset(
    b"""nfs nfs4 cifs smb3 smbfs 9p virtiofs vboxsf vmhgfs prl_fs afs ceph glusterfs lustre ocfs2
    gfs2 beegfs orangefs coda ncpfs davfs fuse fuseblk autofs""".split()
)


class NoAnswer(OSError):
    """Something lies on a mount that does not answer, so nothing is known of it."""

    def __init__(self, path: str, mount: MountPoint | None) -> None:
        from miyabi_healing.support.formatting import display

        name = mount.name if mount else "the mount, which is in no table,"
        super().__init__(
            errno.ETIMEDOUT, f"{name} does not answer: nothing is known of {display(path)}"
        )

    def __str__(self) -> str:
        return str(self.strerror)


class _Answers:
    """What a run knows of mounts: `rows` by number, of each namespace looked into, and the `ways`
    to them.

    `answers` has every filesystem that was asked, by its device, `places` what was asked by path or
    link; `refused` is what was not looked at, by the mount it lies on.
    """

    def __init__(self) -> None:
        self.rows: dict[int, MountPoint] = {}
        self.ways: dict[int, str] = {}
        self.answers: dict[int, bool] = {}
        self.places: dict[str | int, bool] = {}
        self.refused: dict[MountPoint, dict[str, None]] = {}
        self.namespaces: set[str] = set()
        self.all_learnt = False

    @cached_property
    def may_block(self) -> bool:
        try:
            with open("/proc/self/mountinfo", "rb", buffering=0) as file:
                return any(map(can_block, file.readall().splitlines()))
        except OSError:
            return False

    @cached_property
    def points(self) -> dict[str, MountPoint]:
        """Our own mounts by their folder; of several on one, the last."""
        return {row.path: row for row in self.learn("self", "")}

    def learn(self, process: str, way: str) -> tuple[MountPoint, ...]:
        """The mounts of a process's namespace, which is read once; `way` leads to its root."""
        from miyabi_healing.support import mount_table

        try:
            namespace = os.readlink(f"/proc/{process}/ns/mnt")
        except OSError:
            namespace = "" if process == "self" else "unknown"
        if namespace == "unknown" or namespace in self.namespaces:
            return ()
        self.namespaces.add(namespace)
        found = mount_table.mount_table(process)
        for row in found:
            self.rows.setdefault(row.number, row)
            self.ways.setdefault(row.number, way + row.path)
        return found

    def row(self, number: int) -> MountPoint | None:
        """A mount by its number, also one of another namespace: of a container, of a service with a
        view of its own.
        """
        if self.points and number not in self.rows:
            self.learn_all()
            if number not in self.rows:
                self.learn_what_came_since()
        return self.rows.get(number)

    def learn_what_came_since(self) -> None:
        """Learn our own mounts again: one was mounted while we were at work."""
        from miyabi_healing.support import mount_table

        for row in mount_table.mount_table("self"):
            if row.number not in self.rows:
                self.rows[row.number] = self.points[row.path] = row
                self.ways[row.number] = row.path

    def learn_all(self) -> None:
        """Learn the mounts of every namespace that there is a process in, once."""
        if self.points and not self.all_learnt:
            self.all_learnt = True
            for process in filter(str.isdigit, os.listdir("/proc")):
                self.learn(process, f"/proc/{process}/root")

    def answer(self, row: MountPoint) -> bool | None:
        """Whether a filesystem answers; None where something else covers it, so that it cannot be
        asked.
        """
        if row.device not in self.answers:
            ways: dict[int, str] = {}
            for each in self.rows.values():
                hidden = (
                    each.number in self.ways
                    and self.points.get(self.ways[each.number], each) is not each
                )
                if (
                    each.can_block
                    and each.kind != "autofs"
                    and each.device not in self.answers
                    and not hidden
                ):
                    ways.setdefault(each.device, self.ways[each.number])
            for device, seen in zip(ways, _ask(ways.values()), strict=True):
                if seen in (None, 0, device):
                    self.answers[device] = seen is not None
        return self.answers.get(row.device)


def _ask(places: Iterable[str]) -> list[int | None]:
    from miyabi_healing.support import mount_questions  # few hosts have mounts to be asked

    return mount_questions.ask(places)


def can_block(line: bytes) -> bool:
    """Whether a line of the table of mounts is of a kind that waits for a program or a server,
    which may be gone.
    """
    kind = line.partition(b" - ")[2].partition(b" ")[0]
    return kind in _CAN_BLOCK or kind.startswith(b"fuse.")


_answers = _Answers()
# the folder that the program was started in and has left, because it does not answer
left_behind = ""


def forget() -> None:
    """Ask anew from now on: another run begins."""
    global _answers
    _answers = _Answers()


def may_block() -> bool:
    """Whether we see any mount of a kind that can block; one look at the table in a run."""
    return _answers.may_block


def is_point(path: str) -> bool:
    """Whether something is mounted on a folder, by its text; False on a host without a mount that
    can block.
    """
    return _answers.may_block and path in _answers.points


def check(path: str | os.PathLike[str], *, follow: bool = True) -> None:
    """Refuse a path that leads into a mount that does not answer. Raises NoAnswer.

    `follow` is whether its last name would be followed where that is a symbolic link.
    """
    if _answers.may_block and (mount := where(os.fspath(path), follow=follow)):
        raise refusal(mount, os.fspath(path))


def check_tree(folder: str | os.PathLike[str]) -> None:
    """The same for a folder with all that is mounted below it. Raises NoAnswer."""
    if not _answers.may_block:
        return
    check(folder)
    inside = os.path.realpath(folder).rstrip("/") + "/"
    for point, row in _answers.points.items():
        if point.startswith(inside) and silent(row, point):
            raise refusal(row, os.fspath(folder))


def refusal(mount: MountPoint, path: str) -> NoAnswer:
    """Note that something was not looked at, and why."""
    _answers.refused.setdefault(mount, {})[path] = None
    return NoAnswer(path, mount)


def is_silent(path: str | os.PathLike[str], *, follow: bool = True) -> bool:
    """Whether a path leads into a mount that does not answer."""
    try:
        check(path, follow=follow)
    except NoAnswer:
        return True
    return False


def search_path(folders: str) -> str:
    """A PATH without the folders that do not answer."""
    if not _answers.may_block:
        return folders
    return os.pathsep.join(each for each in folders.split(os.pathsep) if not is_silent(each or "."))


def notes() -> list[str]:
    """A line for each mount that did not answer: what is unknown because of it."""
    found: list[str] = []
    if not _answers.refused:
        return found
    from miyabi_healing.support import mount_questions
    from miyabi_healing.support.formatting import display

    for mount, paths in _answers.refused.items():
        named = ", ".join(display(path) for path in list(paths)[:_MOST_NAMED])
        more = f" and {len(paths) - _MOST_NAMED} more" if len(paths) > _MOST_NAMED else ""
        found.append(
            f"{mount.name} did not answer within {mount_questions.LIMIT:g} s; "
            f"unknown because of it: {named}{more}"
        )
    return found


def where(path: str, *, follow: bool = True) -> MountPoint | None:
    """The mount that does not answer on the way that a path leads; None where there is none.

    Name by name, as in path_resolution(7): none is looked at before the mount that it lies on has
    answered.
    """
    path = path if path.startswith("/") else os.path.join(os.getcwd(), path)
    here, links = "/", 0
    left = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    while True:
        row = _mount_of(here)
        if row and silent(row, path):
            return row
        if not left or links > _MOST_LINKS_FOLLOWED:
            return None
        name = left.pop()
        if name == "..":
            here = os.path.dirname(here)
            continue
        below = os.path.join(here, name)
        target = ""
        if (left or follow) and below not in _answers.points:
            try:
                target = os.readlink(below)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    return None  # whoever looks there gets the same error at once
        if target:
            links += 1
            left += [part for part in reversed(target.split("/")) if part not in ("", ".")]
            here = "/" if target.startswith("/") else here
        else:
            here = below


def _mount_of(path: str) -> MountPoint | None:
    """The mount that a path without links lies on, by its text."""
    while path not in _answers.points:
        if path == "/":
            return None
        path = os.path.dirname(path)
    return _answers.points[path]


def silent(row: MountPoint, path: str) -> bool:
    """Whether a mount does not answer. An automounter is asked for `path`: it answers itself, what
    it mounts may not.
    """
    if not row.can_block:
        return False
    if row.kind != "autofs":
        return _answers.answer(row) is False
    if path not in _answers.places:
        _answers.places[path] = _ask([path])[0] is not None
    return not _answers.places[path]


def behind(link: str, number: int | None) -> MountPoint | None:
    """The mount that a process's link leads into (as /proc/PID/fd/3), where it does not answer;
    None where it does.

    `number` is the mount's (mnt_id in proc_pid_fdinfo(5)); it may be one of another namespace.
    Raises NoAnswer where it is in no table, as after ``umount --lazy``, and does not answer.
    """
    if number is None:
        return None  # a kernel before Linux 3.15
    row = _answers.row(number)
    if row is not None and (not row.can_block or row.kind == "autofs"):
        return None
    if row is not None and (answer := _answers.answer(row)) is not None:
        return None if answer else row
    if number not in _answers.places:
        _answers.places[number] = _ask([link])[0] is not None
    if not _answers.places[number]:
        raise NoAnswer(link, row)
    return None


def comes_to_an_end(path: str) -> bool:
    """Whether a path that leads through /proc/PID, maybe among the mounts of another namespace,
    comes to an answer.
    """
    _answers.learn_all()
    if not any(row.can_block for row in _answers.rows.values()):
        return True
    if path not in _answers.places:
        _answers.places[path] = _ask([path])[0] is not None
    return _answers.places[path]
