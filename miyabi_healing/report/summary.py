"""What a run came to, in one line: by what happened to each issue, never by what was hoped for.
And what was measured, in one line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import TYPE_CHECKING

from miyabi_healing.model.results import CheckResult, RunResult
from miyabi_healing.support.formatting import figure

if TYPE_CHECKING:
    from miyabi_healing.model.actions import ActionResult
    from miyabi_healing.report.document_types import Document, MetricRow

# Checks in a word, and what they look at where that are several.
_NAMES = {
    "disk_space_critical": ("disk", "filesystems"),
    "excessive_worktrees": ("worktrees", "repositories"),
    "worktree_space": ("worktree space", "hosts"),
    "zombie_processes": ("zombies", "hosts"),
    "orphaned_processes": ("orphans", "places"),
    "stale_git_lock": ("git lock", "places"),
    "large_log_files": ("logs", "groups"),
    "high_memory_usage": ("memory", "groups"),
    "swap_usage": ("swap", "hosts"),
    "tmpfs_usage": ("tmpfs", "filesystems"),
    "coordinator_down": ("coordinator", "coordinators"),
    "orphaned_tasks": ("orphaned tasks", "coordinators"),
}

_KEPT_SEVERAL = "left as they are, as nothing safe can be done"
_FAR = 0.01  # of a limit: less is not worth a number
_WORTH_COUNTING = 3  # checks that are said by their number


class Ending(Enum):
    """How an issue ended. The order is that of the summary."""

    HEALED = "healed"
    GONE = "went away without help"
    PARTLY = "partly healed"
    STOPPED = "stopped before its end"
    FAILED = "failed"
    WAITS = "waiting"
    KEPT = "left as it is, as nothing safe can be done"
    NO_HEALER = "without a healer"


def ending(check: CheckResult) -> Ending:
    """What became of a check's issue. Something that was not tried has not failed."""
    statuses = {action.status.value for action in check.actions}
    if check.healed:
        return Ending.HEALED if "success" in statuses else Ending.GONE
    if any(action.stopped for action in check.actions):
        return Ending.STOPPED
    if "failed" in statuses:
        return Ending.FAILED
    if "partial" in statuses:
        return Ending.PARTLY
    if any(action.brake or _blocked(action) for action in check.actions):
        return Ending.WAITS
    return Ending.KEPT if check.actions else Ending.NO_HEALER


def summarize(found: Sequence[CheckResult], errors: int, result: RunResult, any_test: bool) -> str:
    """The summary of a run in which the checks `found` have an issue, and `errors` could not
    run. Of a run of a part it says so, and calls nothing else well.
    """
    words = _summary(found, errors, result, any_test)
    if not result.left_out:
        return words + _early(result)
    ran = dict.fromkeys(check.name for check in result.checks.values() if not check.skipped)
    part = f"Only {', '.join(ran)} {'was' if len(ran) == 1 else 'were'} checked."
    if len(ran) > len(result.left_out) or not ran:
        part = f"Not checked: {', '.join(result.left_out)}."
    return f"{words.removesuffix(' System is healthy.')} {part}{_early(result)}"


def _summary(found: Sequence[CheckResult], errors: int, result: RunResult, any_test: bool) -> str:
    unknown = f" {errors} check(s) could not run." if errors else ""
    if result.interrupted:
        unknown = " The run was interrupted before everything was checked."
    number = len(found)
    if killed := result.out_of_memory_kills:
        healed = sum(check.healed for check in found)
        return (
            f"Failed: the kernel ended {killed} process(es) for want of memory during this run "
            f"(which, its log says: dmesg); {healed}/{number} issue(s) healed.{unknown}"
        )
    if not any_test:
        return f"No check ran.{unknown}"
    if not found and result.interrupted:
        return f"No issues detected so far.{unknown}"
    if not found:
        return (
            f"No issues detected, but{unknown}"
            if errors
            else "No issues detected. System is healthy."
        )
    if result.dry_run:
        return f"Dry run: {number} issue(s) detected, nothing was changed.{unknown}"
    if result.blocked:
        return f"{number} issue(s) detected, nothing was changed: {result.blocked}.{unknown}"
    return f"{_real(found)}{unknown}"


