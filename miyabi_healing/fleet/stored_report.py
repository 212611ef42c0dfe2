"""The latest report of each host, as a store keeps it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from miyabi_healing.fleet.database import Transaction
from miyabi_healing.report.fleet_row import StoredReport, fleet_row
from miyabi_healing.support.formatting import display

_CLOCKS_DIFFER = 300  # seconds by which a host's clock may be ahead of the store's


def keep(sql: Transaction, clock: str, host: str, code: int, document: Mapping[str, Any]) -> None:
    """An older report than the kept one changes nothing, and neither does what is no report: a host
    that says nonsense must not hold a coordinator up.
    """
    row = _row(document)
    if row is None:
        return
    columns = ("made", "version", "run", "label", "issues", "blocked", "summary", "report")
    updates = ", ".join(f"{each} = excluded.{each}" for each in ("kept", "code", *columns))
    sql.write(
        f"insert into fleet_report (host, kept, code, {', '.join(columns)}) "
        f"values (?, {clock}, ?, {', '.join('?' * len(columns))}) "
        f"on conflict (host) do update set {updates} "
        # one that was of the future when it came says nothing about which is older
        "where excluded.made >= fleet_report.made "
        "or fleet_report.made > fleet_report.kept + ?",
        host,
        code,
        *row,
        _CLOCKS_DIFFER,
    )


def _row(document: Mapping[str, Any]) -> StoredReport | None:
    try:
        row = fleet_row(document)
        made = float(row.made)
    except (KeyError, ValueError, TypeError, AttributeError):
        return None
    if not math.isfinite(made):
        return None
    return row._replace(
        made=made,
        version=display(row.version),
        run=display(row.run),
        label=display(row.label),
        summary=display(row.summary),
    )
