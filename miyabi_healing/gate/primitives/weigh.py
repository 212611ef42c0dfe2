"""What a step counts for in the budgets of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """What a step counts for. `files` are those deleted, and one for each other thing that is done
    to a file or by a command.

    `kept` are the bytes that it adds to the quarantine, None for a step that sets nothing aside;
    `sizes` has what was measured of each folder or file that goes there as it is.
    """

    files: int = 0
    bytes: int = 0
    worktrees: int = 0
    processes: frozenset[tuple[int, int]] = frozenset()
    kept: int | None = None
    sizes: Mapping[Path, int] = field(default_factory=dict)
