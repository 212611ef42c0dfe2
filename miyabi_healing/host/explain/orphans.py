"""What may be done about a process whose parent is gone."""

from __future__ import annotations

from signal import Signals

from miyabi_healing.host.explain.question import Question
from miyabi_healing.host.orphan_families import look_again
from miyabi_healing.host.orphan_groups import Family, Group
from miyabi_healing.host.orphans import Orphans
from miyabi_healing.host.process_status import Process, read_process
from miyabi_healing.host.reparented import reparented_processes
from miyabi_healing.model.explanation import Explanation
from miyabi_healing.model.steps import Signal
from miyabi_healing.support.formatting import display

_CHECK, _HEALER = "orphaned_processes", "end_orphans"


def explain(question: Question) -> Explanation | None:
    """For a process that was asked about by its number; None where its parent, or one above it,
    lives.
    """
    try:
        process = read_process(question.pid) if question.pid is not None else None
    except PermissionError:  # hidepid
        return None
    if process is None:
        return None
    found = look_again(process, question.config.processes.protected)
    if isinstance(found, Family):
        return _of_family(question, process, found)
    if all(each.pid != process.pid for each in reparented_processes()):
        return None
    return Explanation(
        kind="orphan",
        target=_name(process),
        verdict=f"its parent is gone, but it is no orphan: {found}",
    )


def _of_family(question: Question, process: Process, family: Family) -> Explanation:
    below = len(family.members) - 1
    evidence = [
        f"{family.text} has lost its parent, and has no terminal and no unit of its own",
        f"{below} process(es) live below it" if below else "nothing lives below it",
    ]
    if family.client:
        return Explanation(
            kind="orphan",
            target=_name(process),
            verdict=f"it is left alone: it is in use, or could be: {family.client}",
            evidence=tuple(evidence),
        )
    evidence.append("nobody lives at the other end of its pipes and sockets")
    evidence.append(_whether_it_counts(question, family))
    plan = question.plan(_HEALER, Orphans((Group((family,)),)))
    signals = [
        Signals(each.signal).name
        for each in plan.steps
        if isinstance(each, Signal) and each.pid == process.pid
    ]
    most = question.threshold(_CHECK, 1000)
    verdict = (
        f"it may be sent {', then '.join(signals)}, once orphans take more than {most:g} MB"
        if signals
        else f"it is left alone: {'; '.join(f'{each.reason}: {each.detail}' for each in plan.kept)}"
    )
    changes = (
        "to keep it: its name in [processes] protected"
        if signals
        else f'to have it ended: may_end = ["{display(family.name)}"] in [healers.{_HEALER}]'
    )
    return Explanation(
        kind="orphan",
        target=_name(process),
        verdict=verdict,
        evidence=(*evidence, *question.switched_off(_CHECK, _HEALER)),
        changes=(changes,),
        commands=(f"{question.program} --dry-run",),
    )


def _whether_it_counts(question: Question, family: Family) -> str:
    orphans = question.host.orphans()
    pid = family.root.pid
    if any(each.root.pid == pid for each in orphans.families):
        return f"it counts: orphans take {orphans.megabytes:.0f} MB in all"
    if family.seconds < question.config.processes.orphan_minutes * 60:
        return (
            f"it does not count before it is {question.config.processes.orphan_minutes:g} min old"
        )
    return "it does not count: it is the only one of its program, and small or at work"


def _name(process: Process) -> str:
    return f"{display(process.name)} (pid {process.pid})"
