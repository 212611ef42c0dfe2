"""The keys of the documented report and of its rows, as ``report.schema.json`` describes them.

For types alone: at run time nobody needs this module.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class ErrorRow(TypedDict):
    """A check whose result is unknown, and why; `check` is empty where it is all of them."""

    check: str
    target: NotRequired[str]
    message: str


class IssueRow(TypedDict):
    """An issue that a check found."""

    name: str
    description: str
    severity: str
    metric_value: float
    threshold: float | int
    unit: str
    target: str
    healed: bool
    used_by: NotRequired[list[dict[str, Any]]]
    because: NotRequired[list[BecauseRow]]
    healer_order: NotRequired[OrderRow]


class OrderRow(TypedDict):
    """The order in which healers are tried, where it is not the documented one; `swaps` are
    sentences with the numbers.
    """

    healers: list[str]
    documented: list[str]
    swaps: list[str]


class StepRow(TypedDict):
    """One step of a plan, and what became of it."""

    number: int
    kind: str
    target: str
    reason: str
    bytes: int
    bytes_estimated: bool
    bytes_later: int
    undo: str
    status: str
    message: str
    freed: int
    details: dict[str, object]
    duration_seconds: float


class KeptRow(TypedDict):
    """A thing that a healer left alone, and why."""

    target: str
    reason: str
    detail: str
    count: int
    decide: NotRequired[bool]
    command: NotRequired[str]


class ActionRow(TypedDict):
    """One run of a healer for one issue; `stopped` is there where somebody asked the run to stop
    meanwhile, `early` where its issue was only foreseen.
    """

    action: str
    status: str
    message: str
    duration_seconds: float
    details: dict[str, Any]
    issue: str
    target: str
    goal: str
    expected: NotRequired[float | None]
    brake: str
    steps: list[StepRow]
    kept: list[KeptRow]
    stopped: NotRequired[bool]
    early: NotRequired[bool]


class MetricRow(TypedDict):
    """What a check measured in the run of it that counts."""

    name: str
    target: str
    value: float
    description: str
    threshold: float | int
    critical: float | int | None
    unit: str
    outcome: str


class RecoveredRow(TypedDict):
    """A step that an earlier run was ended in, and what became of it."""

    step: int
    run_id: str
    kind: str
    target: str
    intended: str
    result: str


class QuarantineRow(TypedDict):
    """What is in quarantine, what that will free and when, and what was purged."""

    things: int
    bytes: int
    limit_bytes: int
    days: NotRequired[float]
    next_expiry: str | None
    next_expiry_by: str | None
    purged: list[StepRow]


class _AlertRow(TypedDict):
    """What somebody is alerted to."""

    kind: str
    name: str
    target: str
    text: str
    status: str


class BecauseRow(TypedDict):
    """Why something is as it is: `grade` is ``accounts for``, ``came just before`` or ``went
    together``; `share` a part of what grew, from 0 to 1, None where nothing adds up. `pid` and
    `command` only where there is a process, and something to do about it.
    """

    grade: str
    what: str
    share: float | None
    text: str
    pid: NotRequired[int]
    command: NotRequired[str]


class ForeseenRow(TypedDict):
    """An issue that has not occurred. `reached`, `earliest` and `latest` are times as `timestamp`
    writes them; `confidence` is the share of past alarms of this value that came true, None before
    there was one; `early` the healer that acted before it occurs, empty where none did.
    """

    name: str
    target: str
    value: float
    threshold: float | int
    unit: str
    reached: str
    eta_seconds: float
    earliest: str | None
    latest: str | None
    basis: str
    seen: int
    alarms: int
    confidence: float | None
    causes: list[str]
    early: str


class FleetRow(TypedDict):
    """Who asked for a run: its label, empty without one, and the token, None without one."""

    run: str
    token: int | None


class UnchangedRow(TypedDict):
    """Since when nothing has changed, and when it was to be printed whole last."""

    since: str
    printed: str


class Document(TypedDict):
    """The report of one run; one that could not run has no `quarantine` and no `duration_seconds`.

    `out_of_memory_kills` is there where there were some, `left_out` where not all checks that are
    on were to run, `unchanged` where the run before it came to the same. What earlier versions did
    not write, their stored documents lack.
    """

    schema_version: int
    version: NotRequired[str]
    ended: NotRequired[float]
    timestamp: str
    host: str
    run_id: str
    dry_run: bool
    overall_success: bool
    summary: str
    issues_detected: list[IssueRow]
    actions_taken: list[ActionRow]
    metrics: list[MetricRow]
    errors: list[ErrorRow]
    notes: list[str]
    recovered: list[RecoveredRow]
    quarantine: NotRequired[QuarantineRow]
    alerts: NotRequired[list[_AlertRow]]
    duration_seconds: NotRequired[float]
    out_of_memory_kills: NotRequired[int]
    left_out: NotRequired[list[str]]
    unchanged: NotRequired[UnchangedRow]
    foreseen: NotRequired[list[ForeseenRow]]
    fleet: NotRequired[FleetRow]
    again: NotRequired[bool]
    superseded_by: NotRequired[int]
