"""Control groups of a process (cgroups(7)): whose unit or container it is part of, and whether it
is frozen. Looks only.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.host.process_status import PROC
from miyabi_healing.host.visibility import mount_options
from miyabi_healing.support.mount_table import MountPoint, mount_table

# the folder of a container, as Docker, containerd, CRI-O, Podman and LXC name it
_CONTAINER = re.compile(
    r"/((docker|cri-containerd|crio|libpod|libpod-payload)-[0-9a-f]{12,}(\.scope)?"
    r"|(docker|libpod_parent|kubepods[^/]*)/[^/]{12,}|lxc(\.payload)?[./][^/]+"
    r"|machine\.slice/[^/]+)"
)
# where a frozen process waits in the kernel: kernel/freezer.c, kernel/cgroup/freezer.c
_FROZEN_AT = ("__refrigerator", "do_freezer_trap", "cgroup_freezer_trap")


@dataclass(frozen=True)
class Unit:
    """A unit of systemd; `user` is the uid of the manager that it belongs to, None for the
    system's.
    """

    name: str
    user: int | None = None

    @property
    def restart(self) -> str:
        """How a person restarts it."""
        return f"systemctl {'--user ' if self.user is not None else ''}restart {self.name}"


def paths_of(pid: int | str) -> dict[str, str]:
    """Its group in each hierarchy: by controllers, version 2 by an empty name. Raises OSError."""
    return parse_paths((PROC / str(pid) / "cgroup").read_text("utf-8", "surrogateescape"))


def parse_paths(text: str) -> dict[str, str]:
    """The same from the text of proc_pid_cgroup(5)."""
    parts = (line.split(":", 2) for line in text.splitlines())
    return {part[1]: part[2] for part in parts if len(part) == 3}


def unit_of(paths: dict[str, str]) -> Unit | None:
    """The innermost unit that is a service or a scope; None where there is none."""
    for path in (paths.get("name=systemd", "/"), paths.get("", "/")):
        folders = path.split("/")
        units = [each for each in folders if each.endswith((".service", ".scope"))]
        if units:
            manager = re.fullmatch(r"user@(\d+)\.service", next(iter(units)))
            own = manager and units[-1] != units[0]
            return Unit(units[-1], int(manager[1]) if manager and own else None)
    return None


def container_of(paths: dict[str, str]) -> str:
    """The folder of the container that it runs in, as far as groups tell; empty without one."""
    for path in paths.values():
        if found := _CONTAINER.search(path):
            return found[1]
    return ""


def frozen(pid: int, paths: dict[str, str]) -> bool | None:
    """Whether it is frozen, so that it can neither act nor end; None where that cannot be told.

    Version 1 says it in ``freezer.state`` (the kernel's freezer-subsystem.rst), version 2 in
    ``cgroup.freeze`` of a group or one above it (cgroup-v2.rst).
    """
    old = next((name for name in paths if "freezer" in name.split(",")), None)
    wanted = [("cgroup", old, paths[old])] if old is not None else []
    if "" in paths:
        wanted.append(("cgroup2", "", paths[""]))
    known = True
    for kind, controllers, path in wanted:
        folders = _folders(kind, controllers, path)
        known = known and bool(folders)
        if any(map(_is_frozen, folders)):
            return True
    with suppress(OSError):
        place = (PROC / str(pid) / "wchan").read_text()
        if place in _FROZEN_AT:
            return True
        known = known or place not in ("", "0")  # which it is where we may not look
    return False if known else None


def _folders(kind: str, controllers: str, path: str) -> list[Path]:
    """The folder of a group and those above it; none where it cannot be seen."""
    for mount in mount_table():
        if mount.kind != kind or (controllers and not _has(mount, controllers)):
            continue
        root = mount.root.rstrip("/")
        if ".." in path.split("/") or not f"{path.rstrip('/')}/".startswith(f"{root}/"):
            continue
        top = Path(mount.path)
        folder = top / path[len(root) :].lstrip("/")
        if folder.is_dir():
            return [each for each in (folder, *folder.parents) if each.is_relative_to(top)]
    return []


def _has(mount: MountPoint, controllers: str) -> bool:
    return set(controllers.split(",")) <= set(mount_options(mount.path))


def _is_frozen(folder: Path) -> bool:
    for name in ("freezer.state", "cgroup.freeze", "cgroup.events"):
        with suppress(OSError):
            words = (folder / name).read_text().split()
            if words[:1] in (["FROZEN"], ["FREEZING"], ["1"]):
                return True
            if "frozen" in words and words[words.index("frozen") + 1] == "1":
                return True
    return False
