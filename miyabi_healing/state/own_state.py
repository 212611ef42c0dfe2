"""What is this program's own, and so never a target, whatever a pattern or a healer says. Looks
only.

A folder of ours is known by its path without links, by its device and inode wherever it is mounted
as well, and, for what lies deep in it, by where it is in its filesystem.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cached_property
from pathlib import Path

from miyabi_healing.model.config import Config
from miyabi_healing.state import quarantine
from miyabi_healing.support import mount_answers, mount_table, paths
from miyabi_healing.support.files import is_within, place_of
from miyabi_healing.support.mount_table import MountPoint

OURS = "it is this program's own"
HOLDS_OURS = "it holds files of this program's own"


def _files_of(config: Config) -> Iterator[str]:
    """The files that a configuration names, by the end of their keys, and itself."""
    for section in (getattr(config, each.name) for each in fields(config)):
        for each in fields(section) if is_dataclass(section) else ():
            if each.name.endswith("file") and (name := getattr(section, each.name)):
                yield name
    if config.file:
        yield config.file


class OwnState:
    """The program's own files and folders as they are now. `config` adds those that it names."""

    def __init__(self, state: Path, config: Config | None = None) -> None:
        self.state = state
        self.config = config
        self.judged: dict[str, bool] = {}

    @cached_property
    def places(self) -> dict[str, os.stat_result]:
        """Each of them that is there, by its path without links."""
        found = {}
        for each in self.names:
            try:
                mount_answers.check(each)
                found[os.path.realpath(each)] = os.stat(each)
            except OSError:
                continue
        return found

    @cached_property
    def names(self) -> tuple[str, ...]:
        """They as they are called, whether there or not."""
        return tuple(os.path.abspath(each) for each in self.named())

    def named(self) -> Iterator[Path]:
        yield from (
            self.state,
            *paths.fallback_folders(self.state),
            *quarantine.locations(self.state),
        )
        yield paths.PACKAGE
        if sys.prefix != sys.base_prefix:
            yield Path(sys.prefix)
        if sys.platform == "darwin":  # where launchd puts what it prints
            yield from (
                top / "Library" / "Logs" / f"{paths.NAME}.log" for top in (Path("/"), Path.home())
            )
        if self.config:
            yield from (Path(each).expanduser() for each in _files_of(self.config))

    @cached_property
    def inodes(self) -> set[tuple[int, int]]:
        return {(each.st_dev, each.st_ino) for each in self.places.values()}

    def is_ours(self, path: str) -> bool:
        """Whether a path is one of them or lies below one: asked of all the folders above, and
        remembered.
        """
        if path not in self.judged:
            self.judged[path] = self.judge(path)
        return self.judged[path]

    def judge(self, path: str) -> bool:
        try:
            mount_answers.check(path)
            status = os.lstat(path)
        except OSError:
            return False
        name, above = os.path.basename(path), os.path.dirname(path)
        if (status.st_dev, status.st_ino) in self.inodes or name == ".miyabi-healing":
            return True
        if name == paths.NAME and os.path.lexists(os.path.join(path, paths.JOURNAL)):
            return True  # another user's
        if above == path:
            return False
        if stat.S_ISLNK(status.st_mode) and self.is_ours(os.path.realpath(path)):
            return True
        return self.is_ours(above)

    def folder_objection(self, folder: str) -> str | None:
        """Why nothing in a folder may be touched; None where this says nothing against it."""
        return OURS if self.is_ours(folder) else None

    def file_objection(self, status: os.stat_result) -> str | None:
        """The same for a file that was looked at already: the configuration, or another name of
        such a file.
        """
        return OURS if (status.st_dev, status.st_ino) in self.inodes else None

    @cached_property
    def above(self) -> set[tuple[int, int]]:
        """The folders above ours, by device and inode: under whatever name, they hold ours."""
        found = {
            (each.st_dev, each.st_ino)
            for path in self.places
            for each in map(os.stat, Path(path).parents)
        }
        return found - self.inodes

    def objection(self, path: Path) -> str | None:
        """Why a path must not be touched: it is one of them, lies in one, or holds one. None where
        it may.
        """
        place = str(place_of(path))
        try:
            status = os.lstat(place)
        except OSError:
            return None
        # a name alone: what it leads to stays, unless ours is reached by it
        link = stat.S_ISLNK(status.st_mode)
        if self.is_ours(os.path.dirname(place) if link else place):
            return OURS
        ways = (*self.places, *self.names)
        if (status.st_dev, status.st_ino) in self.above or any(
            is_within(each, place) for each in ways
        ):
            return HOLDS_OURS
        return self.by_the_mounts(place)

    def by_the_mounts(self, place: str) -> str | None:
        """The same by where things are in their filesystem: a part of ours may be mounted elsewhere
        (mount --bind).
        """
        mount = mount_table.mount_around(place, self.table)
        if mount is None:
            return None
        inner = mount_table.path_in_filesystem(mount, place)
        for device, ours in self.inner:
            if device == mount.device and (is_within(inner, ours) or is_within(ours, inner)):
                return OURS if is_within(inner, ours) else HOLDS_OURS
        return None

    @cached_property
    def table(self) -> tuple[MountPoint, ...]:
        return mount_table.mount_table()

    @cached_property
    def inner(self) -> list[tuple[int, str]]:
        """Where ours are in their filesystems: device and path."""
        found = ((mount_table.mount_around(each, self.table), each) for each in self.places)
        return [
            (mount.device, mount_table.path_in_filesystem(mount, each))
            for mount, each in found
            if mount
        ]
