"""How a fleet stands, for people: who is silent, what is left where, versions, rollouts."""

from __future__ import annotations

from collections.abc import Iterator

from miyabi_healing.fleet.status import FleetStatus, OpenIssue, OpenRollout, SilentHost
from miyabi_healing.fleet.wording import (
    asked_text,
    hint_lines,
    hosts_text,
    many_hosts,
    next_steps,
    standing_text,
)
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.report.layout import wrapped
from miyabi_healing.report.style import Style
from miyabi_healing.support.formatting import display, duration_text

NAMED = 500  # hosts of a kind that are asked for, to be folded
_LINES = 1  # of names, for each thing to say
_SILENCES, _ISSUES, _VERSIONS, _ROLLOUTS = 4, 8, 4, 4


def status_lines(
    found: FleetStatus, style: Style, options: tuple[str, str] = ("", "")
) -> Iterator[str]:
    """In the style given, at most as wide as that, but for commands. `options` are the `options`
    and `where` of `wording.next_steps`.
    """
    for mark, text in _texts(found, style.width):
        lead = style.lead(mark) if mark else "   "
        for line in wrapped(text, style.width, lead, "   "):
            yield style.finished(line)
    yield from _rollouts(found, style, options)


def head_text(found: FleetStatus) -> str:
    """All hosts in a sentence: silent, not known, with issues, well."""
    if not found.hosts:
        return "No host is known yet: none has reported, and no rollout was made."
    parts = (
        (found.silent, "silent"),
        (found.unknown.number, "not known"),
        (found.issues, "with issues that remain"),
        (found.well, "well"),
    )
    said = ", ".join(f"{number:,} {words}" for number, words in parts if number)
    return f"{many_hosts(found.hosts)}: {said}."


def silences(hosts: tuple[SilentHost, ...]) -> dict[str, list[SilentHost]]:
    """Silent hosts by how long they have been, rounded, in the order given; those that were never
    heard of by an empty word.
    """
    alike: dict[str, list[SilentHost]] = {}
    for each in hosts:
        word = "" if each.seconds is None else duration_text(each.seconds)
        alike.setdefault(word, []).append(each)
    return alike


def issue_text(issue: OpenIssue, now: float) -> str:
    """``disk_space_critical (high) is left on 12 hosts, one of them not well for 3 d``."""
    severity = f" ({display(issue.severity)})" if issue.severity else ""
    since = ""
    if issue.since is not None:
        one = ", one of them" if issue.number > 1 else ","
        since = f"{one} not well for {duration_text(max(now - issue.since, 0))}"
    return f"{display(issue.name)}{severity} is left on {many_hosts(issue.number)}{since}"


def rollout_text(rollout: OpenRollout) -> str:
    """Where it stands, and how far it came."""
    standing = standing_text(
        rollout.label,
        rollout.state,
        by_rule=rollout.by_rule,
        reason=rollout.reason,
        wave=rollout.wave,
        waves=rollout.waves,
        in_hand=rollout.in_hand,
    )
    return f"{standing}. {asked_text(rollout.counts)}."


def _rollouts(found: FleetStatus, style: Style, options: tuple[str, str]) -> Iterator[str]:
    for rollout in found.rollouts[:_ROLLOUTS]:
        lead = style.lead("actions" if rollout.state == "running" else "blocked")
        yield from map(style.finished, wrapped(rollout_text(rollout), style.width, lead, "   "))
        about = rollout.label, rollout.state, rollout.counts, *options
        for command, what in next_steps(*about, in_hand=rollout.in_hand):
            yield from hint_lines(command, what, style)
    if len(found.rollouts) > _ROLLOUTS:
        more = f"… and {len(found.rollouts) - _ROLLOUTS} more rollouts that are not finished"
        yield from map(style.finished, wrapped(more, style.width, "   ", "   "))


def _texts(found: FleetStatus, width: int) -> Iterator[tuple[str, str]]:
    """What there is to say about hosts, each with its mark before it."""
    room = _LINES * width
    marks: dict[ExitCode, str] = {ExitCode.HEALTHY: "good", ExitCode.ISSUES: "bad"}
    yield marks.get(found.exit_status, "unknown"), head_text(found)
    yield from _silent(found, room)
    for issue in found.open_issues[:_ISSUES]:
        hosts = hosts_text(issue.hosts, issue.number, room)
        yield "bad", f"{issue_text(issue, found.now)}: {hosts}"
    if len(found.open_issues) > _ISSUES:
        yield "", f"… and {len(found.open_issues) - _ISSUES} more issues"
    if found.unknown.number:
        hosts = hosts_text(found.unknown.hosts, found.unknown.number, room)
        many = many_hosts(found.unknown.number)
        yield "unknown", f"Not all could be checked on {many}: {hosts}"
    if found.blocked.number:
        hosts = hosts_text(found.blocked.hosts, found.blocked.number, room)
        yield "blocked", f"Blocked by policy on {many_hosts(found.blocked.number)}: {hosts}"
    yield from _versions(found, room)


def _silent(found: FleetStatus, room: int) -> Iterator[tuple[str, str]]:
    """Those that were never heard of, then the longest silence."""
    if not found.silent:
        return
    long = duration_text(found.silent_after)
    never = ", or never heard of" if found.never else ""
    yield "unknown", f"Silent for more than {long}{never}: {many_hosts(found.silent)}"
    said = 0
    for word, hosts in list(silences(found.silent_hosts).items())[:_SILENCES]:
        number = found.never if not word else len(hosts)
        names = hosts_text([each.host for each in hosts], number, room)
        yield "", f"{word or 'never'}: {names}"
        said += number
    if said < found.silent:
        yield "", f"… and {found.silent - said:,} more"


def _versions(found: FleetStatus, room: int) -> Iterator[tuple[str, str]]:
    if len(found.versions) < 2:
        return
    first, *others = found.versions
    yield "notes", f"Version {display(first.version) or 'not known'}: {many_hosts(first.number)}"
    for each in others[:_VERSIONS]:
        hosts = hosts_text(each.hosts, each.number, room)
        name = display(each.version) or "not known"
        yield "", f"version {name}: {many_hosts(each.number)}: {hosts}"
    if len(others) > _VERSIONS:
        yield "", f"… and {len(others) - _VERSIONS} more versions"
