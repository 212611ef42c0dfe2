"""Alerts go out: what this pass has queued, and what earlier ones could not send."""

from __future__ import annotations

from miyabi_healing.report.alerts import queue
from miyabi_healing.report.outputs.output import Problem, Told


def tell(told: Told) -> None:
    """Send them. Raises Problem."""
    if told.mail and (problems := queue.post(told.mail, told.settings.alerts)):
        raise Problem("; ".join(problems))
