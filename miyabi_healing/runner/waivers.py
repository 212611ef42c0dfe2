"""Checks that are put up with for the time being, as the configuration says."""

from __future__ import annotations

import pytest

from miyabi_healing.runner.fixtures import issue_name
from miyabi_healing.runner.resources import Resources
from miyabi_healing.runner.selection import target_of
from miyabi_healing.state.run_clock import Moment


def waive(item: pytest.Item, resources: Resources) -> None:
    """Let a check fail that is put up with for the time being: it is measured and reported, but no
    issue and not healed.
    """
    waiver = resources.config.waivers.get(issue_name(item))
    if waiver is None or waiver.target not in ("", target_of(item)):
        return
    now = resources.moment()
    if min(now.wall, now.believed) > waiver.end:
        resources.notes.append(
            f"the waiver of {issue_name(item)} has expired ({waiver.until}): {waiver.reason}"
        )
        return
    if (now.wall > waiver.end) != (now.believed > waiver.end):
        resources.notes.append(_in_doubt(now, issue_name(item)))
    reason = f"waived until {waiver.until}: {waiver.reason}"
    item.add_marker(pytest.mark.xfail(raises=AssertionError, reason=reason, strict=False))


def _in_doubt(now: Moment, name: str) -> str:
    """That a waiver lasts longer because the wall clock cannot be believed, where that is so."""
    days = f"{abs(now.doubt) / 86_400:.0f} days"
    if now.doubt > 0:
        return (
            f"the wall clock is {days} ahead of what runs have seen: "
            f"it ends the waiver of {name} once that has lasted a day"
        )
    return (
        f"the wall clock is {days} behind what runs have seen: "
        f"the waiver of {name} lasts until it is right"
    )
