"""A report as the row that a fleet's store keeps of each host, and the statement that keeps it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from miyabi_healing.support.formatting import display


class StoredReport(NamedTuple):
    """The columns of table ``fleet_report`` that a document gives, in their order there. `made` is
    in seconds since the epoch by the host's clock; `issues` a JSON list of objects with name,
    target, severity, healed; `blocked` counts those that a policy kept from being healed; `report`
    is the whole document, None where the store has it in its row of that rollout and host.
    """

    made: float
    version: str
    run: str
    label: str
    issues: str
    blocked: int
    summary: str
    report: str | None


class Dialect(NamedTuple):
    """How a database writes a parameter, its own time in seconds since the epoch, and the lesser of
    two numbers.
    """

    parameter: str
    now: str
    least: str


POSTGRES = Dialect("%s", "extract(epoch from clock_timestamp())::double precision", "least")
SQLITE = Dialect("?", "((julianday('now') - 2440587.5) * 86400.0)", "min")  # to the millisecond
# Of an upsert: since when a host's reports have not ended with 0.
KEEP_SINCE = (
    "since = case when excluded.code = 0 then null "
    "else coalesce(fleet_report.since, excluded.since) end"
)
_LONGEST_NAME = 200  # characters
_COLUMNS = "host, code, made, version, run, label, issues, blocked, summary, report"


def keep_statement(dialect: Dialect, condition: str = "true") -> str:
    """Keeps a row where `condition` holds, for `keep_values` and the condition's own values. A
    report that is older than the one there changes nothing.

    None is of the future: `made` is by the clock of a host, and one that was ahead would keep all
    of that host's later reports out once it is right.
    """
    one, now = dialect.parameter, dialect.now
    rest = ", ".join([one] * (len(_COLUMNS.split(", ")) - 3))
    names = [*_COLUMNS.split(", ")[1:], "kept"]
    return (
        f"insert into fleet_report ({_COLUMNS}, kept, since) "
        f"select {one}, {one}, {dialect.least}({one}, {now}), {rest}, {now}, "
        f"case when {one} = 0 then null else {now} end where {condition} "
        f"on conflict (host) do update set {', '.join(f'{x} = excluded.{x}' for x in names)}, "
        f"{KEEP_SINCE} "
        "where excluded.made >= fleet_report.made"
    )


def keep_values(
    host: str, code: int, document: Mapping[str, Any], *, whole: bool = True
) -> tuple[object, ...]:
    """What `keep_statement` is given. Raises ValueError for what is no report of a host: a dry run
    heals nothing, and would hide what the last run came to.
    """
    if document.get("dry_run"):
        raise ValueError("a dry run is no report of a host")
    return (host, code, *fleet_row(document, whole=whole), code)


def fleet_row(document: Mapping[str, Any], *, whole: bool = True) -> StoredReport:
    """The row of one report. Raises ValueError for what is no report: hosts may say nonsense."""
    try:
        row = _row(document, json.dumps(document) if whole else None)
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"no report: {error!r}") from None
    if not math.isfinite(row.made):
        raise ValueError("no report: it has no time")
    return row


def _row(document: Mapping[str, Any], report: str | None) -> StoredReport:
    issues = [
        {name: each[name] for name in ("name", "target", "severity", "healed")}
        for each in document["issues_detected"]
    ]
    braked = {
        (each["issue"], each["target"]) for each in document["actions_taken"] if each["brake"]
    }
    blocked = [
        each for each in issues if not each["healed"] and (each["name"], each["target"]) in braked
    ]
    return StoredReport(
        float(document["ended"]),
        display(document.get("version", ""))[
            :_LONGEST_NAME
        ],  # an index of Postgres has no more room
        display(document["run_id"]),
        display(document.get("fleet", {}).get("run", "")),
        json.dumps(issues),
        len(blocked),
        display(document["summary"]),
        report,
    )
