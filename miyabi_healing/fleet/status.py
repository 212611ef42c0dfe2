"""How a fleet stands, from the latest report of each host: for ``fleet status``.

Asks a store for counts and for the hosts that are not well; reports themselves stay unread. A host
that is silent is counted as that alone: what it said last may not be so any more.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from miyabi_healing.fleet.stored_rollout import in_hand_at
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.model.rollout import ANSWERED, HostState, RolloutState, state_of

_EVERYTHING = 1 << 31  # hosts; more than any store has
_MOST_ROLLOUTS = 20
_WORST = ("low", "medium", "high", "critical")


class Reader(Protocol):
    """Of a store (`miyabi_healing.fleet.store`), what reads."""

    def now(self) -> float: ...

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]: ...


@dataclass(frozen=True)
class SilentHost:
    """A host that gave no report for too long: `seconds` since the last one, None where it never
    gave any; `state` is what that one came to.
    """

    host: str
    seconds: float | None
    state: str = ""
    version: str = ""


@dataclass(frozen=True)
class OpenIssue:
    """One issue that remains on `number` hosts; `hosts` are those that have not been well for the
    longest, `since` when that began (seconds since the epoch; None where it is not known).
    """

    name: str
    severity: str
    number: int
    hosts: tuple[str, ...]
    since: float | None


@dataclass(frozen=True)
class SomeHosts:
    """Some hosts: how many they are, and the names of the first."""

    number: int
    hosts: tuple[str, ...]


@dataclass(frozen=True)
class VersionInUse:
    """Hosts by the version that made their latest report; they are named unless most have it."""

    version: str
    number: int
    hosts: tuple[str, ...]


@dataclass(frozen=True)
class OpenRollout:
    """A rollout that runs, or was stopped. `counts` has every state, with the hosts in it;
    `in_hand` is whether a coordinator has some of them.
    """

    label: str
    state: str
    by_rule: bool
    reason: str
    wave: int
    waves: int
    made: float
    counts: dict[str, int]
    in_hand: bool


@dataclass(frozen=True)
class FleetStatus:
    """All of it; times are seconds since the epoch by the store's clock. `well`, `issues`,
    `unknown` and `silent` add up to `hosts`.
    """

    now: float
    silent_after: float
    hosts: int
    well: int
    issues: int
    unknown: SomeHosts
    silent: int
    never: int
    silent_hosts: tuple[SilentHost, ...]
    open_issues: tuple[OpenIssue, ...]
    blocked: SomeHosts
    versions: tuple[VersionInUse, ...]
    rollouts: tuple[OpenRollout, ...]

    @property
    def exit_status(self) -> ExitCode:
        """Whether all are heard of and well; a fleet of no hosts has shown nothing."""
        if self.silent or self.unknown.number or not self.hosts:
            return ExitCode.UNKNOWN
        return ExitCode.ISSUES if self.issues else ExitCode.HEALTHY


def read_status(store: Reader, silent_after: float, most: int | None = None) -> FleetStatus:
    """The fleet as it is now. `most` is how many hosts of a kind are named, None for all. Raises
    StoreError.
    """
    limit = _EVERYTHING if most is None else most
    now = store.now()
    oldest = now - silent_after
    by_code = dict(
        store.rows("select code, count(*) from fleet_report where kept >= ? group by code", oldest)
    )
    ((late,),) = store.rows("select count(*) from fleet_report where kept < ?", oldest)
    never = _never_heard(store)
    well = by_code.pop(int(ExitCode.HEALTHY), 0)
    issues = by_code.get(int(ExitCode.ISSUES), 0)
    unwell = [each for code in sorted(by_code) for each in _unwell(store, code, oldest)]
    unwell.sort(key=lambda each: (each.since is None, each.since, each.host))
    unknown = [each.host for each in unwell if each.code != ExitCode.ISSUES]
    blocked = [each.host for each in unwell if each.blocked]
    return FleetStatus(
        now=now,
        silent_after=silent_after,
        hosts=sum(by_code.values()) + well + late + len(never),
        well=well,
        issues=issues,
        unknown=SomeHosts(len(unknown), tuple(sorted(unknown)[:limit])),
        silent=late + len(never),
        never=len(never),
        silent_hosts=tuple(_silent(store, now, oldest, never, limit)),
        open_issues=tuple(_open_issues(unwell, limit)),
        blocked=SomeHosts(len(blocked), tuple(sorted(blocked)[:limit])),
        versions=tuple(_versions(store, limit)),
        rollouts=tuple(_rollouts(store, now)),
    )


def _never_heard(store: Reader) -> list[str]:
    """Hosts that rollouts know and that have given no report, ever. One that has answered a rollout
    has given one; so only the others are looked at, by their index.
    """
    states = [each.value for each in HostState if each not in ANSWERED]
    query = f"""select distinct fleet_host.host
        from fleet_rollout join fleet_host on fleet_host.label = fleet_rollout.label
        where fleet_host.state in ({", ".join("?" * len(states))}) and not exists
        (select 1 from fleet_report where fleet_report.host = fleet_host.host)
        order by fleet_host.host"""
    return [host for (host,) in store.rows(query, *states)]


def _silent(
    store: Reader, now: float, oldest: float, never: Sequence[str], most: int
) -> Iterator[SilentHost]:
    """Those that were never heard of first, then the longest silence."""
    yield from (SilentHost(host, None) for host in never[:most])
    query = """select host, kept, code, version from fleet_report where kept < ?
        order by kept limit ?"""
    for host, kept, code, version in store.rows(query, oldest, max(most - len(never), 0)):
        yield SilentHost(host, now - kept, state_of(code).value, version)


@dataclass(frozen=True)
class _Unwell:
    host: str
    code: int
    blocked: int
    since: float | None
    issues: str


def _unwell(store: Reader, code: int, oldest: float) -> Iterator[_Unwell]:
    query = """select host, code, blocked, since, issues from fleet_report
        where code = ? and kept >= ?"""
    return (_Unwell(*row) for row in store.rows(query, code, oldest))


def _open_issues(unwell: Iterable[_Unwell], most: int) -> Iterator[OpenIssue]:
    """The one that most hosts have first; hosts in the order given."""
    hosts: dict[str, list[_Unwell]] = {}
    severities: dict[str, str] = {}
    for each in unwell:
        for name, severity in unhealed(each.issues).items():
            hosts.setdefault(name, []).append(each)
            severities[name] = worse(severity, severities.get(name, ""))
    for name, found in sorted(hosts.items(), key=lambda item: (-len(item[1]), item[0])):
        began = [each.since for each in found if each.since is not None]
        yield OpenIssue(
            name=name,
            severity=severities[name],
            number=len(found),
            hosts=tuple(each.host for each in found[:most]),
            since=min(began, default=None),
        )


@lru_cache(maxsize=4096)  # most hosts have the same few
def unhealed(issues: str) -> dict[str, str]:
    """The names of issues that remain, of column ``issues``, each with its worst severity. Hosts
    may have written anything there: what is no issue is passed over.
    """
    found: dict[str, str] = {}
    try:
        rows = json.loads(issues)
    except (ValueError, RecursionError):
        return found
    for each in rows if isinstance(rows, list) else ():
        name = each.get("name") if isinstance(each, dict) else None
        if isinstance(name, str) and name and each.get("healed") is not True:
            severity = each.get("severity")
            known = severity if severity in _WORST else ""
            found[name] = worse(known, found.get(name, ""))
    return found


def worse(one: str, other: str) -> str:
    """The worse of two severities; an empty one weighs least."""
    return max(one, other, key=("", *_WORST).index)


def _versions(store: Reader, most: int) -> Iterator[VersionInUse]:
    """The one that most hosts have first, without their names."""
    query = "select version, count(*) from fleet_report group by version order by 2 desc, version"
    named = "select host from fleet_report where version = ? order by host limit ?"
    for place, (version, number) in enumerate(store.rows(query)):
        hosts = store.rows(named, version, most) if place else []
        yield VersionInUse(version, number, tuple(host for (host,) in hosts))


def _rollouts(store: Reader, now: float) -> Iterator[OpenRollout]:
    """Those that run or were stopped, the latest first."""
    query = f"""select label, state, by_rule, reason, wave, waves, made, {in_hand_at("?")}
        from fleet_rollout where state <> ? order by made desc limit ?"""
    counted = "select state, count(*) from fleet_host where label = ? group by state"
    finished = RolloutState.FINISHED.value
    for label, state, by_rule, reason, wave, waves, made, in_hand in store.rows(
        query, now, finished, _MOST_ROLLOUTS
    ):
        counts = {**{each.value: 0 for each in HostState}, **dict(store.rows(counted, label))}
        where = (label, state, bool(by_rule), reason, wave, waves)
        yield OpenRollout(*where, made, counts, bool(in_hand))
