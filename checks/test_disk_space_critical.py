"""Filesystems do not fill up."""

import pytest


@pytest.mark.heal("cleanup_disk", after=("excessive_worktrees", "large_log_files"))
@pytest.mark.limit(90, severity="high", critical=95, unit="%")
def test_disk_space_critical(mount, measure, limit):
    """Every filesystem has room left, in blocks and in inodes."""
    assert measure(mount.percent, mount.condition) <= limit
