"""A rollout: one labelled run on each of many hosts, in waves, by coordinators that may die."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.model.fleet import FleetOrder


class HostState(StrEnum):
    """Where one host stands in a rollout. The words stand in stores, so they stay."""

    UNTOUCHED = "untouched"
    AT_WORK = "at work"  # it was asked, and has not answered yet
    WELL = "well"  # healthy, or healed
    ISSUES = "issues"  # some remain
    UNKNOWN = "unknown"  # something could not be checked
    BUSY = "busy"  # another run held its lock for too long
    FAILED = "failed"  # the program could not be run there, or gave no report
    UNREACHABLE = "unreachable"


ANSWERED = frozenset((HostState.WELL, HostState.ISSUES, HostState.UNKNOWN))
OPEN = frozenset((HostState.UNTOUCHED, HostState.AT_WORK))

_TEMPLATES = ("{{", "{%", "{#")  # begin one of Jinja

_BY_CODE: dict[int, HostState] = {
    ExitCode.HEALTHY: HostState.WELL,
    ExitCode.ISSUES: HostState.ISSUES,
    ExitCode.UNKNOWN: HostState.UNKNOWN,
    ExitCode.BUSY: HostState.BUSY,
}


def state_of(code: int) -> HostState:
    """Where a host stands whose run ended with an exit status."""
    return _BY_CODE.get(code, HostState.FAILED)


class RolloutState(StrEnum):
    """Where a rollout stands. The words stand in stores, so they stay."""

    RUNNING = "running"
    STOPPED = "stopped"  # by a rule, or by somebody: `fleet resume` goes on
    FINISHED = "finished"


@dataclass(frozen=True)
class Rules:
    """What stops a rollout. Shares are per cent: more than `max_fail` of a wave's hosts not well,
    those that cannot be reached included; more than `same_issue` of all that answered with one
    issue. `canary` is whether the first wave has to be well, all of it.
    """

    canary: bool = True
    max_fail: float = 20
    same_issue: float = 49


@dataclass(frozen=True)
class Slice:
    """Hosts that one coordinator works on at a time. Waves and slices are numbered from 1."""

    number: int
    wave: int
    hosts: tuple[str, ...]


def check_label(label: str) -> None:
    """Raises ValueError for what can be no rollout's name."""
    if not label:
        raise ValueError("a rollout has a label")
    FleetOrder(label)
    for mark in _TEMPLATES:
        if mark in label:
            raise ValueError(f"a label has no {mark} in it: Ansible would run what follows")


@dataclass(frozen=True)
class Rollout:
    """What is to be done: `label` names it on the hosts, too. `at_once` is the most hosts that are
    at work at a time, whoever asked them; `lease` how many seconds a slice stays with a coordinator
    that gives no sign of life.
    """

    label: str
    slices: tuple[Slice, ...]
    at_once: int = 50
    lease: float = 30
    rules: Rules = field(default_factory=Rules)
    dry_run: bool = False

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(host for each in self.slices for host in each.hosts)

    @property
    def waves(self) -> int:
        return max((each.wave for each in self.slices), default=0)


@dataclass(frozen=True)
class Claim:
    """A slice that one coordinator has: its `token` is higher than of whoever had it before."""

    label: str
    slice: Slice
    token: int
    lease: float


@dataclass(frozen=True)
class Answer:
    """What one host has said, or that it did not. `report` is its document, where it gave one."""

    host: str
    state: HostState
    code: int | None = None
    message: str = ""
    report: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Standing:
    """Where a rollout stands. `wave` is the one in hand; `reason` why it was stopped, `by_rule`
    whether a rule did; `counts` how many hosts are in each state; `in_hand` whether a coordinator
    has some of them. Times are seconds since the epoch, by the store's clock; `ended` is None while
    it runs.
    """

    label: str
    state: RolloutState
    wave: int
    waves: int
    counts: Mapping[HostState, int]
    reason: str = ""
    by_rule: bool = False
    made: float = 0
    made_by: str = ""
    ended: float | None = None
    in_hand: bool = False
