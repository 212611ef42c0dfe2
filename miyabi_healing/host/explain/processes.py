"""What may be done about a process: a zombie, its parent, or any other."""

from __future__ import annotations

from signal import Signals

from miyabi_healing.host.explain import memory_use
from miyabi_healing.host.explain.question import Question
from miyabi_healing.host.process_ending import named
from miyabi_healing.host.process_status import Process, read_process
from miyabi_healing.host.processes import Processes
from miyabi_healing.model.explanation import Explanation
from miyabi_healing.model.steps import Run, Signal


def explain(question: Question) -> Explanation | None:
    """For a process that was asked about by its number; None where there is none."""
    if question.pid is None:
        return None
    try:
        process = read_process(question.pid)
    except PermissionError as error:  # hidepid
        return Explanation(
            kind="process",
            target=f"pid {question.pid}",
            verdict=f"it cannot be looked at: {error.strerror}",
            certain=False,
        )
    if process is None:
        return None
    processes = question.host.processes()
    everyone = processes.all()
    zombies = processes.zombies()
    if process.is_zombie:
        return _of_zombie(question, process, processes)
    own = [each for each in zombies if each.ppid == process.pid]
    evidence = [_who(process), _parent_words(process, everyone)]
    living = sum(each.ppid == process.pid and not each.is_zombie for each in everyone)
    evidence.append(f"it has {living} living children and {len(own)} zombies")
    protection = processes.protection(process)
    evidence.append(f"protected: {protection}" if protection else "it is not protected")
    if not protection and (reason := processes.reason_not_to_end(process)):
        evidence.append(f"it may be asked, but is never ended: {reason}")
    evidence += memory_use.evidence(process, everyone)
    if not own and memory_use.may_stop(question, process, processes):
        evidence += question.switched_off("high_memory_usage", "clear_cache")
        return Explanation(
            kind="process",
            target=_name(process),
            verdict=memory_use.verdict(question),
            evidence=tuple(evidence),
            changes=("to keep it: take it out of [healers.clear_cache] may_stop",),
        )
    if not own:
        return Explanation(
            kind="process",
            target=_name(process),
            verdict="it is left alone: it has no zombies, and is not to be stopped for memory",
            evidence=tuple(evidence),
        )
    verdict, change = _ladder(question, process, processes)
    evidence += question.switched_off("zombie_processes", "kill_zombies")
    return Explanation(
        kind="process",
        target=_name(process),
        verdict=verdict,
        evidence=tuple(evidence),
        changes=change,
        commands=(f"{question.program} --dry-run",),
    )


def _of_zombie(question: Question, zombie: Process, processes: Processes) -> Explanation:
    parent = read_process(zombie.ppid)
    evidence = [f"{_who(zombie)}: it has ended, and takes an entry in the table of processes"]
    if parent is None:
        return Explanation(
            kind="zombie",
            target=_name(zombie),
            verdict="its parent ended meanwhile: init reaps it",
            evidence=tuple(evidence),
        )
    evidence.append(f"only its parent can reap it: {_name(parent)}")
    verdict, change = _ladder(question, parent, processes)
    evidence += question.switched_off("zombie_processes", "kill_zombies")
    return Explanation(
        kind="zombie",
        target=_name(zombie),
        verdict=verdict,
        evidence=tuple(evidence),
        changes=change,
        commands=(f"{question.program} why {parent.pid}",),
    )


def _ladder(
    question: Question, parent: Process, processes: Processes
) -> tuple[str, tuple[str, ...]]:
    """What the healer may do to a parent of zombies, in its order."""
    plan = question.plan("kill_zombies", processes)
    signals = [
        Signals(each.signal).name
        for each in plan.steps
        if isinstance(each, Signal) and each.pid == parent.pid
    ]
    restarts = [
        each.target
        for each in plan.steps
        if isinstance(each, Run) and (parent.pid, parent.start) in each.ends
    ]
    kept = [each for each in plan.kept if each.target.endswith(f"pid {parent.pid})")]
    most = question.threshold("zombie_processes", 5)
    if restarts and not signals:
        words = f"{_name(parent)} is a service: {restarts[0]}, once there are more than {most:g}"
        return f"{words} zombies", ("to keep it: its name in [processes] protected",)
    if signals:
        limits = "".join(f"; {each.detail}" for each in kept)
        return (
            f"{_name(parent)} may be sent {', then '.join(signals)}, once there are more than "
            f"{most:g} zombies{limits}",
            ("to keep it: its name in [processes] protected",),
        )
    if kept:
        why = f"{kept[0].reason}: {kept[0].detail}"
        return (
            f"{_name(parent)} is left alone: {why}",
            ("end or restart it yourself, or have it reap its children",),
        )
    return f"{_name(parent)} has no zombies that last", ()


def _name(process: Process) -> str:
    return named(process)


def _who(process: Process) -> str:
    states = {"Z": "a zombie", "T": "stopped", "t": "traced", "R": "running", "S": "sleeping"}
    return f"{states.get(process.state, f'state {process.state}')}, of uid {process.uid}"


def _parent_words(process: Process, everyone: tuple[Process, ...]) -> str:
    parent = next((each for each in everyone if each.pid == process.ppid), None)
    return f"its parent is {_name(parent)}" if parent else "it has no parent that is seen"
