"""Memory is not used up."""

import pytest


@pytest.mark.heal("clear_cache", gate=(2, 3))
@pytest.mark.limit(90, severity="high", critical=95, unit="%")
def test_high_memory_usage(memory, measure, limit):
    """Enough memory is available, on the host and in the container it is checked from."""
    assert measure(memory.percent, memory.words(above=limit), memory.users) <= limit
