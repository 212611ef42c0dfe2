"""The latest report of each host, as a store keeps it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from miyabi_healing.fleet.database import Statement
from miyabi_healing.report.fleet_row import StoredReport, fleet_row
from miyabi_healing.support.formatting import display

_CLOCKS_DIFFER = 300  # seconds by which a host's clock may be ahead of the store's


_COLUMNS = ("host", "kept", "code", *StoredReport._fields)


def keeping(
    clock: str,
    host: str,
    code: int,
    row: StoredReport,
    where: tuple[str, tuple[object, ...]] = ("true", ()),
) -> Statement:
    """The statement that keeps it; an older report than the kept one changes nothing. `where` is a
    condition with its values.
    """
    updates = ", ".join(f"{each} = excluded.{each}" for each in _COLUMNS[1:])
    condition, values = where
    sql = (
        f"insert into fleet_report ({', '.join(_COLUMNS)}) "
        f"select ?, {clock}, {', '.join('?' * (len(row) + 1))} where {condition} "
        f"on conflict (host) do update set {updates} "
        # one that was of the future when it came says nothing about which is older
        "where excluded.made >= fleet_report.made "
        "or fleet_report.made > fleet_report.kept + ?"
    )
    return sql, (host, code, *row, *values, _CLOCKS_DIFFER)


def row_of(document: Mapping[str, Any]) -> StoredReport | None:
    """None for what is no report: a host that says nonsense must not hold a coordinator up."""
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
