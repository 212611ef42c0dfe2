"""What is known of all linked worktrees, for the ``worktrees`` command: data alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Bytes of a folder: its own, those of its own that can be made again, and those it has in
    common with other places; `at_least` where there may be more of each.
    """

    own_bytes: int = 0
    regenerable_bytes: int = 0
    shared_bytes: int = 0
    at_least: bool = False


@dataclass(frozen=True, kw_only=True)
class WorktreeRow(Sizes):
    """A linked worktree. `branch` is None when detached, at `commit`; `reason` is why it stays,
    None where it may go, in which `evidence` is what speaks for that; `last_used` is in seconds
    since the epoch, None where it cannot be told.
    """

    path: str
    repository: str
    branch: str | None
    commit: str | None
    may_go: bool
    verdict: str
    reason: str | None
    detail: str
    remedy: str
    evidence: tuple[str, ...]
    last_used: float | None


@dataclass(frozen=True, kw_only=True)
class LeftoverFolderRow(Sizes):
    """A folder that git does not know any more; `why` says what git knows instead."""

    path: str
    repository: str
    why: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class LeftoverBranchRow:
    """A local branch that is merged and checked out nowhere."""

    branch: str
    repository: str
    commit: str
    evidence: str


@dataclass(frozen=True, kw_only=True)
class WorktreeSurvey:
    """All of them, the largest first. `idle_days` is how long a worktree has to be unused;
    `unknown` is what could not be looked at, a line each.
    """

    idle_days: float
    worktrees: tuple[WorktreeRow, ...]
    leftover_folders: tuple[LeftoverFolderRow, ...]
    leftover_branches: tuple[LeftoverBranchRow, ...]
    unknown: tuple[str, ...]
