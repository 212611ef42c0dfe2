"""The end of a run: what has been in quarantine for long enough goes."""

from __future__ import annotations

from miyabi_healing.model.actions import Outcome, StepStatus
from miyabi_healing.runner.resources import Resources
from miyabi_healing.state import quarantine, retention


def look_after_quarantine(resources: Resources) -> None:
    """Let go of what is due, and note what people should know. Raises nothing: the run is over, and
    what it did is to be told whatever this comes to.
    """
    try:
        _expire(resources)
    except Exception as error:
        resources.notes.append(
            f"the quarantine could not be looked after: {type(error).__name__}: {error}"
        )


def _expire(resources: Resources) -> None:
    """Purge what is due; in a dry run, say what would be. Say it where the quarantine is full."""
    held = quarantine.find_entries(resources.state)
    resources.notes += quarantine.damage(resources.state, held)
    if not held:
        return
    due = retention.due(held, resources.config.quarantine, resources.moment(), resources.run_id)
    if resources.looks_only or resources.no_journal:
        for steps in due:
            blocked = (
                resources.no_journal
                or resources.policy.resting()
                or resources.policy.reason_against_steps(*steps)
            )
            resources.purged += [
                Outcome(step, StepStatus.BLOCKED if blocked else StepStatus.PLANNED, blocked or "")
                for step in steps
            ]
            for step in steps if not blocked else ():
                resources.policy.charge(step)
    elif due:
        from miyabi_healing.gate import execute

        execute.together(due, resources.work("quarantine", None), resources.purged)
    gone = {each.step.target for each in resources.purged if each.status == StepStatus.APPLIED}
    refused = "policy" in vars(resources) and resources.policy.refused_for_space
    resources.notes += retention.full(
        [each for each in held if each.name not in gone], resources.config.quarantine, refused
    )
