"""The worktrees of all repositories together do not fill the disk."""

import pytest


@pytest.mark.heal("cleanup_worktrees", after=("excessive_worktrees",))
@pytest.mark.limit(50, severity="medium", high=100, unit="GB", opt_in=True)
def test_worktree_space(repositories, measure, limit):
    """Off until its threshold is set: measuring looks at every file of every linked worktree."""
    space = repositories.worktree_space
    assert measure(space.gigabytes, str(space)) <= limit
    space.require_all()
