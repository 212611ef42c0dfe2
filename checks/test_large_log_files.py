"""Logs do not grow for ever."""

import pytest


@pytest.mark.heal("prune_logs")
@pytest.mark.limit(500, severity="medium", unit="MB")
def test_large_log_files(log_group, measure, limit):
    """The log files of a kind stay small together."""
    size = log_group.megabytes
    assert (
        measure(size, f"{len(log_group.files)} log files take {size:.1f} MB ({log_group})") <= limit
    )
