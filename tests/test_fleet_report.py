"""The report of a rollout: what it comes to, its lines for programs and its text for people."""

from __future__ import annotations

import pytest

from miyabi_healing.fleet.outcome import exit_status_of
from miyabi_healing.model.rollout import HostState


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (HostState.WELL, 0),
        (HostState.ISSUES, 1),
        (HostState.UNTOUCHED, 3),
        (HostState.AT_WORK, 3),
        (HostState.UNKNOWN, 3),
        (HostState.BUSY, 3),
        (HostState.FAILED, 3),
        (HostState.UNREACHABLE, 3),
    ],
)
def test_one_host_that_is_not_well_decides_the_exit_status(state: HostState, code: int) -> None:
    none = dict.fromkeys(HostState, 0)
    assert exit_status_of({**none, HostState.WELL: 9, state: 1}, stopped=False) == code
    assert exit_status_of({**none, HostState.WELL: 9, state: 1}, stopped=True) == 4


def test_what_is_not_known_weighs_more_than_issues_and_no_host_shows_nothing() -> None:
    both = {HostState.ISSUES: 5, HostState.BUSY: 1}
    assert exit_status_of(both, stopped=False) == 3
    assert exit_status_of(dict.fromkeys(HostState, 0), stopped=False) == 3
