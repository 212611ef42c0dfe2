"""How the host stands, from what is remembered: for the ``status`` command."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from miyabi_healing import history, lock, presence
from miyabi_healing.config import Config
from miyabi_healing.files import size_text
from miyabi_healing.host import quarantine
from miyabi_healing.journal import Journal
from miyabi_healing.text import plain

Document = dict[str, Any]


def build(journal: Journal | None, state: Path, config: Config, now: float) -> Document:
    """The last pass's open issues, the brakes that hold, what is in quarantine. Raises sqlite3.Error."""
    known = journal if journal and journal.version >= 3 else None
    latest, measured = history.last(known) if known else (None, [])
    pause = known.paused(now) if known else None
    held = [each for each in quarantine.find(state) if each.facts]
    watching = presence.find(state)
    return {
        "last_pass": moment(latest["ended"]) if latest else None,
        "run_id": latest["run"] if latest else "",
        "at_work": lock.is_held(state),
        "next_pass": moment(watching.due) if watching else None,
        "watch_pid": watching.pid if watching else None,
        "issues": [row for row in measured if row["outcome"] == "issue"],
        "unknown": [row for row in measured if row["outcome"] == "unknown"],
        "waived": [row["name"] for row in measured if row["outcome"] == "waived"],
        "paused": {"until": moment(pause.until), "reason": pause.reason, "by": pause.person} if pause else None,
        "tried": tried(known, config, now) if known else [],
        "quarantine": {
            "things": len(held),
            "bytes": sum(each.bytes for each in held),
            "next_expiry": moment(min(each.time for each in held) + config.quarantine.days * 86_400) if held else None,
        },
    }


def tried(journal: Journal, config: Config, now: float) -> list[Document]:
    """Healers that have tried lately, and how often, of how many times they may."""
    query = "select distinct healer, issue, issue_target from step where intended > ? and issue != ''"
    rows = journal.database.execute(query, (now - config.brakes.forget,)).fetchall()
    found = []
    for healer, issue, target in rows:
        attempts = journal.attempts_at(healer, issue, target, now - config.brakes.forget, now)
        own = config.healer(healer).attempts
        most = config.brakes.attempts if own is None else own
        if attempts:
            given_up = len(attempts) >= most > 0
            rest = config.brakes.cooldown if config.healer(healer).cooldown is None else config.healer(healer).cooldown
            again = attempts[most - 1] + config.brakes.forget if given_up else attempts[0] + (rest or 0)
            row = {"healer": healer, "issue": issue, "target": target, "attempts": len(attempts), "most": most,
                   "given_up": given_up, "again": moment(again) if again > now else None}  # fmt: skip
            found.append(row)
    return found


def lines(document: Document) -> Iterator[str]:
    """For people."""
    when = document["last_pass"]
    work = "; a pass is at work now" if document["at_work"] else ""
    yield f"Last pass: {when.replace('T', ' ')}{work}" if when else f"No pass has run yet{work}."
    if document["next_pass"]:
        yield f"Next pass: {document['next_pass'].replace('T', ' ')} (watch, process {document['watch_pid']})"
    else:
        yield "Next pass: no watch is running; a timer, cron or you begin it."
    for row in document["issues"]:
        yield f"❌ {row['name']} ({row['severity']}): {row['description']}"
        yield f"   {plain(row['value'])} of {plain(row['threshold'])} {row['unit']}".rstrip() + (
            f"; {row['actions']}" if row["actions"] else ""
        )
    for row in document["unknown"]:
        yield f"❌ {row['name']} could not run: {row['description']}"
    if when and not document["issues"] and not document["unknown"]:
        yield "✅ Nothing is wrong."
    for name in document["waived"]:
        yield f"📌 {name} is waived."
    if pause := document["paused"]:
        yield f"⛔ Healing is paused until {pause['until'].replace('T', ' ')} by {pause['by']}: {pause['reason']}"
    for row in document["tried"]:
        until = row["again"].replace("T", " ") if row["again"] else ""
        again = f"; it {'has given up' if row['given_up'] else 'rests'} until {until}" if until else ""
        yield (
            f"⛔ {row['healer']} tried {row['attempts']} of {row['most']} time(s) on {row['issue']} {row['target']}".rstrip()
            + again
        )
    held = document["quarantine"]
    if held["things"]:
        until = held["next_expiry"].replace("T", " ")
        yield f"📦 {held['things']} thing(s) in quarantine, {size_text(held['bytes'])}; the oldest goes on {until}"


def moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))
