"""Issues that are foreseen, as the report has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from miyabi_healing.support.formatting import timestamp

if TYPE_CHECKING:
    from miyabi_healing.model.foreseen import Foreseen
    from miyabi_healing.report.document_types import ForeseenRow


def foreseen_row(found: Foreseen) -> ForeseenRow:
    """The row of an issue that has not occurred, with times instead of seconds to go."""
    whole = float(found.threshold).is_integer()
    return {
        "name": found.issue,
        "target": found.target,
        "value": found.value,
        "threshold": int(found.threshold) if whole else found.threshold,
        "unit": found.unit,
        "reached": timestamp(found.measured + found.eta_seconds),
        "eta_seconds": round(found.eta_seconds, 1),
        "earliest": _edge(found, found.earliest),
        "latest": _edge(found, found.latest),
        "basis": found.basis,
        "seen": found.seen,
        "alarms": found.alarms,
        "confidence": found.confidence,
        "causes": list(found.causes),
        "early": found.early,
    }


def _edge(found: Foreseen, seconds: float | None) -> str | None:
    return None if seconds is None else timestamp(found.measured + seconds)
