"""Git worktrees do not pile up."""

import pytest


@pytest.mark.heal("cleanup_worktrees")
@pytest.mark.limit(15, severity="medium", high=20)
def test_excessive_worktrees(repository, measure, limit):
    """A repository has no more worktrees than people can keep in mind."""
    count = repository.worktree_count
    assert measure(count, f"Found {count} git worktrees in {repository}") <= limit
