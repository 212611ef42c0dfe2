"""Words for hosts and rollouts, as text, page and alerts have them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.cells import cell_len

from miyabi_healing.model.rollout import OPEN, HostState, RolloutState
from miyabi_healing.report.folding import folded
from miyabi_healing.report.layout import wrapped
from miyabi_healing.report.style import Style
from miyabi_healing.support.formatting import display
from miyabi_healing.support.invocation import own_command, shell_word

# A host in each state, in an order for people: what asks for something first.
STATES = {
    HostState.ISSUES: "with issues that remain",
    HostState.UNKNOWN: "not known, as not all could be checked",
    HostState.FAILED: "without a report",
    HostState.BUSY: "busy with another run",
    HostState.UNREACHABLE: "unreachable",
    HostState.AT_WORK: "at work",
    HostState.UNTOUCHED: "untouched",
    HostState.WELL: "well",
}


def many_hosts(number: int) -> str:
    """``1 host``, ``1,234 hosts``."""
    return f"{number:,} host{'' if number == 1 else 's'}"


def hosts_text(hosts: Sequence[str], number: int, room: int) -> str:
    """The first of `number` hosts, in about so many columns, and how many more there are; those
    with running numbers as first and last: ``db1, host1 … host30 (30) … and 1,204 more``.
    """
    said: list[str] = []
    shown = width = 0
    for each in folded(hosts):
        text = display(each.text)
        width += cell_len(text) + 2
        if said and width > room:
            break
        said.append(text)
        shown += each.number
    rest = f" … and {number - shown:,} more" if number > shown else ""
    return ", ".join(said) + rest


def counts_text(counts: Mapping[str, int]) -> str:
    """``1 with issues that remain, 29 untouched``: what there is, the well ones last."""
    found = ((counts.get(state.value, 0), words) for state, words in STATES.items())
    return ", ".join(f"{number:,} {words}" for number, words in found if number)


def asked_text(counts: Mapping[str, int]) -> str:
    """How far a rollout came: ``50,000 of 100,000 hosts asked``."""
    every = sum(counts.values())
    return f"{every - counts.get(HostState.UNTOUCHED.value, 0):,} of {many_hosts(every)} asked"


def standing_text(
    label: str, state: str, *, by_rule: bool, reason: str, wave: int, waves: int, in_hand: bool
) -> str:
    """Where a rollout stands, in a sentence without its full stop."""
    name, place = display(label), f"wave {wave} of {waves}"
    if state == RolloutState.RUNNING:
        return (
            f"{name}: no coordinator works on {place}"
            if not in_hand
            else f"{name} is at work in {place}"
        )
    if state == RolloutState.FINISHED:
        return f"{name} is finished"
    who = "a rule" if by_rule else "somebody"
    return f"{name} was stopped by {who} in {place}" + (f": {display(reason)}" if reason else "")


def next_steps(
    label: str, state: str, counts: Mapping[str, int], options: str = "", where: str = "",
    *, in_hand: bool = True,
) -> Iterator[tuple[str, str]]:  # fmt: skip
    """What to do about a rollout: a command, and what it does. `options` are those of the command
    that goes on with it, where they are known; `where` is the one that names the store, if any.
    """
    more = f" {options or where}" if options or where else ""
    program, name = f"{own_command()} fleet", shell_word(label)
    no_answer = sum(
        counts.get(each.value, 0)
        for each in (HostState.UNREACHABLE, HostState.FAILED, HostState.BUSY)
    )
    to_come = any(counts.get(each.value, 0) for each in OPEN)
    is_running = state == RolloutState.RUNNING
    if (is_running and not in_hand) or (state == RolloutState.STOPPED and to_come):
        yield f"{program} resume {name}{more}", "goes on with the next hosts"
    elif state == RolloutState.STOPPED and not no_answer:
        yield f"{program} resume {name}{more}", "ends it: no host is left to ask"
    if not is_running and no_answer:
        yield f"{program} resume {name} --again{more}", "asks those once more that gave no answer"
    if is_running:
        at = f" {where}" if where else ""
        yield f"{program} stop {name} --reason WHY{at}", "has no more hosts asked"


def hint_lines(command: str, what: str, style: Style) -> Iterator[str]:
    """A command, alone on its line and whole, so that it can be copied; and what it does."""
    yield style.finished(style.lead("hint") + command)
    yield from map(style.finished, wrapped(f"{what}.", style.width, "   ", "   "))
