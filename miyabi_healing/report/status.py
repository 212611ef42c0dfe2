"""How the host stands, from what is remembered: for the ``status`` command."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from miyabi_healing.model.config import Config
from miyabi_healing.report.style import MARKS
from miyabi_healing.report.text import next_expiry
from miyabi_healing.state import history, quarantine, retention, run_clock, run_lock, watch_presence
from miyabi_healing.state.journal import Journal
from miyabi_healing.state.journal_rows import Pause
from miyabi_healing.state.quarantine_things import things
from miyabi_healing.state.run_clock import Moment, decided_by
from miyabi_healing.support.formatting import (
    DAY,
    duration_text,
    figure,
    interval_text,
    size_text,
    time_text,
    timestamp,
)
from miyabi_healing.support.invocation import own_command

StatusDocument = dict[str, Any]
_STALE = DAY  # seconds: how old the last run may be where nothing begins runs by itself
_MISSED = 3  # intervals that may pass without a run where something does
_LEAST = 900  # seconds that a run may be late in any case


class Service(Protocol):
    """What begins runs by itself, as `install` has installed it: see `cli.setup.installed`."""

    @property
    def kind(self) -> str: ...
    @property
    def every(self) -> float | None: ...
    @property
    def enabled(self) -> bool: ...
    @property
    def active(self) -> bool | None: ...
    @property
    def due(self) -> float | None: ...
    @property
    def remedy(self) -> str: ...


def build_status(
    journal: Journal | None, state: Path, config: Config, services: Sequence[Service] = ()
) -> StatusDocument:
    """The last run's open issues, how old it is, what begins the next, what blocks healing, what is
    in quarantine. Raises sqlite3.Error.
    """
    known = journal if journal and journal.version >= 3 else None
    now = journal.now() if journal else run_clock.unknown_moment()
    latest, measured = history.last(known) if known else (None, [])
    pause = known.paused(now) if known else None
    held = [each for each in quarantine.find_entries(state) if each.manifest]
    first = retention.next_one(held, config.quarantine.days, now)
    basis = history.oldest_reading(known, latest) if known and latest else None
    undone = history.undone_since(known, basis) if known and basis else None
    watching = watch_presence.find_running(state)
    age = now.wall - latest["ended"] if latest else None
    oldest = now.wall - basis["ended"] if basis else None
    limit = (
        stale_after(services, watching.due - latest["ended"])
        if latest and watching
        else stale_after(services)
    )
    unknown = [row for row in measured if row["outcome"] == "unknown"]
    if known and latest and latest["unknown"] > len(unknown):
        unknown += _not_loaded(known, {(row["name"], row["target"]) for row in unknown})
    document = _latest_report(known) if known and latest else {}
    reasons = {
        (row["name"], row["target"]): row["because"]
        for row in document.get("issues_detected", ())
        if row.get("because")
    }
    return {
        "last_pass": timestamp(latest["ended"]) if latest else None,
        "run_id": latest["run"] if latest else "",
        "left_out": history.left_out(known, latest["id"]) if known and latest else [],
        "never_checked": history.never_measured(known, latest["id"]) if known and latest else [],
        "rolled_back": {"steps": undone[0], "last": timestamp(undone[1])} if undone else None,
        "at_work": run_lock.is_held(state),
        "next_pass": timestamp(watching.due) if watching else None,
        "watch_pid": watching.pid if watching else None,
        "age_seconds": None if age is None else round(age),
        "stale_after_seconds": round(limit),
        # a wall clock that was set back says nothing of how old it is
        "stale": oldest is not None and not -_LEAST <= oldest <= limit,
        "services": [
            {
                "kind": each.kind,
                "every_seconds": each.every,
                "enabled": each.enabled,
                "active": each.active,
                "next": timestamp(each.due) if each.due else None,
                "remedy": each.remedy,
            }
            for each in services
        ],
        "checks": latest["checks"] if latest else 0,
        "out_of_memory_kills": latest["killed"] if latest else 0,
        "issues": [
            {**row, "because": reasons[key]}
            if (key := (row["name"], row["target"])) in reasons
            else row
            for row in measured
            if row["outcome"] == "issue"
        ],
        "foreseen": document.get("foreseen", []),
        "unknown": unknown,
        "waived": [row["name"] for row in measured if row["outcome"] == "waived"],
        "paused": paused(pause, now) if pause else None,
        "tried": tried(known, config, now) if known else [],
        "quarantine": {
            "things": len(things(held)),
            "bytes": sum(each.bytes for each in held),
            "limit_bytes": int(config.quarantine.gigabytes * 1e9),
            "next_expiry": timestamp(first[0]) if first else None,
            "next_expiry_by": decided_by(first[1]) if first else None,
        },
    }


def stale_after(services: Sequence[Service], until_due: float | None = None) -> float:
    """How many seconds after a run, at most, its result still counts: a few of the intervals in
    which runs are begun, by a watch that has the next one due so long after it or by what is
    installed; a day where nothing begins them.
    """
    at_work = [each for each in services if each.enabled and each.active is not False]
    often = [each.every for each in at_work if each.every]
    if until_due is not None:
        return max(_MISSED * until_due, _LEAST)
    return max(_MISSED * min(often), _LEAST) if often else _STALE


def _latest_report(journal: Journal) -> StatusDocument:
    from miyabi_healing.state import reports

    return reports.latest(journal) or {}


def _not_loaded(journal: Journal, known: set[tuple[str, str]]) -> list[StatusDocument]:
    """What the last run could not check besides: a check that could not be loaded, the rest of a
    run that was interrupted.
    """
    return [
        {"name": row["check"], "target": row.get("target", ""), "description": row["message"]}
        for row in _latest_report(journal).get("errors", ())
        if (row["check"], row.get("target", "")) not in known
    ]


def is_known(document: StatusDocument) -> bool:
    """Whether what the last run found can be taken for how the host stands."""
    doubts = (
        document["unknown"],
        document["rolled_back"],
        document["stale"],
        not document["checks"],
        document["never_checked"],
    )
    return not any(doubts)


def is_wrong(document: StatusDocument) -> bool:
    return bool(document["issues"] or document["out_of_memory_kills"])


def paused(pause: Pause, now: Moment) -> StatusDocument:
    end, by_runs = pause.end(now)
    return {
        "until": timestamp(end),
        "until_by": decided_by(by_runs),
        "reason": pause.reason,
        "by": pause.person,
    }


def tried(journal: Journal, config: Config, now: Moment) -> list[StatusDocument]:
    """Healers that have tried lately, and how often, of how many times they may."""
    rows = journal.all("select distinct healer, issue, issue_target from step where issue != ''")
    found = []
    for healer, issue, target in rows:
        forget, own = config.policy.forget, config.healer(healer)
        attempts = [
            began for began, _ in journal.attempts(healer, issue, target, now) if began < forget
        ]
        most = config.policy.attempts if own.attempts is None else own.attempts
        if attempts:
            given_up = len(attempts) >= most > 0
            rest = config.policy.cooldown if own.cooldown is None else own.cooldown
            left = forget - attempts[most - 1] if given_up else (rest or 0) - attempts[0]
            row = {
                "healer": healer,
                "issue": issue,
                "target": target,
                "attempts": len(attempts),
                "most": most,
                "given_up": given_up,
                "again": timestamp(now.wall + left) if left > 0 else None,
            }
            found.append(row)
    return found


def _ago(document: StatusDocument) -> str:
    age = document["age_seconds"]
    if age < -_LEAST:
        return f"{duration_text(-age)} from now by this clock"
    return f"{duration_text(max(age, 0))} ago"


_KINDS = {
    "systemd-timer": "systemd timer",
    "systemd-watch": "systemd watch service",
    "launchd": "launchd job",
    "cron": "line of cron",
}


def _next_lines(document: StatusDocument) -> Iterator[str]:
    """When the next run is, and what begins it."""
    if document["next_pass"]:
        when = time_text(document["next_pass"])
        yield f"Next run: {when} (watch, process {document['watch_pid']})"
    elif not document["services"]:
        yield (
            "Next run: when you begin it; no watch is running and nothing is installed "
            f"({own_command()} install has runs made)."
        )
    for row in document["services"]:
        every = row["every_seconds"]
        what = _KINDS[row["kind"]] + (f", every {interval_text(every)}" if every else "")
        if row["remedy"]:
            lacks = "at work" if row["enabled"] else "enabled"
            yield f"⛔ The {_KINDS[row['kind']]} is installed and not {lacks}: {row['remedy']}"
        elif document["next_pass"]:
            yield f"Installed: {what}."
        else:
            when = f"{time_text(row['next'])} ({what})" if row["next"] else f"by the {what}"
            yield f"Next run: {when}."


def _foreseen_lines(document: StatusDocument) -> Iterator[str]:
    """What the last run foresaw, the next first; nothing where that is too old to count."""
    if not document["foreseen"] or document["stale"]:
        return
    from miyabi_healing.report.foreseen_text import sentence

    for row in sorted(document["foreseen"], key=lambda each: float(each["eta_seconds"])):
        yield f"{MARKS['foreseen'].emoji} {sentence(row, time.time())}"


def status_lines(document: StatusDocument) -> Iterator[str]:
    """For people."""
    when = document["last_pass"]
    work = "; a run is at work now" if document["at_work"] else ""
    yield f"Last run: {time_text(when)}, {_ago(document)}{work}" if when else f"No run yet{work}."
    yield from _next_lines(document)
    never = document["never_checked"]
    if earlier := [name for name in document["left_out"] if name not in never]:
        yield f"Not checked then, and shown as an earlier run left it: {', '.join(earlier)}"
    if never:
        yield f"❓ Not known, as never checked: {', '.join(never)}"
    for row in document["issues"]:
        yield f"❌ {row['name']} ({row['severity']}): {row['description']}"
        limit, unit = row["threshold"], row["unit"]
        yield (
            f"   {figure(row['value'], unit, limit)} (limit {figure(limit, unit, limit)})"
            + (f"; {row['actions']}" if row["actions"] else "")
        )
        if row.get("because"):
            from miyabi_healing.report.because_text import reason_lines

            yield from (f"   {line}" for line in reason_lines(row, every=False))
    if killed := document["out_of_memory_kills"]:
        yield f"❌ The kernel ended {killed} process(es) for want of memory during that run."
    for row in document["unknown"]:
        yield (
            f"❌ {row['name']} could not run: {row['description']}"
            if row["name"]
            else f"❌ Not everything was checked: {row['description']}"
        )
    if undone := document["rolled_back"]:
        yield (
            f"❓ Not known: {undone['steps']} step(s) were rolled back since then, the last at "
            f"{time_text(undone['last'])}. {own_command()} checks again."
        )
    if document["stale"]:
        what = "what an earlier run left" if document["left_out"] else "the last run"
        yield f"❓ Not known: {what} is too old. {own_command()} checks again."
    elif when and not document["checks"]:
        yield "❓ Not known: no check ran."
    elif when and not is_wrong(document) and is_known(document):
        yield "✅ Nothing was wrong at its end."
    yield from _foreseen_lines(document)
    for name in document["waived"]:
        yield f"📌 {name} is waived."
    if pause := document["paused"]:
        only = (
            " at the earliest, as only time that runs see pass counts,"
            if pause["until_by"] == "run clock"
            else ""
        )
        until = time_text(pause["until"])
        yield f"⛔ Healing is paused until {until}{only} by {pause['by']}: {pause['reason']}"
    for row in document["tried"]:
        until = time_text(row["again"]) if row["again"] else ""
        again = (
            f"; it {'has given up' if row['given_up'] else 'rests'} until {until}" if until else ""
        )
        often = f"{row['attempts']} of {row['most']} time(s)"
        what = f"{row['issue']} {row['target']}".rstrip()
        yield f"⛔ {row['healer']} tried {often} on {what}{again}"
    held = document["quarantine"]
    if held["things"]:
        size, limit = size_text(held["bytes"]), size_text(held["limit_bytes"])
        yield f"📦 {held['things']} thing(s) in quarantine, {size}; {next_expiry(held)}"
        if held["bytes"] > held["limit_bytes"]:
            yield f"⛔ The quarantine is full: its limit is {limit}, and nothing more is set aside."
