"""Alerts go out: what this pass has queued, and what earlier ones could not send."""

from __future__ import annotations

from miyabi_healing import outbox
from miyabi_healing.outlets import Problem, Told


def tell(told: Told) -> None:
    """Send them. Raises Problem."""
    if told.mail and (problems := outbox.post(told.mail, told.settings.alerts)):
        raise Problem("; ".join(problems))
