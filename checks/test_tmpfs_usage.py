"""Files that are kept in memory do not fill it."""

import pytest


@pytest.mark.limit(25, severity="medium", high=50, unit="%")
def test_tmpfs_usage(tmpfs, measure, limit):
    """A large part of the memory is not taken by files in /dev/shm, /tmp and their like."""
    assert measure(tmpfs.percent, tmpfs.words, tmpfs.users) <= limit
