"""Who hands out tasks is there, and does not hang."""

import pytest


@pytest.mark.heal("fail_over")
@pytest.mark.limit(0, severity="high")
def test_coordinator_down(coordinator, measure, note, limit):
    """A coordinator of tasks lives; one that is only slow is left alone."""
    state = coordinator.state
    for each in state.notes:
        note(each)
    assert measure(state.down, state.text) <= limit
