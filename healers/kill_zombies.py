"""Get zombies reaped: ask their parents, and end one only for zombies that it has had for long.

A zombie costs an entry in the table of processes; ending live work for it costs somebody's
afternoon. Who is never ended is not decided here, and the gate asks again.

Never: live work, an agent, a shell, a database, an init, or what `[processes] protected` names; a
parent with living children, unless `with_children` is set.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

from miyabi_healing.api import (
    Goal,
    HealerContext,
    Issue,
    Kept,
    Meta,
    Plan,
    Process,
    Processes,
    Run,
    Signal,
    Step,
    ToolError,
    catches,
    commands,
    container,
    control_groups,
    duration_text,
    process_ending,
    run_tool,
    signal_process,
)

MOST_ASKED = 20  # parents a run, those with the most zombies
PASSING = ("too few zombies", "seen too shortly")  # what the next runs may see otherwise
LAZY = 10  # seconds in which an init that reaps has reaped
ASKED = 0.5  # seconds until a handler has reaped something
CURES = {
    process_ending.Kind.WORK: "end or upgrade it once its work is done",
    process_ending.Kind.HELD: "let it go on, and it reaps them itself",
    process_ending.Kind.CONTAINER: "restart its container, with an init: docker run --init",
    process_ending.Kind.UNKNOWN: "look at it, and restart it if nothing is lost",
}
RESTART = "restart or upgrade it"


@dataclass(frozen=True)
class Options:
    """A parent may be ended from `several` zombies on that it has had for `seen_for` seconds, as
    runs have seen. `with_children`: also one that has living children. `restart`: the service
    instead, where it is one's main process. `kill`: SIGKILL at last. `patience`: seconds for
    SIGTERM.
    """

    with_children: bool = False
    kill: bool = False
    patience: Annotated[float, Meta(ge=0)] = 5
    seen_for: Annotated[float, Meta(ge=0)] = 60
    several: Annotated[int, Meta(ge=1)] = 2
    restart: bool = False


@dataclass(frozen=True)
class Parent:
    """One that has zombies: all of them, those that are `old` enough, and how many of its children
    live.
    """

    process: Process
    zombies: tuple[Process, ...]
    old: tuple[Process, ...]
    oldest: float
    living: int

    @property
    def name(self) -> str:
        return process_ending.named(self.process)

    @property
    def facts(self) -> str:
        """Who it is, how many zombies it has, of what, and since when."""
        ((what, _), *_others) = Counter(each.name for each in self.zombies).most_common(1)
        place = process_ending.where(self.process)
        number = len(self.zombies)
        words = f"{number} zombie{'s' if number > 1 else ''} ({what})"
        since = f"seen for {duration_text(self.oldest)}" if self.oldest else "first seen now"
        return ", ".join(filter(None, (place, words, since)))


@dataclass
class Ladder:
    """What the steps that end something ask before each: it goes no further where the last one did
    not help.
    """

    processes: Processes
    several: int
    ended: Parent | None = field(default=None)

    def objection(self, parent: Parent) -> str | None:
        now = {key(each) for each in self.processes.zombies(0)}
        if sum(key(each) in now for each in parent.old) < self.several:
            return "it has reaped them meanwhile"
        before = self.ended
        another = before and before.process != parent.process
        if before and another and all(key(each) in now for each in before.old):
            return f"ending {before.name} reaped none of its zombies: no other is ended"
        self.ended = parent
        return None


def kill_zombies(context: HealerContext, issue: Issue, options: Options) -> Plan:
    """A ladder over the parents, those with the most zombies first: SIGCHLD as long as it helps,
    then, for old ones, restart or SIGTERM, and SIGKILL if asked for.
    """
    processes, seen_for = context.reading(Processes), context.seen_for()
    zombies = processes.zombies()
    everyone = {each.pid: each for each in processes.all()}
    parents, kept = find_parents(zombies, everyone, seen_for, options)
    ladder = Ladder(processes, options.several)
    asked: list[Step] = []
    ended: list[Step] = []
    tried: list[str] = []  # only what the gate came to: it stops where enough are reaped
    # one that is only slow has had them for no time, or from somebody who ended just now
    lazy = (each for each in parents if each.process.pid == 1 and each.oldest >= LAZY)
    lazy_init = next((each for each in lazy if each.old), None)
    for parent in parents:
        why = processes.protection(parent.process)
        new = any(f"asked {key(each)}" not in seen_for for each in parent.zombies)
        ask = not why and len(asked) < MOST_ASKED and catches(parent.process.pid, signal.SIGCHLD)
        if ask and new:
            asked.append(asking(processes, parent, tried))
        if why:
            kept.append(Kept(parent.name, "protected", f"{parent.facts}; {why}{init_cure(parent)}"))
            continue
        reason, detail, step = judge(processes, parent, options, ladder, lazy_init)
        if reason:
            only = "; it is only asked to reap them" if ask and new else ""
            kept.append(
                Kept(
                    parent.name,
                    reason,
                    f"{parent.facts}; {detail}{only}",
                    decide=reason not in PASSING,
                )
            )
        ended += step
    least = int(issue.limit.clear)
    return Plan(
        (*asked, *ended),
        Goal(f"no more than {least} zombies are left", lambda: len(processes.zombies()) <= least),
        kept=tuple(kept),
        done=achieved,
        expects=partial(expected, len(zombies), least, parents),
        details={"zombies_found": len(zombies)},
        sightings=tuple(
            each
            for zombie in zombies
            for each in noted(zombie)
            if each == key(zombie) or each in seen_for
        ),
        tried=lambda: tuple(tried),
    )


def expected(
    number: int, least: int, parents: Sequence[Parent], going: Sequence[Step]
) -> float | None:
    """How many zombies are left where their parents end; whether one that is asked reaps any, only
    asking tells.
    """
    ended: set[tuple[int, int]] = set()
    left = number
    for each in going:
        if left <= least:
            break
        if isinstance(each, Signal) and each.signal != signal.SIGCHLD:
            ended.add((each.pid, each.start))
        ended.update(each.ends if isinstance(each, Run) else ())
        gone = [one for one in parents if (one.process.pid, one.process.start) in ended]
        left = number - sum(len(one.zombies) for one in gone)
    asked = any(isinstance(each, Signal) and each.signal == signal.SIGCHLD for each in going)
    return None if asked and left > least else left


def find_parents(
    zombies: tuple[Process, ...],
    everyone: Mapping[int, Process],
    seen_for: Mapping[str, float],
    options: Options,
) -> tuple[list[Parent], list[Kept]]:
    """Who has zombies, those with the most old ones first; and whose parents are gone."""
    children: dict[int, list[Process]] = {}
    for each in zombies:
        children.setdefault(each.ppid, []).append(each)
    living = Counter(each.ppid for each in everyone.values() if not each.is_zombie)
    parents, kept = [], []
    for pid, dead in children.items():
        process = everyone.get(pid)
        if process is None or process.is_zombie:
            kept.append(unseen(pid, len(dead)))
            continue
        ages = {each: seen_for.get(key(each)) for each in dead}
        old = [
            each
            for each, age in ages.items()
            if not options.seen_for or (age is not None and age >= options.seen_for)
        ]
        oldest = max((age for age in ages.values() if age is not None), default=0.0)
        parents.append(Parent(process, tuple(dead), tuple(old), oldest, living[pid]))
    return sorted(parents, key=lambda each: (-len(each.old), -len(each.zombies))), kept


def unseen(pid: int, number: int) -> Kept:
    """Of zombies whose parent is not among the living that we see."""
    words = f"{number} zombie{'s' if number > 1 else ''}"
    if pid == 0:  # getppid(2): it is in another PID namespace, as of docker exec
        return Kept("pid 0", "out of sight", f"{words}; their parent is outside of this container")
    return Kept(f"pid {pid}", "ended meanwhile", f"{words}; their parent has ended, or is hidden")


def judge(
    processes: Processes, parent: Parent, options: Options, ladder: Ladder, lazy_init: Parent | None
) -> tuple[str, str, list[Step]]:
    """Whether a parent is ended: the short reason why not, what is said of it, and the steps."""
    found = process_ending.objection(parent.process)
    few, enough = len(parent.zombies) < options.several, len(parent.old) >= options.several
    if found and found.unit:
        steps, why = restarting(parent, found.unit, options, ladder) if enough else ([], "")
        said = f"{found.text}; cure: {found.unit.restart}" + (f" ({why})" if why else "")
        return ("" if steps else found.kind.value), said, steps
    if found:
        return found.kind.value, f"{found.text}; cure: {CURES[found.kind]}", []
    if few:
        return "too few zombies", f"ended only from {options.several} on; cure: {RESTART}", []
    if not enough:
        wait = duration_text(options.seen_for)
        return "seen too shortly", f"ended only when it has had the same ones for {wait}", []
    if parent.living and not options.with_children:
        return "living children", f"{parent.living} of its children live; cure: {RESTART}", []
    if lazy_init:
        number = len(lazy_init.zombies)
        said = f"init, which would have them then, leaves {number} itself{init_cure(lazy_init)}"
        return "init does not reap", said, []
    return "", "", ending(parent, options, ladder)


def asking(processes: Processes, parent: Parent, tried: list[str]) -> Step:
    def guard() -> str | None:
        if reason := still_guilty(processes, parent):
            return reason
        tried.extend(f"asked {key(each)}" for each in parent.zombies)
        return None

    return signal_process(
        parent.process,
        signal.SIGCHLD,
        f"ask it to reap its {parent.facts}",
        target=f"SIGCHLD to {parent.name}",
        undo="nothing to undo",
        counts="parents_asked",
        wait=ASKED,
        guard=guard,
    )


def ending(parent: Parent, options: Options, ladder: Ladder) -> list[Step]:
    numbers = [signal.SIGTERM, *([signal.SIGKILL] if options.kill else [])]
    return [
        signal_process(
            parent.process,
            number,
            f"it does not reap its {parent.facts}; for good: {RESTART}",
            target=f"{number.name} to {parent.name}",
            counts="signals_to_end",
            wait=options.patience,
            guard=partial(ladder.objection, parent),
        )
        for number in numbers
    ]


def restarting(
    parent: Parent, unit: control_groups.Unit, options: Options, ladder: Ladder
) -> tuple[list[Step], str]:
    """Restarting a service whose main process has the zombies; or why that is a person's."""
    if not options.restart:
        return [], "or let it be done: restart = true"
    if why := reason_not_to_restart(parent, unit):
        return [], why
    own = ["--user"] if unit.user is not None else []

    def guard() -> str | None:
        return reason_not_to_restart(parent, unit) or ladder.objection(parent)

    step = run_tool(
        ["systemctl", *own, "restart", unit.name],
        f"{parent.name} does not reap its {parent.facts}",
        time_limit=90,
        counts="services_restarted",
        optional=True,
        ends=[parent.process],
        guard=guard,
    )
    return [step], ""


