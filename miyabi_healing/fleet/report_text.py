"""The report of a rollout for people: where it stands, what is left on which hosts, what next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from miyabi_healing.fleet.report import Store
from miyabi_healing.fleet.wording import (
    STATES,
    counts_text,
    hint_lines,
    hosts_text,
    many_hosts,
    next_steps,
    standing_text,
)
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.model.rollout import HostState
from miyabi_healing.report.layout import wrapped
from miyabi_healing.report.ranges import template
from miyabi_healing.report.style import Style
from miyabi_healing.support.formatting import display, minute_text

_LINES = 3  # of names, for each thing to say
_MOST = 5000  # hosts of a state that are asked for, to be folded
_ISSUES, _MESSAGES = 12, 4
_MARKS: dict[int, str] = {
    ExitCode.HEALTHY: "good",
    ExitCode.ISSUES: "bad",
    ExitCode.UNKNOWN: "unknown",
    ExitCode.STOPPED: "blocked",
}
_QUIET = (HostState.AT_WORK, HostState.UNTOUCHED)
_TOLD = (HostState.UNKNOWN, HostState.FAILED, HostState.BUSY, HostState.UNREACHABLE, *_QUIET)


def rollout_lines(
    store: Store,
    head: Mapping[str, Any],
    issues: Mapping[str, list[str]],
    style: Style,
    options: str = "",
    where: str = "",
) -> Iterator[str]:
    """In the style given, at most as wide as that. `options` and `where` are as `next_steps` has
    them. Raises StoreError.
    """
    for text, mark in _texts(store, head, issues, style.width):
        lead = style.lead(mark) if mark else "   "
        for line in wrapped(text, style.width, lead, "   "):
            yield style.finished(line)
    about = head["label"], head["state"], head["counts"], options, where
    for command, what in next_steps(*about, in_hand=head["in_hand"]):
        yield from hint_lines(command, what, style)


def _texts(
    store: Store, head: Mapping[str, Any], issues: Mapping[str, list[str]], width: int
) -> Iterator[tuple[str, str]]:
    """Each with its mark."""
    room = _LINES * width
    names = ("state", "by_rule", "reason", "wave", "waves", "in_hand")
    where = {name: head[name] for name in names}
    running = head["state"] == "running"
    mark = "actions" if running else _MARKS[head["exit_status"]]
    yield f"{standing_text(head['label'], **where)}.", mark
    yield f"{many_hosts(head['hosts'])}: {counts_text(head['counts'])}.", ""
    by = f" by {display(head['made_by'])}" if head["made_by"] else ""
    ended = f"; ended {minute_text(head['ended'])}" if head["ended"] else ""
    yield f"Begun {minute_text(head['made'])}{by}{ended}.", ""
    for name, hosts in list(issues.items())[:_ISSUES]:
        where_left = f"{many_hosts(len(hosts))}: {hosts_text(hosts, len(hosts), room)}"
        yield f"{display(name)} is left on {where_left}", "bad"
    if len(issues) > _ISSUES:
        yield f"… and {len(issues) - _ISSUES} more issues", ""
    for state in _TOLD:
        if number := head["counts"][state.value]:
            mark = "notes" if state in _QUIET else "unknown"
            yield from _of_state(store, head["label"], state, number, room, mark)


def _of_state(
    store: Store, label: str, state: HostState, number: int, room: int, mark: str
) -> Iterator[tuple[str, str]]:
    """The hosts in one state, by why they are in it."""
    query = """select host, message from fleet_host where label = ? and state = ?
        order by host limit ?"""
    alike: dict[str, list[tuple[str, str]]] = {}
    for host, message in store.rows(query, label, state.value, _MOST):
        alike.setdefault(template(message.replace(host, "")), []).append((host, message))
    groups = sorted(alike.values(), key=lambda each: -len(each))
    said = 0
    for rows in groups[:_MESSAGES]:
        hosts = [host for host, _ in rows]
        # more than are asked for have all the same to say, as far as can be seen
        count = number if len(groups) == 1 else len(hosts)
        message = f" ({display(rows[0][1])})" if rows[0][1] else ""
        names = hosts_text(hosts, count, room)
        yield f"{count:,} {STATES[state]}: {names}{message}", mark
        said += count
    if said < number:
        yield f"{number - said:,} more {STATES[state]}", mark
