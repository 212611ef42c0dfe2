"""This host's own reports in a fleet's store: on change, and else once in an interval.

Each host has a moment of its own in the interval, always the same, so that hosts do not come
together; after a failure the next try has "full jitter"
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). What could not be sent
waits nowhere: the next run has a newer report.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import random
import sqlite3
import time
import zlib
from pathlib import Path

from miyabi_healing.report import fleet_store
from miyabi_healing.report.fleet_row import StoredReport, fleet_row
from miyabi_healing.report.outputs.output import OutputError, OutputRequest
from miyabi_healing.state import fleet_told, run_lock
from miyabi_healing.state.fleet_told import Told
from miyabi_healing.state.journal import TooNew
from miyabi_healing.support import mount_answers, paths

_MACHINE = Path("/etc/machine-id")  # machine-id(5)
_FIRST_WAIT = 1 / 60  # of the interval: the most that the first retry waits
_MOST_DOUBLINGS = 30


def send(given: OutputRequest) -> None:
    """Tell the store, where there is something to tell. Raises OutputError, NoAnswer; what stays
    wrong is said once.
    """
    if given.code > 128:  # it was interrupted, so it says nothing about the host
        return
    rules, now = given.settings.fleet, time.time()
    row, host = fleet_row(given.document), rules.name or given.document["host"]
    outcome = _outcome(rules.store, given.code, row)
    before = _remembered()
    place = own_place(host) * rules.report_every
    if not (row.label or is_due(before, outcome, now, rules.report_every, place)):
        return
    if is_early(before, now, rules.report_every):
        return
    problem = ""
    try:
        fleet_store.keep(rules.store, host, given.code, given.document, rules.report_time_limit)
        after = Told(outcome, now)
    except fleet_store.StoreProblem as error:
        problem = str(error)
        wait = full_jitter(before.failures, rules.report_every)
        after = before._replace(
            failures=before.failures + 1, not_before=now + wait, problem=problem
        )
    said = _remember(after)
    if problem != before.problem:
        said.append(problem)
    if any(said):
        raise OutputError("; ".join(filter(None, said)))


def is_due(before: Told, outcome: str, now: float, every: float, place: float) -> bool:
    """Whether there is news, or this host's moment has passed since the last report: `place`
    seconds after each multiple of `every`. A clock that was set back passes it, too.
    """
    if outcome != before.outcome:
        return True
    return math.floor((now - place) / every) != math.floor((before.kept - place) / every)


def is_early(before: Told, now: float, every: float) -> bool:
    """Whether the next try is still to wait; for longer than it could, only by a wrong clock."""
    return 0 < before.not_before - now <= every


def full_jitter(failures: int, every: float) -> float:
    """How many seconds to wait after one more failure: anything up to a bound that doubles with
    each, and that is the interval at most.
    """
    return random.uniform(0, min(every, every * _FIRST_WAIT * 2 ** min(failures, _MOST_DOUBLINGS)))


def own_place(host: str) -> float:
    """Where this host's moment is in any interval, from 0 to 1: the same for as long as it has its
    name, and another one for a copy of it that has another name.
    """
    with contextlib.suppress(OSError, UnicodeDecodeError):
        host += _MACHINE.read_text(encoding="ascii")
    return zlib.crc32(host.encode()) / 2**32


def _outcome(store: str, code: int, row: StoredReport) -> str:
    """What a report says to that store, as a checksum: numbers change from run to run, and are no
    news.
    """
    said = (store, code, row.version, sorted(map(repr, json.loads(row.issues))), row.blocked)
    return hashlib.sha256(repr(said).encode()).hexdigest()


def _remembered() -> Told:
    """What is on record; nothing where it cannot be read, so that the store is told."""
    state = paths.state_folder()
    mount_answers.check(state)
    with contextlib.suppress(OSError, sqlite3.Error, TooNew):
        from miyabi_healing.state.store import open_read_only

        with open_read_only(state) as journal:
            return fleet_told.told(journal)
    return Told()


def _remember(what: Told) -> list[str]:
    """What cannot be noted costs one more report. The next run may be at work by now: then it is
    that one's. Returns what people should know about the journal.
    """
    from miyabi_healing.state.store import open_for_write

    state, said = paths.state_folder(), list[str]()
    with (
        contextlib.suppress(OSError, sqlite3.Error, TooNew, run_lock.Busy),
        contextlib.ExitStack() as held,
    ):
        held.callback(run_lock.release, run_lock.acquire(state))
        keeper = open_for_write(state, said.append, recover=None)
        held.callback(keeper.close)
        fleet_told.remember(keeper.journal, what)
    return said
