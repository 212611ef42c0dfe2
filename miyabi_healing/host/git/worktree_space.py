"""What the linked worktrees of all repositories take on the disks: people decide by gigabytes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from miyabi_healing.host.git.repositories import NoRepository, Repository, Worktree, open_repository
from miyabi_healing.model.config import Config
from miyabi_healing.model.results import NotMeasured
from miyabi_healing.support.formatting import display, size_text
from miyabi_healing.support.tree_size import Scales

_SECONDS = 30.0
_NAMED = 3  # of the largest, and of what was not measured


@dataclass(frozen=True)
class WorktreeSpace:
    """What linked worktrees take, in bytes, the largest first: what is in them and on their own
    filesystem, a file with several names once. The main ones and git's folders do not count.

    `unknown` is what could not be measured, each with why; `unseen` are repositories that could not
    be looked at, of which their own checks tell.
    """

    sizes: tuple[tuple[Worktree, int], ...]
    unknown: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()

    @cached_property
    def gigabytes(self) -> float:
        return sum(size for _, size in self.sizes) / 1e9

    def __str__(self) -> str:
        rest = (*self.unknown, *self.unseen)
        total = size_text(sum(size for _, size in self.sizes))
        least = "at least " if rest else ""
        text = f"Linked worktrees take {least}{total} ({len(self.sizes)} of them)"
        if self.sizes:
            largest = (f"{tree} ({size_text(size)})" for tree, size in self.sizes[:_NAMED])
            text += f"; the largest: {', '.join(largest)}"
        if rest:
            more = f", and {len(rest) - _NAMED} more" if len(rest) > _NAMED else ""
            text += f"; not measured: {'; '.join(rest[:_NAMED])}{more}"
        return text

    def require_all(self) -> None:
        """Refuse to call it measured where a part is not. Raises NotMeasured."""
        if self.unknown:
            raise NotMeasured(str(self))


@dataclass(frozen=True)
class Repositories:
    """All repositories that are looked after: those at `paths` that can be looked at, in order."""

    paths: tuple[str, ...]
    config: Config

    def __iter__(self) -> Iterator[Repository]:
        return iter(self._opened[0])

    @cached_property
    def _opened(self) -> tuple[tuple[Repository, ...], tuple[str, ...]]:
        found, unseen = [], []
        for path in self.paths:
            try:
                found.append(open_repository(path, self.config))
            except (NoRepository, OSError) as error:
                unseen.append(str(error))
        return tuple(found), tuple(unseen)

    @cached_property
    def worktree_space(self) -> WorktreeSpace:
        """Measured once, in half a minute at most."""
        return self.measure_worktrees(_SECONDS)

    def measure_worktrees(self, seconds: float) -> WorktreeSpace:
        """What the linked worktrees take, as far as it can be measured in so many seconds."""
        trees: list[Worktree] = []
        unknown: list[str] = []
        for repository in self:
            try:
                linked = repository.worktrees() if repository.admin_names() else ()
            except OSError as error:
                unknown.append(f"{repository}: {display(error)}")
                continue
            for tree in linked:
                try:
                    trees += [tree] if tree.linked_back else []
                except OSError as error:  # it lies on a mount that does not answer
                    unknown.append(display(error))
        sizes, unread = _weigh(trees, seconds)
        sizes.sort(key=lambda each: -each[1])
        return WorktreeSpace(tuple(sizes), (*unknown, *unread), self._opened[1])


def _weigh(trees: list[Worktree], seconds: float) -> tuple[list[tuple[Worktree, int]], list[str]]:
    """The worktrees with what each takes by itself: one that lies in another one counts there no
    more. And what could not be read.
    """
    scales = Scales(time.monotonic() + seconds, _identities(trees), go_on=True)
    sizes: list[tuple[Worktree, int]] = []
    unknown: list[str] = []
    for number, tree in enumerate(trees):
        try:
            sizes.append((tree, scales.weigh(tree.path)))
        except TimeoutError:
            late = f"{tree} and {len(trees) - number - 1} more: {seconds:g} s were not enough"
            return sizes, [*unknown, *_named(scales), late]
        except OSError as error:
            unknown.append(f"{tree}: {display(error.strerror or error)}")
    return sizes, [*unknown, *_named(scales)]


def _named(scales: Scales) -> list[str]:
    return [f"{display(path)} cannot be read" for path in scales.unread]


def _identities(trees: list[Worktree]) -> frozenset[tuple[int, int]]:
    found = set()
    for tree in trees:
        try:
            status = os.lstat(tree.path)
        except OSError:
            continue
        found.add((status.st_dev, status.st_ino))
    return frozenset(found)
