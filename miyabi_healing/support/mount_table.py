"""The table of mounts: what a path or an open file lies on (proc_pid_mountinfo(5)).

Only the table itself is read, so a mount whose server does not answer cannot block anything here.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass

from miyabi_healing.support.formatting import display

# Filesystems that another host, or the host around a virtual machine, may be using as well.
SHARED = frozenset(
    """nfs nfs4 cifs smb3 smbfs 9p virtiofs vboxsf vmhgfs prl_fs afs ceph glusterfs lustre ocfs2
    gfs2 beegfs orangefs coda ncpfs fuse fuseblk davfs""".split()
)


@dataclass(frozen=True)
class MountPoint:
    """One row: `root` is the folder of the filesystem mounted at `path`; `kind` its type. `options`
    are this mount's, `of_filesystem` those of the filesystem, whatever mounts it has.
    """

    number: int
    device: int
    root: str
    path: str
    kind: str
    source: str
    options: str = ""
    of_filesystem: str = ""

    @property
    def is_shared(self) -> bool:
        """Whether somebody outside this kernel may use it: a network filesystem, or one in user
        space.
        """
        return self.kind in SHARED or self.kind.startswith("fuse.")

    @property
    def can_block(self) -> bool:
        """Whether looking at it waits for a program or a server that may be gone; autofs for what
        it mounts.
        """
        return self.is_shared or self.kind == "autofs"

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return display(f"{self.path} ({self.kind}, {self.source})")


def mount_table(process: str = "self") -> tuple[MountPoint, ...]:
    """Every mount that a process can see, in the kernel's order; none where there is no /proc."""
    try:
        with open(f"/proc/{process}/mountinfo", "rb") as file:
            return _parse_table(file.read())
    except OSError:
        return ()


@functools.lru_cache(maxsize=1)  # it is read afresh each time, and hardly ever another one
def _parse_table(table: bytes) -> tuple[MountPoint, ...]:
    return tuple(parse_mount(line) for line in table.splitlines())


def parse_mount(line: bytes) -> MountPoint:
    """Read ``36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/sda1 rw``."""
    mount, _, filesystem = line.partition(b" - ")
    number, _parent, device, root, path, options, *_rest = mount.split(b" ")
    kind, source, *rest = filesystem.split(b" ")
    major, minor = device.split(b":")
    inner = rest[0] if rest else b""
    texts = (os.fsdecode(_unescape(each)) for each in (root, path, kind, source, options, inner))
    return MountPoint(int(number), os.makedev(int(major), int(minor)), *texts)


def _unescape(name: bytes) -> bytes:
    """Blanks and their like are written as ``\\040`` (fstab(5))."""
    return (
        re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), name)
        if b"\\" in name
        else name
    )


def mount_of(descriptor: int, mounts: tuple[MountPoint, ...] | None = None) -> MountPoint | None:
    """The mount that an open file was reached by (mnt_id in proc_pid_fdinfo(5)); None where that is
    unknown.
    """
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", "rb") as lines:
            number = next(int(line.split()[1]) for line in lines if line.startswith(b"mnt_id:"))
    except (OSError, StopIteration):
        return None
    return next(
        (each for each in (mount_table() if mounts is None else mounts) if each.number == number),
        None,
    )


def mount_around(path: str, mounts: tuple[MountPoint, ...] | None = None) -> MountPoint | None:
    """The mount that an absolute path without links lies on, by text alone; a later mount hides an
    earlier one.
    """
    found = None
    for each in mount_table() if mounts is None else mounts:
        inside = path == each.path or path.startswith(each.path.rstrip("/") + "/")
        if inside and (found is None or len(each.path) >= len(found.path)):
            found = each
    return found


def path_in_filesystem(mount: MountPoint, path: str) -> str:
    """Where a path on a mount is in the filesystem itself, whatever part is mounted where."""
    return os.path.normpath(f"{mount.root}/{path[len(mount.path.rstrip('/')) :]}")
