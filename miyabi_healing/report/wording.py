"""What a report says of an action: in its healer's words, or in ours where those fail."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from miyabi_healing.model.actions import ActionResult, StepStatus
from miyabi_healing.model.plan import Kept, Plan
from miyabi_healing.report.ranges import counted

_NOT_DONE = (StepStatus.SKIPPED, StepStatus.BLOCKED, StepStatus.FAILED)


def message(action: ActionResult, dry_run: bool) -> str:
    """What an action did, or why it did nothing, in a line."""
    text = _message(action, dry_run)
    return f"Early ({action.issue.description}): {text}" if action.early else text


def _message(action: ActionResult, dry_run: bool) -> str:
    if action.problem:
        applied = sum(each.status == StepStatus.APPLIED for each in action.outcomes)
        before = f"; {applied} step(s) had been applied" if applied else ""
        if action.stopped:
            return f"{action.healer} was stopped before its end{before}"
        return f"{action.healer} failed: {' '.join(action.problem.split())}{before}"
    plan = action.plan
    kept = _count_kept(plan.kept) if plan else ""
    tail = f"; {kept}" if kept else ""
    if plan is None:
        return f"Skipped: {action.brake}"
    if action.brake:
        return f"Skipped: {action.brake}; {len(plan.steps)} step(s) blocked{tail}"
    if (
        action.passed
        and not action.early
        and not any(each.status == StepStatus.APPLIED for each in action.outcomes)
    ):
        return f"It went away without help; nothing was changed{tail}"
    planned = [each for each in action.outcomes if each.status == StepStatus.PLANNED]
    if dry_run:
        what = (
            f"{len(planned)} step(s) planned, until {goal_text(plan)}"
            if planned
            else _no_step(action, "nothing done", "nothing safe to do")
        )
        return f"Dry run: {what}{tail}"
    statuses = Counter(each.status for each in action.outcomes)
    if not statuses[StepStatus.APPLIED]:
        if statuses[StepStatus.UNDONE]:
            failed = [each for each in action.outcomes if each.status == StepStatus.FAILED]
            why = counted(each.message for each in failed)
            undone = f"Undid {statuses[StepStatus.UNDONE]} step(s) because a later one failed"
            return f"{undone}: {'; '.join(reason for reason, _ in why)}{tail}"
        return _no_step(action, "Nothing done", "Nothing safe to do") + tail
    text = _achieved(plan, action.counts, statuses[StepStatus.APPLIED])
    if action.passed is False:
        text += ", still over the limit"
    if stop := next((each.stop for each in action.outcomes if each.stop), ""):
        text += f": {stop}"
    left_out = [
        f"{statuses[status]} "
        + (_blocked_by(action) if status == StepStatus.BLOCKED else str(status))
        for status in (*_NOT_DONE, StepStatus.UNDONE)
        if statuses[status]
    ]
    return text + (f" ({', '.join(left_out)})" if left_out else "") + tail


def _no_step(action: ActionResult, lead: str, otherwise: str) -> str:
    """Why none of a plan's steps was or would be carried out; `otherwise` where it has none."""
    why = counted(each.message for each in action.outcomes if each.status in _NOT_DONE)
    told = [f"{reason} ({number}x)" if number > 1 else reason for reason, number in why[:3]]
    return f"{lead}: {'; '.join(told)}" if told else otherwise


def _blocked_by(action: ActionResult) -> str:
    """What blocked steps of a plan that did something: most often one budget."""
    reasons = {each.message for each in action.outcomes if each.status == StepStatus.BLOCKED}
    return f"blocked: {reasons.pop()}" if len(reasons) == 1 else "blocked"


def _achieved(plan: Plan, counts: Counter[str], applied: int) -> str:
    """What a plan came to, in its healer's words, or in ours where those fail."""
    plainly = f"{applied} step(s) applied"
    if not plan.done:
        return plainly
    text, trouble = _healer_says(lambda: plan.done(counts) if plan.done else plainly)
    return (
        f"{plainly}; the healer's summary failed: {trouble}" if trouble else " ".join(text.split())
    )


def goal_text(plan: Plan) -> str:
    """When a plan has done enough, in its healer's words."""
    text, trouble = _healer_says(lambda: plan.goal.text)
    return f"its goal, which cannot be told: {trouble}" if trouble else text


def expected_value(action: ActionResult) -> float | None:
    """What the metric would come to by the planned steps, as the healer expects; None where only
    they will tell.
    """
    plan = action.plan
    if not plan or not plan.expects:
        return None
    going = [each.step for each in action.outcomes if each.status == StepStatus.PLANNED]
    try:
        value = plan.expects(going)
        return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
    except Exception:  # a healer's own code; the steps are said all the same
        return None


def _healer_says(words: Callable[[], object]) -> tuple[str, str]:
    """A text that a healer's own code gives, and why it gave none: whatever that code does, the
    report is not lost with it.
    """
    try:
        text = words()
        if isinstance(text, str):
            return text, ""
        return "", f"it is {type(text).__name__}, not a text"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # pytest's own exceptions, and SystemExit, are no Exception
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return "", f"{text} ({Path(where.filename).name}, line {where.lineno})"


def count_kept(kept: Sequence[Kept]) -> Counter[str]:
    """How many things were kept, by reason."""
    counted = Counter[str]()
    for each in kept:
        counted[each.reason] += each.count
    return counted


def _count_kept(kept: Sequence[Kept]) -> str:
    """Word what was kept: ``kept 14: 9 dirty, 3 unpushed, 2 in use``; empty when nothing was."""
    if not kept:
        return ""
    reasons = count_kept(kept).most_common()
    number = sum(each.count for each in kept)
    return f"kept {number}: " + ", ".join(f"{count} {reason}" for reason, count in reasons)
