"""What of a run is worth telling somebody: only what has changed since the last time, and a
reminder while it lasts.

Nothing here sends or remembers anything; `miyabi_healing.report.alerts.queue` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from miyabi_healing.model import config
from miyabi_healing.model.issue import Severity
from miyabi_healing.report.alerts import foreseen
from miyabi_healing.report.alerts.alert import FORESEEN, Alert, Key, KnownIssue
from miyabi_healing.support.flapping import WINDOW, is_flapping
from miyabi_healing.support.invocation import own_command

if TYPE_CHECKING:
    from miyabi_healing.report.document_types import ActionRow, Document, IssueRow

# states that somebody was alerted to and waits to see the end of
OPEN = ("issue", "unknown", "flapping")
_TOLD_BRAKES = (
    "attempts",
    "budget",
    "quarantine limit",
    "time limit",
)  # the others are waits that end by themselves, or a person's own wish
_LONGEST_REST = 3600  # seconds that an issue may rest before somebody is told


@dataclass(frozen=True)
class _Finding:
    """How one check of one target stands after a run.

    `state` is one of ``healthy``, ``healed``, ``issue``, ``waiting`` (an issue that has not lasted
    long enough to act), ``waived``, ``unknown``. `brake` is what held its healers back, `done` is
    what they say.
    """

    name: str
    target: str
    state: str
    description: str = ""
    severity: str = "medium"
    value: float | None = None
    threshold: float | None = None
    unit: str = ""
    brake: str = ""
    done: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        return self.name, self.target


def _findings(document: Document) -> Iterator[_Finding]:
    """How each check stands, from the report of a run."""
    issues = {(row["name"], row["target"]): row for row in document["issues_detected"]}
    unknown = {(row["check"], row.get("target", "")): row["message"] for row in document["errors"]}
    for (name, target), message in unknown.items():
        yield _Finding(name, target, "unknown", message, "high")
    if ("", "") not in unknown and not document.get("left_out"):  # which is no proof for all
        yield _Finding("", "", "healthy")
    for metric in document["metrics"]:
        key = metric["name"], metric["target"]
        if key not in issues and key not in unknown:
            state = "waived" if metric["outcome"] == "waived" else "healthy"
            yield _Finding(
                *key,
                state,
                metric["description"],
                "medium",
                metric["value"],
                metric["threshold"],
                metric["unit"],
            )
    for key, row in issues.items():
        if key in unknown:
            continue
        actions = [
            each for each in document["actions_taken"] if (each["issue"], each["target"]) == key
        ]
        brake = next((each["brake"] for each in actions if each["brake"]), "") or _blocked_by(
            actions
        )
        state = "healed" if row["healed"] else "waiting" if brake.startswith("gate:") else "issue"
        done = (*_reasons(row), *(f"{each['action']}: {each['message']}" for each in actions))
        yield _Finding(
            *key,
            state,
            row["description"],
            row["severity"],
            row["metric_value"],
            row["threshold"],
            row["unit"],
            brake,
            done,
        )


def _reasons(row: IssueRow) -> tuple[str, ...]:
    """Why an issue is as it is, the surest reason alone."""
    if not row.get("because"):
        return ()
    from miyabi_healing.report.because_text import reason_text, reasons_of

    return tuple(map(reason_text, reasons_of(row).rows[:1]))


def _blocked_by(actions: Iterable[ActionRow]) -> str:
    """The brake that stopped single steps."""
    steps = (step for each in actions for step in each["steps"] if step["status"] == "vetoed")
    return next((str(step["message"]) for step in steps), "")


def decide(
    document: Document,
    known: Mapping[Key, KnownIssue],
    policy: config.PolicySettings,
    rules: config.AlertSettings,
    now: float,
) -> tuple[list[Alert], dict[Key, KnownIssue]]:
    """What to tell, and what is to be remembered for the next run."""
    alerts: list[Alert] = []
    remembered: dict[Key, KnownIssue] = {}
    forecasts = {key: each for key, each in known.items() if key[0].startswith(FORESEEN)}
    known = {key: each for key, each in known.items() if key not in forecasts}
    seen = {each.key: each for each in _findings(document)}
    left_out = set(document.get("left_out", ()))
    # the run ran: what could not be checked before, and is no error now, is over; of a run of a
    # part, what it has measured itself says so
    if not left_out and seen["", ""].state == "healthy":
        seen = {
            key: _Finding(*key, "healthy")
            for key, before in known.items()
            if before.state == "unknown"
        } | seen
    for key, finding in seen.items():
        before = known.get(key, KnownIssue())
        if finding.state == "waiting" or _rests(finding, before, policy):
            remembered[key] = before
            continue
        wrong = finding.state in ("issue", "unknown")
        before = replace(before, course=(before.course + "01"[wrong])[-2 * WINDOW :])
        flaps = is_flapping(
            [mark == "1" for mark in before.course], policy.flap_on, policy.flap_off
        )
        kind, after = _judge(finding, before, flaps, rules, now)
        if kind:
            alerts.append(alert(kind, finding, after or before, str(document["run_id"])))
        remembered[key] = after
    # a target that is gone is forgotten after a while, one that was not looked at is not
    for key, before in known.items():
        recent = now - before.told < rules.remind_hours * 3600
        if key not in seen and (recent or left_out):
            remembered[key] = before
    early = any(each.get("early") for each in document["actions_taken"])
    if forecasts or early or document.get("foreseen"):
        news, waiting = foreseen.decide(document, forecasts, rules, now)
        alerts += news
        remembered |= waiting
    return alerts, {key: each for key, each in remembered.items() if each != KnownIssue()}


def _rests(finding: _Finding, before: KnownIssue, policy: config.PolicySettings) -> bool:
    """Whether an issue that nobody was told of only waits for its healer's rest to be over: a few
    minutes later it is healed, or there is something to tell.
    """
    return (
        finding.brake.startswith("cooldown:")
        and finding.severity != "critical"
        and before.state not in OPEN
        and policy.cooldown <= _LONGEST_REST
    )


def _judge(
    finding: _Finding, before: KnownIssue, flaps: bool, rules: config.AlertSettings, now: float
) -> tuple[str, KnownIssue]:
    """The kind of alert there is to give, empty for none, and what is remembered then."""
    # or the clock was set back
    due = now - before.told >= rules.remind_hours * 3600 or now < before.told
    if finding.state == "waived":
        return "", KnownIssue()
    if flaps:
        return _changed("flapping", "flapping", finding, before, now, "flapping" if due else "")
    if finding.state == "unknown":
        return _changed("unknown", "unknown", finding, before, now, "reminder" if due else "")
    if finding.state == "issue":
        worse = before.state == "issue" and _rank(finding.severity) > _rank(before.severity)
        tripped = finding.brake.split(":")[0]
        braked = tripped in _TOLD_BRAKES and tripped != before.brake
        again = "unhealed" if worse else "brake" if braked else "reminder" if due else ""
        return _changed("issue", "unhealed", finding, before, now, again)
    if before.state in OPEN:
        told = (
            KnownIssue("healed", since=now, told=now) if finding.state == "healed" else KnownIssue()
        )
        return ("healed" if finding.state == "healed" else "recovered"), replace(
            told, course=before.course
        )
    # nobody waits for it; what is healed in every run is told once in a while
    if finding.state == "healed":
        tell = rules.healed and (before.state != "healed" or due)
        return "healed" if tell else "", replace(
            before, state="healed", since=now, told=now
        ) if tell else before
    keep = before.state == "healed" and not due
    return "", before if keep else KnownIssue(course=before.course if "1" in before.course else "")


def _changed(
    state: str, kind: str, finding: _Finding, before: KnownIssue, now: float, again: str
) -> tuple[str, KnownIssue]:
    """An alert where the state is new, another (`again`, empty for none) where it is not."""
    tripped = finding.brake.split(":")[0]
    if before.state != state:
        return kind, KnownIssue(state, finding.severity, tripped, now, now, before.course)
    # a policy that is told is told once: one that comes and goes by itself does not make it new
    known = tripped if tripped in _TOLD_BRAKES else before.brake
    after = replace(before, severity=finding.severity, brake=known)
    return again, replace(after, told=now) if again else after


def _rank(severity: str) -> int:
    return Severity[severity.upper()] if severity else 0


def alert(kind: str, finding: _Finding, known: KnownIssue, run: str) -> Alert:
    return Alert(
        kind,
        finding.name,
        finding.target,
        finding.severity,
        finding.description,
        finding.value,
        finding.threshold,
        finding.unit,
        finding.done,
        finding.brake,
        advice(kind, finding, run),
        known.since,
    )


def advice(kind: str, finding: _Finding, run: str) -> str:
    """What a person can do now."""
    command = own_command()
    if kind == "healed":
        return f"Nothing to do. {command} rollback {run} undoes it."
    if kind == "recovered":
        return "Nothing to do."
    if kind == "unknown" or finding.state == "unknown":
        return (
            "What could not be checked is unknown, not healthy: "
            f"{command} --dry-run shows the error."
        )
    if kind == "flapping":
        course = (
            f"{command} history --issue {finding.name}" if finding.name else f"{command} history"
        )
        return f"Healing rests until it settles, and alerts too. {course} shows its course."
    return (
        f"{command} --dry-run shows what could be done, what was kept and why; "
        f"{command} status what holds it back."
    )
