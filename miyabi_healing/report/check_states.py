"""How each check stands after a run, in words: what the live view and the lines of a watch show."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from miyabi_healing.report.ranges import counted
from miyabi_healing.support.formatting import duration_text, plain_number

if TYPE_CHECKING:
    from miyabi_healing.report.document_types import ActionRow, Document, IssueRow

Key = tuple[str, str]  # a check's name and its target
ALL_CHECKS: Key = ("all checks", "")
DEEDS = ("success", "partial", "failed")  # statuses of actions that did or tried something
# brakes that only say when the next attempt is: an issue under them is as it was
_RESTS = ("cooldown", "attempts", "flapping", "budget")


class Kind(Enum):
    """How a check stands. The order is that of the view: what is wrong comes first."""

    OVER = "over the limit"
    UNKNOWN = "unknown"
    WAITS = "waits"
    HEALED = "healed"
    WAIVED = "waived"
    WITHIN = "within the limit"


BAD = (Kind.OVER, Kind.UNKNOWN, Kind.WAITS)


@dataclass(frozen=True)
class CheckState:
    """How one check stands. `value` and `threshold` are None where they are unknown, `before` is
    what was found before it was healed, `detail` why it is unknown, what it waits for, or why
    nothing was done.
    """

    name: str
    target: str
    kind: Kind
    detail: str = ""
    value: float | None = None
    before: float | None = None
    threshold: float | None = None
    unit: str = ""
    severity: str = ""

    @property
    def key(self) -> Key:
        return self.name, self.target

    @property
    def label(self) -> str:
        return f"{self.name} {self.target}".rstrip()

    @property
    def now(self) -> str:
        """The value as people write it; empty where there is none. What is over its limit never
        looks like it.
        """
        if self.value is None:
            return ""
        text = amount(self.value, self.unit)
        same = self.threshold is not None and text == amount(self.threshold, self.unit)
        if self.value == self.threshold or not same:
            return text
        return f"{plain_number(self.value)}{' s' * (self.unit == 's')}"

    @property
    def limit(self) -> str:
        """The limit with its unit; empty where there is none."""
        if self.threshold is None:
            return ""
        return f"{amount(self.threshold, self.unit)} {shown_unit(self.unit)}".rstrip()

    @property
    def now_of_limit(self) -> str:
        """``54 of 90 %``, ``81 → 12 of 50 MB`` where it was healed; empty where nothing was
        measured.
        """
        healed = self.kind == Kind.HEALED and self.before is not None
        before = f"{amount(self.before or 0, self.unit)} → " if healed else ""
        return f"{before}{self.now} of {self.limit}" if self.now else ""

    @property
    def points(self) -> tuple[float | None, ...]:
        """What the run adds to the course: the value, and what it was before it was healed."""
        return (self.before, self.value) if self.kind == Kind.HEALED else (self.value,)

    @property
    def news(self) -> str:
        """What makes the state another one than before: not a value, nor when it is tried again."""
        if self.kind in (Kind.HEALED, Kind.WITHIN):
            return Kind.WITHIN.value
        if self.kind == Kind.UNKNOWN:
            return f"{self.kind.value}: {re.sub('[0-9]+', '', self.detail)}"
        brake = self.detail.partition(":")[0]
        if self.kind == Kind.WAITS and brake not in _RESTS:
            return f"{self.kind.value}: {brake}"
        return Kind.WAIVED.value if self.kind == Kind.WAIVED else Kind.OVER.value


def amount(value: float, unit: str) -> str:
    """A measured value for people; seconds are rounded to minutes, hours or days."""
    if unit == "s":
        return duration_text(value) if value else "0"
    # what is small is told to two decimals, what is large not finer than anybody reads
    return plain_number(round(value, 1) if abs(value) >= 10 else value)


def shown_unit(unit: str) -> str:
    """The unit that is put after an amount; that of seconds is in it."""
    return "" if unit == "s" else unit


def states_of(document: Document) -> list[CheckState]:
    """Every check of a run, in the order of the run; first what nothing else says.

    A run that could not begin is one state: all checks are unknown.
    """
    found = {each.key: each for each in _measured(document)}
    for error in document["errors"]:
        key = (error["check"], error.get("target", "")) if error["check"] else ALL_CHECKS
        known = found.get(key)
        found[key] = CheckState(
            *key,
            Kind.UNKNOWN,
            error["message"],
            threshold=known.threshold if known else None,
            unit=known.unit if known else "",
        )
    if not document["overall_success"] and not any(each.kind in BAD for each in found.values()):
        found[ALL_CHECKS] = CheckState(*ALL_CHECKS, Kind.UNKNOWN, document["summary"])
    return list(found.values())


def _measured(document: Document) -> Iterator[CheckState]:
    issues = {(each["name"], each["target"]): each for each in document["issues_detected"]}
    actions: dict[Key, list[ActionRow]] = {}
    for action in document["actions_taken"]:
        actions.setdefault((action["issue"], action["target"]), []).append(action)
    for metric in document["metrics"]:
        key = (metric["name"], metric["target"])
        issue = issues.pop(key, None)
        waived = metric["outcome"] == "waived"
        kind, detail = _kind(issue, actions.get(key, []), waived, document["dry_run"])
        yield CheckState(
            *key,
            kind,
            detail,
            metric["value"],
            issue["metric_value"] if issue else None,
            metric["threshold"],
            metric["unit"],
            issue["severity"] if issue else "",
        )
    for key, issue in issues.items():  # of checks that assert without measuring
        kind, detail = _kind(issue, actions.get(key, []), False, document["dry_run"])
        yield CheckState(
            *key,
            kind,
            detail,
            None if issue["healed"] else issue["metric_value"],
            issue["metric_value"],
            issue["threshold"],
            issue["unit"],
            issue["severity"],
        )


def _kind(
    issue: IssueRow | None, actions: list[ActionRow], waived: bool, dry_run: bool
) -> tuple[Kind, str]:
    if waived:
        return Kind.WAIVED, ""
    if issue is None:
        return Kind.WITHIN, ""
    if issue["healed"]:
        by_us = any(each["status"] == "success" for each in actions)
        return (Kind.HEALED, "") if by_us else (Kind.WITHIN, "it went away without help")
    tried = any(each["status"] in DEEDS for each in actions)
    policy = blocked_by(actions)
    if policy and not tried:
        return Kind.WAITS, policy
    if not actions:
        return Kind.OVER, "" if dry_run else "no healer"
    return Kind.OVER, actions[-1]["message"] + _to_decide(actions)


def blocked_by(actions: Sequence[ActionRow]) -> str:
    """Which policy blocks the last plan that one blocks, or steps of it; empty where none does."""
    for action in reversed(actions):
        brake: str = action["brake"]
        if brake:
            return brake
        messages = [each["message"] for each in action["steps"] if each["status"] == "vetoed"]
        if messages:
            return "; ".join(reason for reason, _ in counted(messages))
    return ""


def _to_decide(actions: Iterable[Mapping[str, Any]]) -> str:
    """How much of what was kept a person must decide on, and by which command."""
    kept = [row for each in actions for row in each["kept"] if row.get("decide")]
    if not kept:
        return ""
    command = next((row["command"] for row in kept if row.get("command")), "")
    return f"; {sum(row['count'] for row in kept)} for you to decide" + (
        f": {command}" if command else ""
    )


def counts(states: Iterable[CheckState]) -> str:
    """``1 over the limit, 8 within the limit``: how many stand how, the worst first."""
    counted = Counter[Kind](
        Kind.WITHIN if each.kind == Kind.HEALED else each.kind for each in states
    )
    if set(counted) == {Kind.WITHIN}:
        return "within the limit" if counted.total() == 1 else "all within their limits"
    return ", ".join(
        f"{counted[kind]} {'waiting' if kind == Kind.WAITS else kind.value}"
        for kind in Kind
        if counted[kind]
    )


def deeds(document: Document) -> list[ActionRow]:
    """The actions of a run that did something, or tried to."""
    return [each for each in document["actions_taken"] if each["status"] in DEEDS]
