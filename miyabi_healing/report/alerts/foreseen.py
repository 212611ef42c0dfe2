"""What of an issue that is foreseen is worth an alert: that it is, once that is sure enough; once
more where it comes much sooner; and once that it is over, or did not come.

It is remembered beside the issues, under a name that no check can have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from miyabi_healing.report.alerts.alert import FORESEEN, Alert, Key, KnownIssue
from miyabi_healing.report.foreseen_text import (
    ACTED,
    acted_early,
    early_actions,
    sentence,
    settled,
    subject,
)
from miyabi_healing.report.moments import moment_text
from miyabi_healing.support.formatting import timestamp_seconds
from miyabi_healing.support.invocation import own_command

if TYPE_CHECKING:
    from miyabi_healing.model.config import AlertSettings
    from miyabi_healing.report.document_types import Document

_OVER = "00"  # the last runs, in which it was not foreseen any more
_NOISE = 1800  # seconds: a time that comes nearer by less is the same
_LASTING = 3600  # seconds for which it must not have been foreseen: what blinks is not told
_PUT_OFF = "put off"  # the state of what is not foreseen any more, as something was done early
_EARLY = "early"  # stands where an issue has its severity: what was done early has been told


def decide(
    document: Document, known: Mapping[Key, KnownIssue], rules: AlertSettings, now: float
) -> tuple[list[Alert], dict[Key, KnownIssue]]:
    """What to tell, and what is to be remembered for the next run: in `brake` when it was said to
    come, in `told` when it was foreseen last, in `course` in which of the last runs.
    """
    told: list[Alert] = []
    after: dict[Key, KnownIssue] = {}
    if not rules.foreseen:
        return told, after
    rows = {(row["name"], row["target"]): row for row in document.get("foreseen", ())}
    sure = {(row["name"], row["target"]) for row in settled(document)}
    measured = {(row["name"], row["target"]) for row in document["metrics"]}
    unknown = {(row["check"], row.get("target", "")) for row in document["errors"]}
    wrong = {(row["name"], row["target"]) for row in document["issues_detected"]}
    before = {(key[0].removeprefix(FORESEEN), key[1]): each for key, each in known.items()}
    put_off = {
        (each["issue"], each["target"])
        for each in document["actions_taken"]
        if each.get("early") and each["status"] in ACTED
    } - rows.keys()
    for key in dict.fromkeys((*before, *sure, *put_off)):
        was = before.get(key, KnownIssue())
        if key in wrong:  # it has come, which is told as an issue
            continue
        if key in put_off or (was.state == _PUT_OFF and key not in sure):
            recent = was.state == _PUT_OFF and 0 <= now - was.told < rules.remind_hours * 3600
            if key in put_off and rules.healed and not recent:
                told.append(_acted(key, was, document, now))
                was = KnownIssue(_PUT_OFF, since=now, told=now)
            elif not recent:
                continue
            after[FORESEEN + key[0], key[1]] = was
            continue
        if was.state == _PUT_OFF:  # it comes again
            was = KnownIssue()
        if key in rows:
            was = replace(was, course=(was.course + "1")[-len(_OVER) :], told=now)
            kind, was = _of_row(rows[key], was, document, rules, now, sure=key in sure)
            if kind:
                told.append(_alert(kind, rows[key], was, document, now))
        elif key in measured and key not in unknown:
            was = replace(was, course=(was.course + "0")[-len(_OVER) :])
            if was.course == _OVER and not 0 <= now - was.told < _LASTING:
                told.append(_over(key, was, now))
                continue
        elif key not in unknown and not document.get("left_out") and measured:
            continue  # a mount that is gone, or a check that is off
        if was.state:
            after[FORESEEN + key[0], key[1]] = was
    return told, after


def _of_row(
    row: Mapping[str, Any],
    was: KnownIssue,
    document: Document,
    rules: AlertSettings,
    now: float,
    sure: bool,
) -> tuple[str, KnownIssue]:
    """The kind of alert to what is foreseen now, empty where nothing has changed, and what is to be
    remembered.
    """
    reached, acted = timestamp_seconds(row["reached"]), acted_early(row, document)
    after = replace(was, severity=_EARLY if acted and was.state else was.severity)
    if not was.state:
        new = KnownIssue(
            "foreseen", _EARLY if acted else "", str(round(reached)), now, now, was.course
        )
        return ("foreseen", new) if sure else ("", KnownIssue())
    if was.state == "foreseen" and _is_sooner(reached, was, now):
        return "sooner", replace(after, state="sooner", brake=str(round(reached)))
    return "early" if acted and was.severity != _EARLY and rules.healed else "", after


def _alert(
    kind: str, row: Mapping[str, Any], known: KnownIssue, document: Document, now: float
) -> Alert:
    actions = early_actions(row, document)
    done = tuple(f"{each['action']}: {each['message']}" for each in actions)
    return Alert(
        kind,
        row["name"],
        row["target"],
        "",
        sentence(row, now, "weekdays"),
        row["value"],
        row["threshold"],
        row["unit"],
        done,
        "",
        _advice(actions, document),
        known.since,
    )


def _acted(key: Key, was: KnownIssue, document: Document, now: float) -> Alert:
    """What was done early, and it is not foreseen any more."""
    actions = early_actions({"name": key[0], "target": key[1]}, document)
    done = tuple(f"{each['action']}: {each['message']}" for each in actions)
    advice, since = _advice(actions, document), was.since or now
    return Alert("early", *key, "", "", None, None, "", done, "", advice, since)


def _is_sooner(reached: float, was: KnownIssue, now: float) -> bool:
    """Whether less than half of the time is left that was to be left by now."""
    promised = float(was.brake or 0)
    return reached - now < (promised - now) / 2 and promised - reached > _NOISE


def _over(key: Key, was: KnownIssue, now: float) -> Alert:
    promised = float(was.brake or 0)
    what = subject({"name": key[0], "target": key[1]})
    when = moment_text(promised, now, "weekdays")
    text = f"{what} does not come to its limit {when}, as it stands now"
    if promised < now:
        text = f"{what} was to come to its limit {when}, and did not"
    nothing = "Nothing to do."
    return Alert("passed", *key, "", text, None, None, "", (), "", nothing, was.since)


def _advice(actions: Sequence[Mapping[str, Any]], document: Document) -> str:
    command, undo = own_command(), ""
    steps = [step for each in actions for step in each["steps"]]
    if any(step["status"] == "applied" and step["undo"] for step in steps):
        undo = f" {command} rollback {document['run_id']} undoes what was done."
    return f"Nothing is wrong yet. {command} status shows how it stands.{undo}"