def _early(result: RunResult) -> str:
    """What was done before it was needed: it changes nothing of what else is said."""
    early = [check.early for check in result.checks.values() if check.early]
    if result.dry_run:
        planned = sum(any(step.status == "planned" for step in each.outcomes) for each in early)
        return f" {planned} foreseen issue(s) would be put off early." if planned else ""
    done = sum(each.status.value in ("success", "partial") for each in early)
    return f" {done} foreseen issue(s) put off early." if done else ""


def _real(found: Sequence[CheckResult]) -> str:
    endings = [ending(check) for check in found]
    healed = endings.count(Ending.HEALED)
    if healed == len(found):
        return f"Successfully healed {healed} issue(s)."
    tried = {Ending.HEALED, Ending.PARTLY, Ending.STOPPED, Ending.FAILED} & set(endings)
    lead = (
        f"Healed {healed}/{len(found)} issues."
        if tried
        else f"{len(found)} issue(s) detected, nothing was changed."
    )
    rest = []
    for each in Ending:
        if each != Ending.HEALED and (count := endings.count(each)):
            reasons = f": {_brakes(found, endings)}" if each == Ending.WAITS else ""
            words = _KEPT_SEVERAL if each == Ending.KEPT and count > 1 else each.value
            rest.append(f"{count} {words}{reasons}.")
    return " ".join((lead, *rest))


def _brakes(found: Sequence[CheckResult], endings: Sequence[Ending]) -> str:
    """What holds back those that wait, each reason once; those that differ in numbers as one."""
    from miyabi_healing.report.ranges import counted

    actions = [
        action
        for check, each in zip(found, endings, strict=True)
        for action in check.actions
        if each == Ending.WAITS
    ]
    reasons = [action.brake for action in actions if action.brake]
    for action in actions:
        if not action.brake:
            reasons += _blocked(action)
    return "; ".join(reason for reason, _ in counted(reasons))


def _blocked(action: ActionResult) -> list[str]:
    """Which policies blocked steps of an action, one a step."""
    from miyabi_healing.model.actions import StepStatus

    return [each.message for each in action.outcomes if each.status == StepStatus.BLOCKED]


def short_name(check: str) -> str:
    """A check in a word, as a table or a line of numbers names it; others than ours by their own
    name.
    """
    return _NAMES.get(check, (check, ""))[0]


def numbers(document: Document, every: bool = False) -> Iterator[str]:
    """What was measured and is within its limits, check by check, what is nearest to its limit
    first: ``worktrees 13 of 15``. Several that are far from theirs are counted, unless `every` is
    wanted. What is waived, unknown, or told as an issue is not among it.
    """
    told = {row["name"] for row in document["issues_detected"]}
    fine: dict[str, list[MetricRow]] = {}
    for row in document["metrics"]:
        within = row["outcome"] == "passed" and row["value"] <= row["threshold"]
        if within and row["name"] not in told:
            fine.setdefault(row["name"], []).append(row)
    worst = {name: max(rows, key=_share) for name, rows in fine.items()}
    ordered = sorted(worst, key=lambda name: -_share(worst[name]))
    far = [name for name in ordered if _share(worst[name]) < _FAR]
    if every or len(far) < _WORTH_COUNTING:
        far = []
    for name in ordered:
        if name not in far:
            yield _measured(name, worst[name], len(fine[name]))
    if far:
        yield f"{len(far)} more below {_FAR:.0%} of their limits".replace("%", " %")


def _share(row: MetricRow) -> float:
    return row["value"] / row["threshold"] if row["threshold"] else float(row["value"] > 0)


def _measured(name: str, row: MetricRow, number: int) -> str:
    """A check in a word, how many it looked at, and the worst of them."""
    short, several = _NAMES.get(name, (name, "targets"))
    value, limit, unit = row["value"], row["threshold"], row["unit"]
    if unit == "s" and not value:
        return f"{short} none"
    place = f" {number} {several}, most" if number > 1 else ""
    if not place and name == "disk_space_critical":
        place = f" {row['target']}"
    shown = figure(value, unit, limit)
    if unit != "s":
        shown = shown.removesuffix(f" {unit}")
    return f"{short}{place} {shown} of {figure(limit, unit, limit)}"
