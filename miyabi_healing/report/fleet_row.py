"""A report as the row that a fleet's store keeps of each host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple


class StoredReport(NamedTuple):
    """The columns of table ``fleet_report`` that a document gives, in their order there. `made` is
    in seconds since the epoch by the host's clock; `issues` a JSON list of objects with name,
    target, severity, healed; `blocked` counts those that a policy kept from being healed.
    """

    made: float
    version: str
    run: str
    label: str
    issues: str
    blocked: int
    summary: str
    report: str


def fleet_row(document: Mapping[str, Any]) -> StoredReport:
    """The row of one report. Raises KeyError, ValueError for what is no report."""
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
        document["ended"],
        document.get("version", ""),
        document["run_id"],
        document.get("fleet", {}).get("run", ""),
        json.dumps(issues),
        len(blocked),
        document["summary"],
        json.dumps(document),
    )
