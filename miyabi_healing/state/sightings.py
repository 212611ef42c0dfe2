"""What healers have seen and not yet acted on, so that a later run knows for how long it has been
there: the zombies of a parent that may just be about to reap them.

Only what one boot has seen counts, and only time in which the host was awake: nothing acts while it
sleeps.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from miyabi_healing.state.journal import Journal
from miyabi_healing.state.run_clock import boot_id

MOST = 10_000  # things of one healer


def note(journal: Journal, healer: str, things: Iterable[str]) -> None:
    """Keep what a healer sees now: what is new with the moment, what it does not see any more not
    at all. Raises sqlite3.Error.
    """
    known = seen_for(journal, healer)
    now, boot = time.monotonic(), boot_id()
    rows = [(healer, each, boot, now - known.get(each, 0)) for each in sorted(set(things))[:MOST]]
    with journal.at_once():
        journal.write("delete from sighting where healer=?", (healer,))
        for row in rows:
            journal.write(
                "insert into sighting (healer, thing, boot_id, first) values (?, ?, ?, ?)", row
            )


def seen_for(journal: Journal, healer: str) -> dict[str, float]:
    """For how many seconds each thing has been seen, by earlier runs since this boot."""
    now = time.monotonic()
    query = "select thing, first from sighting where healer=? and boot_id=? and first<=?"
    return {thing: now - first for thing, first in journal.all(query, healer, boot_id(), now)}
