"""The journal's schema: how each version is made of the one before it.

Loaded only where a journal is new, or older than this program.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

MIGRATIONS = (
    # 1: as the first version made it, which did not number its schema
    """
    create table if not exists step (
        id integer primary key, run text not null, healer text not null, kind text not null, target
        text not null,
        reason text not null, step text not null, intended real not null, finished real, status
        text, message text,
        freed integer, undo text
    ) strict;
    """,
    # 2: what a step was for, pauses, and when an issue was last seen to be gone
    """
    alter table step add column issue text not null default '';
    alter table step add column issue_target text not null default '';
    alter table step add column bytes integer not null default 0;
    alter table step add column duration real;
    create index step_by_run on step (run);
    create index step_by_target on step (target);
    create table pause (
        id integer primary key, begun real not null, until real not null, reason text not null,
        person text not null, ended real
    ) strict;
    create table healthy (issue text, target text, seen real not null, primary key (issue, target))
    strict;
    """,
    # 3: what every run measured, found and did
    """
    create table pass (
        id integer primary key, run text not null, began real not null, ended real not null, checks
        integer not null,
        found integer not null, healed integer not null, unknown integer not null, freed integer
        not null
    ) strict;
    create index pass_by_end on pass (ended);
    create table measurement (
        pass integer not null, name text not null, target text not null, value real, after real,
        threshold real not null,
        unit text not null, outcome text not null, severity text not null, description text not
        null, actions text not null
    ) strict;
    create index measurement_by_pass on measurement (pass);
    create index measurement_by_name on measurement (name, pass);
    """,
    # 4: how often every healer came to every result, which outlives what history lets go of
    """
    create table heal_total (
        healer text not null, result text not null, count integer not null, primary key (healer,
        result)
    ) strict;
    """,
    # 5: what somebody was told of, and what is still to be sent
    """
    create table alert_state (
        name text not null, target text not null, state text not null, severity text not null,
        brake text not null,
        since real not null, told real not null, course text not null, primary key (name, target)
    ) strict;
    create table outbox (
        id integer primary key autoincrement, channel text not null, made real not null, message
        text not null,
        tries integer not null, next real not null
    ) strict;
    """,
    # 6: the run clock, and its value beside every time that something is measured from. It begins
    # at 0 with the last thing that is on record, so what older versions noted lies before 0; what
    # they noted later than that counts from 0.
    """
    create table run_clock (
        only integer primary key check (only = 1), name text not null, seen real not null, boot
        real not null,
        boot_id text not null, wall real not null, believed real not null, doubted real
    ) strict;
    alter table step add column clock real not null default 0;
    alter table step add column clock_end real not null default 0;
    alter table pause add column clock real not null default 0;
    alter table healthy add column clock real not null default 0;
    alter table pass add column clock real not null default 0;
    alter table outbox add column clock real not null default 0;
    create temp table last as select coalesce(
        (select ended from pass order by id desc limit 1),
        (select coalesce(finished, intended) from step order by id desc limit 1), 0
    ) as wall;
    update step set clock = min(0, intended - (select wall from last)),
        clock_end = min(0, coalesce(finished, intended) - (select wall from last));
    update pause set clock = min(0, begun - (select wall from last));
    update healthy set clock = min(0, seen - (select wall from last));
    update pass set clock = min(0, ended - (select wall from last));
    update outbox set clock = min(0, made - (select wall from last));
    drop table last;
    """,
    # 7: what healers wait to see again before they act on it
    """
    create table sighting (
        healer text not null, thing text not null, boot_id text not null, first real not null,
        primary key (healer, thing)
    ) strict;
    """,
    # 8: the report of each run that had something to say, as the difference to a text that several
    # of them share; what else the report of a healthy run says (its notes, and from where on a
    # value would have been critical); issues that went away without help, and processes that the
    # kernel ended for want of memory
    """
    create table report_base (id integer primary key, text blob not null) strict;
    create table report (
        pass integer primary key, base integer not null, difference blob not null
    ) strict;
    create index report_by_base on report (base);
    alter table measurement add column critical real;
    alter table pass add column notes text not null default '[]';
    alter table pass add column gone integer not null default 0;
    alter table pass add column killed integer not null default 0;
    """,
    # 9: issues that were foreseen and what became of each; how every healer's repairs went, beyond
    # what history keeps; and what was looked at in a run that something grew in
    """
    create table alarm (
        id integer primary key, issue text not null, target text not null, run text not null,
        made real not null, clock real not null, value real not null, threshold real not null,
        eta real not null, earliest real, latest real, basis text not null,
        looks integer not null default 1, tries integer not null default 0, tried real, ended real,
        result text
    ) strict;
    create index alarm_by_issue on alarm (issue, target, id);
    create index alarm_by_end on alarm (ended);
    create table attempt (
        issue text not null, target text not null, healer text not null, options text not null,
        risk integer, tries real not null, gained real not null, seconds real not null, gain real
        not null,
        quiet real not null, relapses real not null, count integer not null, gains real not null,
        undone integer not null, before real, after real, position integer not null, outcome text
        not null,
        since real, clock real not null, last real not null,
        primary key (issue, target, healer)
    ) strict;
    create index measurement_by_target on measurement (name, target, pass);
    create table look (pass integer primary key, record blob not null) strict;
    """,
    # 10: runs that a fleet's coordinator has asked for by a label, and the highest token that one
    # has asked with
    """
    create table fleet_run (
        label text primary key, pass integer not null, run text not null, token integer,
        finished real not null
    ) strict;
    create table fleet_token (only integer primary key check (only = 1), highest integer not null)
    strict;
    """,
    # 11: what this host has told a fleet's store, and when it may try again
    """
    create table fleet_told (
        only integer primary key check (only = 1), outcome text not null, kept real not null,
        failures integer not null, not_before real not null, problem text not null
    ) strict;
    """,
)


def migrate(database: sqlite3.Connection, before: int, then: Callable[[], object]) -> None:
    """Bring a journal of the version `before` up to date, with `then`, in one transaction.

    Raises sqlite3.Error, and what `then` raises; the journal is then as it was.
    """
    scripts = [
        f"{MIGRATIONS[number]} pragma user_version={number + 1};"
        for number in range(before, len(MIGRATIONS))
    ]
    try:
        database.executescript(f"begin immediate; {' '.join(scripts)}")
        then()
        database.execute("commit")
    except BaseException:
        if database.in_transaction:
            database.rollback()
        raise
