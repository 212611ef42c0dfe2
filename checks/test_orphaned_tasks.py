"""No task waits for an owner that is gone."""

import pytest


@pytest.mark.heal("fail_over", after=("coordinator_down",))
@pytest.mark.limit(0, severity="high", unit="claims")
def test_orphaned_tasks(coordinator, measure, note, limit):
    """Every claim of a coordinator of tasks has an owner that lives, or may."""
    claims = coordinator.claims
    for each in claims.notes:
        note(each)
    assert measure(claims.orphaned, str(claims)) <= limit
