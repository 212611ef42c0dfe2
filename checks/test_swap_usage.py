"""Swap is not used up."""

import pytest


@pytest.mark.limit(90, severity="medium", high=98, unit="%")
def test_swap_usage(swap, measure, limit, note):
    """A full swap is an issue where memory is short as well, or what is in it is wanted back."""
    if harmless := swap.harmless(above=limit):
        measure(swap.percent, harmless)
        note(harmless)
    else:
        assert measure(swap.percent, swap.words, swap.users) <= limit
