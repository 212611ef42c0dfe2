"""No helper servers are left behind."""

import pytest


@pytest.mark.heal("end_orphans")
@pytest.mark.limit(1000, severity="medium", high=8000, unit="MB")
def test_orphaned_processes(orphans, measure, note, limit):
    """Processes that an agent or editor has left behind take little memory together."""
    taken = measure(orphans.megabytes, str(orphans))
    if taken <= limit:
        for each in orphans.notes:
            note(each)
    assert taken <= limit
