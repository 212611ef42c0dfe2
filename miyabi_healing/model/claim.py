"""A claim: that somebody has a task in hand."""

from __future__ import annotations

from dataclasses import dataclass

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Claim:
    """One claim as it was read. `id` is the task's, of a file or folder its path; `status` is what
    the task has; `owner` as it is written; `started` is when it began, in seconds since the epoch,
    None where that is not known.
    """

    id: Scalar
    status: Scalar
    owner: Scalar
    started: float | None = None
