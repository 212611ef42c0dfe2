"""What stops a step whatever a healer plans: the budgets of a pass and the time limit of a healer."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field

from miyabi_healing.config import Budgets
from miyabi_healing.files import size_text
from miyabi_healing.plan import Delete, RetireWorktree, Run, Signal, Step


@dataclass
class Spent:
    """What this pass has used of its budgets so far."""

    limits: Budgets
    worktrees: int = 0
    bytes: int = 0
    files: int = 0
    processes: set[tuple[int, int]] = field(default_factory=set)

    def veto(self, step: Step) -> str | None:
        """Why `step` would be too much for one pass; None where it fits."""
        if isinstance(step, RetireWorktree) and self.worktrees + 1 > self.limits.worktrees:
            return f"budget: {self.limits.worktrees} worktrees a pass"
        if ends(step) and len(self.processes | ends(step)) > self.limits.processes:
            return f"budget: {self.limits.processes} processes a pass"
        if isinstance(step, Delete) and self.files + step.files > self.limits.files:
            return f"budget: {self.limits.files} deleted files a pass"
        limit = self.limits.gigabytes * 1e9
        if not isinstance(step, Run) and self.bytes + step.bytes > limit:
            return f"budget: {size_text(limit)} a pass"
        return None

    def charge(self, step: Step) -> None:
        self.worktrees += isinstance(step, RetireWorktree)
        self.processes |= ends(step)
        self.files += step.files if isinstance(step, Delete) else 0
        self.bytes += 0 if isinstance(step, Run) else step.bytes


def ends(step: Step) -> set[tuple[int, int]]:
    """The process a step would end, as a set; a mere SIGCHLD ends none."""
    return {(step.pid, step.start)} if isinstance(step, Signal) and step.signal != signal.SIGCHLD else set()
