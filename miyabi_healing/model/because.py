"""Why something is as it is, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# The three grades, the surest first. Only the first one may change a plan.
ACCOUNTS_FOR = "accounts for"  # a share of one conserved quantity
CAME_BEFORE = "came just before"  # the order and the identity of both are known
WENT_TOGETHER = "went together"  # a hint
UNEXPLAINED = "unexplained"
OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class Because:
    """One reason. `what` is a folder, a file or a program, `share` its part of what grew, from 0 to
    1, None where nothing adds up.

    `pid` and `start` (clock ticks after boot) are the process that does it, None where none is
    known; `path` is what grows, empty where it is no file. `rate` is in bytes a second. `deleted`
    says that `bytes` are in files that have no name any more, `enough` that the issue is over once
    they are free.
    """

    grade: str
    what: str
    share: float | None
    text: str
    pid: int | None = None
    start: int = 0
    command: str = ""
    path: str = ""
    rate: float = 0
    bytes: int = 0
    deleted: bool = False
    enough: bool = False

    def covers(self, path: str) -> bool:
        """Whether a path is what grows, or lies in it, or around it."""
        ours, theirs = self.path.rstrip("/"), path.rstrip("/")
        return bool(ours) and (
            ours == theirs or theirs.startswith(f"{ours}/") or ours.startswith(f"{theirs}/")
        )


def share_of(reasons: Iterable[Because], path: str) -> float:
    """What a path has of the growth, where that is accounted for; 0 where nothing is known."""
    return sum(
        each.share or 0
        for each in reasons
        if each.grade == ACCOUNTS_FOR and not each.deleted and each.covers(path)
    )
