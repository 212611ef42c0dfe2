"""What JUnit XML says of a check besides passed or failed: its numbers, and what was done about it.

Properties of a test case, as pytest writes them (``record_property``); readers that know none leave
them out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from miyabi_healing.model.results import CheckResult
from miyabi_healing.support.formatting import plain_number

HEALED = "HEALED"  # as the terminal says it


class _Measured(dict[str, object]):
    """A measurement; as text, which is what stands in the XML, its description. Workers of xdist
    could not send it.
    """

    def __str__(self) -> str:
        return str(self["description"])


def describe(record: CheckResult, reports: Sequence[pytest.TestReport]) -> None:
    """Add the properties to the report that they are read from: a check's last one."""
    for report in reports[-1:]:
        said = [
            (name, _Measured(value) if name == "measured" and isinstance(value, dict) else value)
            for name, value in report.user_properties
        ]
        report.user_properties[:] = said
        report.user_properties += properties(record, all(each.passed for each in reports))


def properties(record: CheckResult, passed: bool) -> Iterator[tuple[str, object]]:
    """Name and value of each; `passed` is whether the run of the check that counts has."""
    if record.measured:
        yield "value", plain_number(record.measured["value"])
    yield "limit", plain_number(record.limit.threshold)
    if record.limit.unit:
        yield "unit", record.limit.unit
    if record.issue:
        yield "detected", plain_number(record.issue.metric_value)
        yield "severity", record.issue.severity.label
    if record.actions and passed:
        yield "outcome", HEALED
    for action in record.actions:
        yield "healer", action.healer
