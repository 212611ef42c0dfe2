"""What a file is known by for longer than until the next reboot. Looks only.

A device number is given out when a filesystem is mounted, so it says nothing later. The
filesystem's UUID, the inode, and the time at which that inode came into use do; each only where the
filesystem has it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from miyabi_healing.support import mount_table

_GET_UUID = 0x80111500  # FS_IOC_GETFSUUID, _IOR(0x15, 0, struct fsuuid2); Linux 6.9
# BTRFS_IOC_FS_INFO, _IOR(0x94, 31, 1024 bytes): btrfs does not answer the other
_BTRFS_INFO = 0x8400941F
BY_UUID = "/dev/disk/by-uuid"
EMPTY_PATH, _NO_FOLLOW = 0x1000, 0x100  # AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW
_BIRTH, _SUBVOLUME = 0x800, 0x8000  # STATX_BTIME, STATX_SUBVOL (Linux 6.10)


@dataclass(frozen=True)
class Lasting:
    """A file's identity. `born` is in nanoseconds since the epoch; what is not known is empty or
    None.

    `subvolume` matters on btrfs and bcachefs, where each numbers its inodes afresh.
    """

    filesystem: str
    inode: int
    born: int | None = None
    subvolume: int | None = None

    @property
    def facts(self) -> dict[str, object]:
        """As a manifest has it."""
        known = {
            "filesystem": self.filesystem,
            "inode": self.inode,
            "born_ns": self.born,
            "subvolume": self.subvolume,
        }
        return {key: value for key, value in known.items() if value not in (None, "")}

    def is_known_by(self, facts: Mapping[str, Any]) -> bool:
        """Whether this may be the file that a manifest describes: nothing that both know is
        different.

        Manifests of earlier versions have the inode, and a device number that means nothing any
        more.
        """
        stored = facts.get("identity", {})
        if stored.get("inode", facts.get("inode")) != self.inode:
            return False
        names = (stored.get("filesystem", ""), self.filesystem)
        comparable = all(each.startswith("uuid:") for each in names) or not any(
            each.startswith("uuid:") for each in names
        )
        if all(names) and comparable and names[0] != names[1]:
            return False
        pairs = ((stored.get("born_ns"), self.born), (stored.get("subvolume"), self.subvolume))
        return all(None in pair or pair[0] == pair[1] for pair in pairs)


def lasting_identity(descriptor: int, where: str | None = None) -> Lasting:
    """The identity of an open file; `where` is its `filesystem`, if that is known. Raises
    OSError.
    """
    return _read(
        descriptor, "", os.fstat(descriptor), filesystem(descriptor) if where is None else where
    )


def lasting_identity_at(folder: int, name: str) -> Lasting:
    """The same for a name in an open folder, which is not followed. Raises OSError."""
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    own = status.st_dev == os.fstat(folder).st_dev  # a single file can be mounted, too
    return _read(folder, name, status, filesystem(folder) if own else f"device:{status.st_dev}")


def _read(folder: int, name: str, status: os.stat_result, where: str) -> Lasting:
    born, subvolume = _extended(folder, name)
    return Lasting(where, status.st_ino, born, subvolume)


def filesystem(descriptor: int) -> str:
    """What names the filesystem of an open file: its UUID or, without one, its type and source.
    Empty where nothing does.
    """
    for request, size, offset in ((_GET_UUID, 17, 1), (_BTRFS_INFO, 1024, 16)):
        answer = bytearray(size)
        try:
            fcntl.ioctl(descriptor, request, answer)
        except OSError:
            continue
        length = answer[0] if request == _GET_UUID else 16
        if any(found := answer[offset : offset + length]):
            return uuid(found.hex())
    mount = mount_table.mount_of(descriptor)
    return (
        (by_device(os.fstat(descriptor).st_dev, mount) or f"{mount.kind}:{mount.source}")
        if mount
        else ""
    )


def uuid(text: str) -> str:
    return f"uuid:{text.replace('-', '').lower()}"


def by_device(device: int, mount: mount_table.MountPoint) -> str | None:
    """The UUID that udev has a link for, to the filesystem's device."""
    devices = {device}
    if mount.source.startswith("/"):
        with contextlib.suppress(OSError):
            devices.add(os.stat(mount.source).st_rdev or device)
    with contextlib.suppress(OSError):
        for name in os.listdir(BY_UUID):
            if os.stat(f"{BY_UUID}/{name}").st_rdev in devices:
                return uuid(name)
    return None


@lru_cache(maxsize=1)
def _statx() -> Any:
    """The function of the system's library; None where it has none."""
    import ctypes

    call = getattr(ctypes.CDLL(None, use_errno=True), "statx", None)
    if call is not None:
        call.argtypes = (
            ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p,
        )  # fmt: skip
    return call


def _extended(folder: int, name: str) -> tuple[int | None, int | None]:
    """When a file was made, and its subvolume (statx(2)); None for what the filesystem or the
    kernel does not tell.
    """
    import ctypes

    call = _statx()
    if call is None:
        return None, None
    answer = ctypes.create_string_buffer(256)
    flags = _NO_FOLLOW if name else EMPTY_PATH
    if call(folder, os.fsencode(name), flags, _BIRTH | _SUBVOLUME, answer):
        return None, None
    (mask,) = struct.unpack_from("=I", answer, 0)
    seconds, nanoseconds = struct.unpack_from("=qI", answer, 80)
    (subvolume,) = struct.unpack_from("=Q", answer, 160)
    # 0 is also what a disk image made by a tool has
    born = seconds * 10**9 + nanoseconds if mask & _BIRTH else 0
    return born or None, subvolume if mask & _SUBVOLUME else None
