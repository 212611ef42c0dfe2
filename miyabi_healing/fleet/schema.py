"""The tables of a fleet's store, in the SQL that Postgres and SQLite share; docs/fleet-store.md has
them.

Times are seconds since the epoch by the store's clock, documents are JSON as text.
"""

from __future__ import annotations

VERSION = 1

TABLES = (
    "create table fleet_version (version integer not null)",
    # one row: the last token that was given
    "create table fleet_token (id integer primary key check (id = 1), last bigint not null)",
    """create table fleet_rollout (
        label text primary key, asked text not null, made double precision not null,
        made_by text not null, state text not null, reason text not null default '',
        by_rule integer not null default 0, wave integer not null, waves integer not null,
        accepted integer not null default 0,
        at_once integer not null, ended double precision)""",
    """create table fleet_slice (
        label text not null, number integer not null, wave integer not null,
        hosts integer not null, state text not null, token bigint, owner text,
        expires double precision, claims integer not null default 0,
        primary key (label, number))""",
    """create table fleet_host (
        label text not null, host text not null, slice integer not null, state text not null,
        code integer, message text not null default '', token bigint,
        answered double precision, report text, primary key (label, host))""",
    "create index fleet_host_by_slice on fleet_host (label, slice)",
    "create index fleet_host_by_state on fleet_host (label, state, host)",
    # the latest report of each host, of a rollout or of its own timer; since is when the first of
    # its reports in a row came that did not end with 0, null where the latest did, or not known
    # `report` is null where the row of that label and host in fleet_host has it
    """create table fleet_report (
        host text primary key, made double precision not null, kept double precision not null,
        code integer not null, version text not null, run text not null, label text not null,
        issues text not null, blocked integer not null, summary text not null,
        since double precision, report text)""",
    "create index fleet_report_by_age on fleet_report (kept)",
    # `fleet status` asks these: the reports themselves are long, and stay unread
    "create index fleet_report_by_code on fleet_report (code, kept)",
    "create index fleet_report_by_version on fleet_report (version, host)",
)

# where a slice stands
WAITING = "waiting"  # nobody has had it, or its hosts are to be asked again
HELD = "held"  # somebody has it, or had it: its lease may have run out
DONE = "done"
