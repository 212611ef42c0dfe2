"""The fleet as a page for a browser: one file, like the page of a host (`report.page`).

It names the worst and counts the rest, so it stays small whatever the number of hosts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing import __version__
from miyabi_healing.fleet.status import FleetStatus, OpenRollout, SomeHosts
from miyabi_healing.fleet.status_text import head_text, rollout_text, silences
from miyabi_healing.fleet.wording import STATES, hosts_text, many_hosts, next_steps
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.model.rollout import HostState
from miyabi_healing.report.page import making, words
from miyabi_healing.report.page.parts import BAD, GOOD, QUIET, WARN, Line, Tile
from miyabi_healing.support.formatting import display, duration_text
from miyabi_healing.support.invocation import own_command

_MOST_SILENT, _MOST_ISSUES, _MOST_VERSIONS = 12, 40, 20
_ROOM = 200  # letters of names in a cell
_TONES = {ExitCode.HEALTHY: GOOD, ExitCode.ISSUES: BAD, ExitCode.UNKNOWN: WARN}


@dataclass(frozen=True)
class ShareRow:
    """Hosts that have something in common: `part` is their share of all in per cent."""

    name: str
    detail: str
    number: int
    part: float
    hosts: str


@dataclass(frozen=True)
class RolloutRow:
    """A rollout that is not finished, and what to do about it."""

    text: str
    tone: str
    begun: str
    commands: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class FleetPage:
    """All of it: data alone, which the template only has to place."""

    made: str
    verdict: Line
    silent_after: str
    tiles: tuple[Tile, ...]
    silent: tuple[ShareRow, ...]
    more_silent: int
    issues: tuple[ShareRow, ...]
    more_issues: int
    lists: tuple[ShareRow, ...]
    versions: tuple[ShareRow, ...]
    more_versions: int
    rollouts: tuple[RolloutRow, ...]
    program: str
    version: str


def render(page: FleetPage) -> str:
    """As HTML: whatever came from hosts is escaped."""
    return making.render(page, Path(__file__).parent / "fleet.html")


def page_of(found: FleetStatus, options: tuple[str, str] = ("", "")) -> FleetPage:
    """The page of a fleet; `options` are the `options` and `where` of `wording.next_steps`."""
    silent = tuple(_silent(found))
    return FleetPage(
        made=words.moment(found.now),
        verdict=Line(head_text(found), _TONES.get(found.exit_status, WARN)),
        silent_after=duration_text(found.silent_after),
        tiles=tuple(_tiles(found)),
        silent=silent,
        more_silent=found.silent - sum(each.number for each in silent),
        issues=tuple(_issues(found)),
        more_issues=max(len(found.open_issues) - _MOST_ISSUES, 0),
        lists=tuple(_lists(found)),
        versions=tuple(_versions(found)),
        more_versions=max(len(found.versions) - _MOST_VERSIONS, 0),
        rollouts=tuple(_rollout(each, options) for each in found.rollouts),
        program=own_command(),
        version=__version__,
    )


def _tiles(found: FleetStatus) -> Iterator[Tile]:
    every = f"of {found.hosts:,}" if found.hosts else ""
    never = f"{found.never:,} never heard of" if found.never else ""
    long = f"no report for {duration_text(found.silent_after)}"
    yield _tile("silent hosts", found.silent, never or long, WARN, every)
    most = found.open_issues[0] if found.open_issues else None
    note = f"{display(most.name)} on {many_hosts(most.number)}" if most else "nothing is left"
    yield _tile("hosts with issues", found.issues, note, BAD, every)
    blocked = f"{found.blocked.number:,} blocked by policy" if found.blocked.number else ""
    yield _tile("not all checked", found.unknown.number, blocked or "of any host", WARN, every)
    stopped = sum(each.state == "stopped" for each in found.rollouts)
    note = f"{stopped} stopped" if stopped else "none is stopped"
    tone = WARN if stopped else QUIET
    yield Tile("rollouts not finished", f"{len(found.rollouts):,}", "", note, tone)


def _tile(label: str, number: int, note: str, tone: str, rest: str) -> Tile:
    return Tile(label, f"{number:,}", rest, note, tone if number else QUIET)


def _silent(found: FleetStatus) -> Iterator[ShareRow]:
    """By how long they have been, with what they said last."""
    for word, hosts in list(silences(found.silent_hosts).items())[:_MOST_SILENT]:
        said = Counter(STATES[HostState(each.state)] for each in hosts if each.state)
        last = ", ".join(f"{number:,} {words}" for words, number in said.most_common())
        number = len(hosts) if word else found.never
        names = SomeHosts(number, tuple(each.host for each in hosts))
        yield _share(found, word or "never heard of", last and f"were {last}", names)


def _issues(found: FleetStatus) -> Iterator[ShareRow]:
    for each in found.open_issues[:_MOST_ISSUES]:
        since = ""
        if each.since is not None:
            since = f"not well for {duration_text(max(found.now - each.since, 0))} at most"
        detail = " · ".join(filter(None, (each.severity, since)))
        yield _share(found, each.name, detail, SomeHosts(each.number, each.hosts))


def _lists(found: FleetStatus) -> Iterator[ShareRow]:
    if found.unknown.number:
        yield _share(found, "not all could be checked", "", found.unknown)
    if found.blocked.number:
        yield _share(found, "blocked by policy", "", found.blocked)


def _versions(found: FleetStatus) -> Iterator[ShareRow]:
    for each in found.versions[:_MOST_VERSIONS]:
        named = SomeHosts(each.number, each.hosts)
        row = _share(found, each.version or "not known", "", named)
        yield row if each.hosts else ShareRow(row.name, "", row.number, row.part, "")


def _share(found: FleetStatus, name: str, detail: str, hosts: SomeHosts) -> ShareRow:
    part = round(100 * hosts.number / max(found.hosts, 1), 2)
    return ShareRow(name, detail, hosts.number, part, hosts_text(hosts.hosts, hosts.number, _ROOM))


def _rollout(rollout: OpenRollout, options: tuple[str, str]) -> RolloutRow:
    about = rollout.label, rollout.state, rollout.counts, *options
    return RolloutRow(
        text=rollout_text(rollout),
        tone=WARN if rollout.state == "stopped" else QUIET,
        begun=words.moment(rollout.made),
        commands=tuple(next_steps(*about, in_hand=rollout.in_hand)),
    )