def reason_not_to_restart(parent: Parent, unit: control_groups.Unit) -> str | None:
    """It is asked of systemd whose main process it is."""
    if unit.user != (None if os.geteuid() == 0 else os.geteuid()):
        return f"it is the service of {'the system' if unit.user is None else f'uid {unit.user}'}"
    own = ["--user"] if unit.user is not None else []
    argv = ["systemctl", *own, "show", "--property=MainPID", "--value", unit.name]
    try:
        said = commands.run_program(argv, time_limit=10, whole_environment=True)
        if said.code or said.stdout.decode("ascii", "replace").strip() != str(parent.process.pid):
            return "systemctl does not say that it is its main process"
        return process_ending.reason_not_to_restart(parent.process, unit)
    except (ToolError, OSError) as error:
        return f"what else it runs cannot be told: {error}"


def init_cure(parent: Parent) -> str:
    """What helps where it is init that leaves zombies."""
    if parent.process.pid != 1 or not container():
        return ""
    return "; cure: start the container with an init that reaps (docker run --init)"


def still_guilty(processes: Processes, parent: Parent) -> str | None:
    pid = parent.process.pid
    return (
        None if any(each.ppid == pid for each in processes.zombies(0)) else "it has none any more"
    )


def key(zombie: Process) -> str:
    """By what a later run knows it again."""
    return f"{zombie.pid} {zombie.start}"


def noted(zombie: Process) -> tuple[str, str]:
    return key(zombie), f"asked {key(zombie)}"


def achieved(counts: Counter[str]) -> str:
    """What was done, and what it came to, as measured."""
    deeds = {
        "parents_asked": "asked {} parent(s)",
        "services_restarted": "restarted {} service(s)",
        "signals_to_end": "sent {} signal(s) to end one",
    }
    done = ", ".join(text.format(counts[name]) for name, text in deeds.items() if counts[name])
    if number := counts["zombies_reaped"]:
        return f"{number} zombie(s) reaped: {done}"
    return f"{done[:1].upper()}{done[1:]}" + (
        "" if counts["services_restarted"] else "; no zombie was reaped"
    )
