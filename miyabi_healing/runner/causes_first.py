"""A plan, once it is known what accounts for an issue. Pure but for whether a process lives.

Nothing is deleted that a live writer refills at once: the writer is named instead. Where a deleted
file that somebody has open is the whole trouble, no other is deleted for it. Hints change nothing,
and nobody keeps what others have from being healed: not by a small file that is deleted and open,
nor by writing beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

from miyabi_healing.host.process_status import read_process
from miyabi_healing.model.because import ACCOUNTS_FOR, Because
from miyabi_healing.model.issue import Issue, Severity
from miyabi_healing.model.plan import Kept, Plan
from miyabi_healing.model.steps import CutLog, Delete, Purge, Run, Step, TrimLog
from miyabi_healing.support.files import is_within
from miyabi_healing.support.formatting import display, size_text

REFILLED_IN = 600  # seconds
_HALF = 0.5  # of the growth: less is not the cause

Lives = Callable[[int, int], bool]


def by_the_cause(plan: Plan, issue: Issue, lives: Lives | None = None) -> Plan:
    """The same plan, with what would be in vain kept, and with what only an owner can do."""
    lives = lives or is_alive
    sure = [each for each in issue.because if each.grade == ACCOUNTS_FOR and each.pid is not None]
    there = [each for each in sure if each.pid is not None and lives(each.pid, each.start)]
    kept = [_to_reopen(each) for each in there if each.deleted]
    held = next((each for each in there if _is_the_trouble(each)), None)
    steps: list[Step] = []
    taken: Counter[str] = Counter()  # by all steps of one cache or log together
    for each_step in plan.steps:
        taken[_path_of(each_step)] += each_step.bytes + each_step.later
    for step in plan.steps:
        if held and issue.severity < Severity.CRITICAL and _deletes(step):
            kept.append(_spared(step, held))
        elif writer := _refilled_by(step, taken[_path_of(step)], there):
            kept.append(_in_vain(step, writer))
        else:
            steps.append(step)
    return replace(plan, steps=tuple(steps), kept=(*plan.kept, *_once(kept))) if kept else plan


def is_alive(pid: int, start: int) -> bool:
    """Whether it is that very process, and lives."""
    try:
        process = read_process(pid)
    except OSError:
        return False
    return process is not None and process.start == start and not process.is_zombie


def _is_the_trouble(cause: Because) -> bool:
    """Whether it is enough that a deleted file is let go of. Most of what grew last is not: a disk
    that is full of other things would stay so for as long as somebody has a small one open.
    """
    return cause.deleted and cause.enough and (cause.share or 0) >= _HALF


def _deletes(step: Step) -> bool:
    return isinstance(step, (Delete, Run, Purge))


def _refilled_by(step: Step, taken: int, causes: list[Because]) -> Because | None:
    """Who writes within ten minutes as much into what a step takes from as is to be `taken`."""
    path = _path_of(step) if taken else ""
    return next(
        (
            each
            for each in causes
            if path and not each.deleted and _is_in(each, path) and each.rate * REFILLED_IN >= taken
        ),
        None,
    )


def _is_in(cause: Because, path: str) -> bool:
    """Whether what grows is that, or lies in it. What grows around it does not fill it: anybody may
    write to a folder beside it.
    """
    return bool(cause.path) and is_within(cause.path, path)


def _path_of(step: Step) -> str:
    if isinstance(step, Delete):
        return str(step.root)
    if isinstance(step, (TrimLog, CutLog)):
        return str(step.path)
    return str(step.changes[0]) if isinstance(step, Run) and step.changes else ""


def _to_reopen(cause: Because) -> Kept:
    return Kept(
        f"{cause.what} (pid {cause.pid})",
        "deleted but open",
        cause.text,
        decide=True,
        command=cause.command,
    )


def _spared(step: Step, cause: Because) -> Kept:
    why = f"pid {cause.pid} has to reopen or close {cause.what}: nothing is deleted for it"
    return Kept(step.target, "not the cause", why)


def _in_vain(step: Step, cause: Because) -> Kept:
    rate = f"{size_text(cause.rate * 60)} a minute"
    why = f"pid {cause.pid} writes {rate} into {display(cause.path)}: it would be full again soon"
    return Kept(step.target, "refilled at once", why, decide=True, command=cause.command)


def _once(kept: list[Kept]) -> Iterator[Kept]:
    """One row for the many steps of one cache."""
    found: dict[tuple[str, str], Kept] = {}
    for each in kept:
        found.setdefault((each.target, each.reason), each)
    yield from found.values()
