"""Why issues were as they were: shares as bars, with what nothing explains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from miyabi_healing.report.because_text import percent, reason_text, reasons_of
from miyabi_healing.report.folding import home_in
from miyabi_healing.report.page.parts import Share, Why
from miyabi_healing.support.formatting import display


def whys_of(issues: Sequence[Mapping[str, Any]]) -> tuple[Why, ...]:
    """Of issues that have reasons."""
    return tuple(_why(each) for each in issues)


def _why(issue: Mapping[str, Any]) -> Why:
    rows, rest = reasons_of(issue)
    whole = [each for each in rows if each["share"] is not None]
    hints = [reason_text(each) for each in rows if each["share"] is None]
    return Why(
        text=display(issue["description"]),
        healed=issue["healed"],
        shares=tuple(_shares(whole, rest)),
        hints=tuple(f"{each[:1].upper()}{each[1:]}" for each in hints),
    )


def _shares(rows: Sequence[Mapping[str, Any]], rest: float | None) -> Iterator[Share]:
    for row in rows:
        share = min(max(row["share"], 0), 1)
        text = home_in(row["text"])
        yield Share(round(100 * share, 1), percent(share), text, row.get("command", ""))
    if rest:
        yield Share(round(100 * rest, 1), percent(rest), "not explained", rest=True)
