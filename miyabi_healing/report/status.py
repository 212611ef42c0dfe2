"""How the host stands, from what is remembered: for the ``status`` command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from miyabi_healing.model.config import Config
from miyabi_healing.report.text import next_expiry
from miyabi_healing.state import history, quarantine, retention, run_clock, run_lock, watch_presence
from miyabi_healing.state.journal import Journal
from miyabi_healing.state.journal_rows import Pause
from miyabi_healing.state.run_clock import Moment, decided_by
from miyabi_healing.support.formatting import plain_number, size_text, time_text, timestamp
from miyabi_healing.support.invocation import own_command

StatusDocument = dict[str, Any]


def build_status(journal: Journal | None, state: Path, config: Config) -> StatusDocument:
    """The last run's open issues, what blocks healing, what is in quarantine. Raises
    sqlite3.Error.
    """
    known = journal if journal and journal.version >= 3 else None
    now = journal.now() if journal else run_clock.unknown_moment()
    latest, measured = history.last(known) if known else (None, [])
    pause = known.paused(now) if known else None
    held = [each for each in quarantine.find_entries(state) if each.manifest]
    first = retention.next_one(held, config.quarantine.days, now)
    undone = history.undone_since(known, latest) if known and latest else None
    watching = watch_presence.find_running(state)
    return {
        "last_pass": timestamp(latest["ended"]) if latest else None,
        "run_id": latest["run"] if latest else "",
        "left_out": history.left_out(known, latest["id"]) if known and latest else [],
        "never_checked": history.never_measured(known, latest["id"]) if known and latest else [],
        "rolled_back": {"steps": undone[0], "last": timestamp(undone[1])} if undone else None,
        "at_work": run_lock.is_held(state),
        "next_pass": timestamp(watching.due) if watching else None,
        "watch_pid": watching.pid if watching else None,
        "issues": [row for row in measured if row["outcome"] == "issue"],
        "unknown": [row for row in measured if row["outcome"] == "unknown"],
        "waived": [row["name"] for row in measured if row["outcome"] == "waived"],
        "paused": paused(pause, now) if pause else None,
        "tried": tried(known, config, now) if known else [],
        "quarantine": {
            "things": len(held),
            "bytes": sum(each.bytes for each in held),
            "limit_bytes": int(config.quarantine.gigabytes * 1e9),
            "next_expiry": timestamp(first[0]) if first else None,
            "next_expiry_by": decided_by(first[1]) if first else None,
        },
    }


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


def status_lines(document: StatusDocument) -> Iterator[str]:
    """For people."""
    when = document["last_pass"]
    work = "; a run is at work now" if document["at_work"] else ""
    yield f"Last run: {time_text(when)}{work}" if when else f"No run yet{work}."
    if document["next_pass"]:
        when_next = time_text(document["next_pass"])
        yield f"Next run: {when_next} (watch, process {document['watch_pid']})"
    else:
        yield "Next run: no watch is running; a timer, cron or you begin it."
    never = document["never_checked"]
    if earlier := [name for name in document["left_out"] if name not in never]:
        yield f"Not checked then, and shown as an earlier run left it: {', '.join(earlier)}"
    if never:
        yield f"Never checked: {', '.join(never)}"
    for row in document["issues"]:
        yield f"❌ {row['name']} ({row['severity']}): {row['description']}"
        yield (
            f"   {plain_number(row['value'])} of {plain_number(row['threshold'])} "
            f"{row['unit']}".rstrip()
            + (f"; {row['actions']}" if row["actions"] else "")
        )
    for row in document["unknown"]:
        yield f"❌ {row['name']} could not run: {row['description']}"
    if undone := document["rolled_back"]:
        yield (
            f"❓ Not known: {undone['steps']} step(s) were rolled back since then, the last at "
            f"{time_text(undone['last'])}. {own_command()} checks again."
        )
    elif when and not document["issues"] and not document["unknown"]:
        yield "✅ Nothing was wrong" + (" in what was checked." if never else ".")
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
