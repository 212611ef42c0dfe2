"""Dead processes are reaped."""

import pytest


@pytest.mark.heal("kill_zombies", gate=(2, 3))
@pytest.mark.limit(5, severity="medium")
def test_zombie_processes(processes, measure, limit):
    """No parent leaves its dead children lying about."""
    count = len(processes.zombies())
    assert measure(count, f"Found {count} zombie processes") <= limit
