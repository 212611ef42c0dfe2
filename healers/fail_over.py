"""Give the claims of owners that are gone back, and start a coordinator of tasks again that is gone
or hangs: end the old one surely, then give back, then start.

Never: a claim whose owner lives, or could; a coordinator that is only slow; a process that the
configuration does not name as the coordinator; a shell that somebody may type into, unless
`kill_pane` says that its pane is the coordinator's alone.
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from miyabi_healing.api import (
    CannotRead,
    Claim,
    CoordinatorHealth,
    Fate,
    GiveBack,
    GiveBackRows,
    Goal,
    HealerContext,
    Issue,
    Kept,
    Life,
    Meta,
    Plan,
    Process,
    Step,
    display,
    give_back,
    has_ended,
    identity_at,
    process_ending,
    quarantine,
    run_tool,
    signal_process,
    systemctl,
    tmux,
)

STOPPING = 100  # seconds: systemd itself kills what has not ended after 90
STARTING = 60  # seconds for a command that starts one
NAMED = 10  # claims that are kept, by name


@dataclass(frozen=True)
class Options:
    """`patience` is how many seconds after SIGTERM one is killed, `settle` how long one has to be
    there to count as started, within `within` seconds. One that is silent, and not stopped, has to
    have been so for `seen_for` seconds, and for its `heartbeat_limit`, as runs have seen.
    """

    patience: Annotated[float, Meta(ge=0)] = 5
    settle: Annotated[float, Meta(ge=0)] = 0.5
    within: Annotated[float, Meta(ge=0)] = 10
    seen_for: Annotated[float, Meta(ge=0)] = 30


def fail_over(context: HealerContext, issue: Issue, options: Options) -> Plan:
    """What is left behind is given back; the coordinator is ended and started only where it is
    down itself.
    """
    health = context.reading(CoordinatorHealth)
    state = health.state
    down = bool(state.down) and issue.name != "orphaned_tasks"  # whose check may be off on purpose
    kept: list[Kept] = []
    sightings: tuple[str, ...] = ()
    if down and state.life == Life.SILENT:
        sightings = (state.mark,)
        # after a pause of the host every heartbeat is late, and the next one may take that long
        enough = max(options.seen_for, health.settings.heartbeat_limit)
        if context.seen_for().get(state.mark, 0) < enough:
            down = False
            why = f"it is ended once runs have seen it so for {enough:g} s"
            kept.append(Kept(state.text, "seen too shortly", why))
    if down and state.place.process and (why := health.ends_with(state.place.process)):
        down = False
        kept.append(Kept(state.text, "somebody would end with it", why, decide=True))
    process = state.place.process if down else None
    steps: list[Step] = []
    if process:
        steps += ending(health, process, options)
    steps += returning(health, process, kept)
    if down:
        steps += starting(health, process, options, kept)
    return Plan(
        tuple(steps),
        goal(health, issue, process, options),
        kept=tuple(kept),
        done=done,
        expects=partial(expected, issue),
        sightings=sightings,
        unproven=down,
    )


def goal(health: CoordinatorHealth, issue: Issue, old: Process | None, options: Options) -> Goal:
    """Of one that is down it is that another is there; else that no claim is left."""
    if issue.name == "orphaned_tasks":
        return Goal("no claim is left behind", lambda: not again(health).claims.orphaned)
    return Goal("it has been started", partial(health.lived_for, options.settle, old))


def again(health: CoordinatorHealth) -> CoordinatorHealth:
    return CoordinatorHealth(health.name, health.config)


# End the old one


def ending(health: CoordinatorHealth, process: Process, options: Options) -> Iterator[Step]:
    """By systemd where it is a unit: else that would start it again before its claims are back."""
    settings, who = health.settings, process_ending.named(process)
    if unit := settings.unit or settings.user_unit:
        yield run_tool(
            [*systemctl(bool(settings.user_unit)), "stop", "--", unit],
            f"{who} hangs",
            time_limit=STOPPING,
            optional=True,
            ends=[process],
            coordinator=health.name,
            guard=partial(not_hanging, health, process),
        )
    if pane := health.state.place.pane:
        yield run_tool(
            [*tmux(settings.tmux), "set-option", "-p", "-t", pane.id, "remain-on-exit", "on"],
            "its pane is to stay when it ends",
            optional=True,
        )
    # one that is stopped gets SIGTERM only when it goes on
    patience = 0 if health.state.life == Life.STOPPED else options.patience
    asked: list[bool] = []

    def may_be_asked() -> str | None:
        if reason := not_hanging(health, process):
            return reason
        asked.append(True)
        return None

    def may_be_killed() -> str | None:
        return ended(process) or (None if asked else "it was not asked to end")

    for number, wait, why, guard in (
        (signal.SIGTERM, patience, "it hangs", may_be_asked),
        (signal.SIGKILL, 1, f"it has not ended {patience:g} s after SIGTERM", may_be_killed),
    ):
        yield signal_process(
            process,
            number,
            why,
            target=f"{number.name} to {who}",
            wait=wait,
            coordinator=health.name,
            optional=True,
            guard=guard,
        )


def not_hanging(health: CoordinatorHealth, process: Process) -> str | None:
    """Why it is not to be ended: it has ended, or gets on again."""
    if reason := ended(process):
        return reason
    now = again(health).look()
    return None if now.life in (Life.STOPPED, Life.SILENT) else now.text


def ended(process: Process) -> str | None:
    return "it has ended already" if has_ended(process) else None


# Give its claims back


def returning(
    health: CoordinatorHealth, process: Process | None, kept: list[Kept]
) -> Iterator[Step]:
    """Those of owners that are gone, and of the process that is to end before. What lives keeps
    its own.
    """
    try:
        there = health.claims.found
    except (OSError, CannotRead) as error:  # what is given back later is not lost meanwhile
        kept.append(Kept(str(health), "claims could not be read", str(error), decide=True))
        return
    found = []
    for claim, owner in there:
        ends = process and owner.process and (owner.process.pid == process.pid)
        if owner.fate == Fate.GONE or ends:
            found.append(claim)
        elif owner.fate == Fate.UNKNOWN and len(kept) < NAMED:
            name = display(str(claim.id))
            kept.append(Kept(name, "owner could not be told", owner.text, decide=True))
    settings = health.settings
    if not found:
        return
    if settings.give_back_command:
        for each in found:
            if why := unsayable(each):
                kept.append(Kept(display(str(each.id)), "no command can be given it", why))
                continue
            yield by_command(health, each)
    elif settings.kind in ("claims", "locks"):
        for each in found:
            with suppress(FileNotFoundError):  # given back meanwhile
                yield set_aside(health, each)
    else:
        yield give_back(
            health.name,
            found,
            "their owners are gone",
            path=Path(settings.tasks).expanduser().resolve() if settings.tasks else None,
        )


def unsayable(claim: Claim) -> str:
    """Why a claim cannot be told to a command: it would be read as an option, or is no word."""
    for value in map(str, (claim.id, claim.status, claim.owner)):
        if value.startswith("-") or "\0" in value:
            return f"{display(value)} could be read as an option"
    return ""


def by_command(health: CoordinatorHealth, claim: Claim) -> Step:
    values = {"id": claim.id, "status": claim.status, "owner": claim.owner}
    program, *words = health.settings.give_back_command
    return run_tool(
        [
            str(Path(program).expanduser()),
            *(
                re.sub(r"{(id|status|owner)}", lambda it: str(values[it[1]]), each)
                for each in words
            ),
        ],
        "its owner is gone",
        optional=True,
        counts="claims_given_back",
        guard=partial(not_gone, health, claim),
    )


def set_aside(health: CoordinatorHealth, claim: Claim) -> Step:
    path = Path(str(claim.id))
    return quarantine(
        path,
        "its owner is gone",
        identity=identity_at(path),
        optional=True,
        counts="claims_given_back",
        guard=partial(not_gone, health, claim),
    )


def not_gone(health: CoordinatorHealth, claim: Claim) -> str | None:
    """Why a claim must stay, by another look at it and at its owner."""
    if claim not in (each for each, _ in again(health).claims.found):
        return "it is another's now, or was given back"
    owner = health.owner(claim)
    return None if owner.fate == Fate.GONE else f"{owner.fate.value}: {owner.text}"


# Start it


def starting(
    health: CoordinatorHealth, process: Process | None, options: Options, kept: list[Kept]
) -> Iterator[Step]:
    settings, place = health.settings, health.state.place
    if unit := settings.unit or settings.user_unit:
        argv = [*systemctl(bool(settings.user_unit)), "start", "--", unit]
    elif settings.pane:
        if place.pane is None:
            why = f"{place.gone}: make it, with remain-on-exit on"
            kept.append(Kept(str(health), "its pane is gone", why, decide=True))
            return
        if place.shell and not settings.kill_pane:
            why = f"{place.gone}: start it there, or set kill_pane"
            kept.append(Kept(str(health), "a shell is in its pane", why, decide=True))
            return
        kill = ["-k"] if settings.kill_pane else []
        argv = [*tmux(settings.tmux), "respawn-pane", *kill, "-t", place.pane.id, *settings.start]
    else:
        argv = health.apart([str(Path(settings.start[0]).expanduser()), *settings.start[1:]])
    yield run_tool(
        argv,
        "it is down",
        time_limit=STARTING,
        optional=True,
        settle=options.within,
        counts="coordinators_started",
        guard=partial(still_there, health, process),
    )


def still_there(health: CoordinatorHealth, process: Process | None) -> str | None:
    """Why it must not be started: two at once would hand out everything twice."""
    if process and not has_ended(process):
        return "the old one has not ended"
    now = again(health).look()
    return None if now.life == Life.GONE else f"it is there: {now.text}"


def expected(issue: Issue, going: Sequence[Step]) -> float | None:
    """That none is left where its steps go; None of a start, which only a look can tell."""
    if issue.name != "orphaned_tasks":
        return None
    given = sum(len(each.claims) for each in going if isinstance(each, (GiveBack, GiveBackRows)))
    given += sum(each.counts == "claims_given_back" for each in going)
    return max(issue.metric_value - given, 0)


def done(counts: Counter[str]) -> str:
    """What was done, in words."""
    kinds = (
        ("gave {} claim(s) back", "claims_given_back"),
        ("started {} coordinator(s)", "coordinators_started"),
    )
    words = ", ".join(text.format(counts[key]) for text, key in kinds if counts[key])
    return f"{words[:1].upper()}{words[1:]}" or "Nothing was left to do"
