"""No crashed git blocks a repository."""

import pytest


@pytest.mark.heal("fix_git_locks")
@pytest.mark.limit(600, severity="medium", unit="s")
def test_stale_git_lock(repository, measure, limit):
    """A repository has no lock file that its holder left behind."""
    stale = repository.stale_locks(limit)
    age = stale[0].age if stale else 0
    assert measure(age, f"Found {len(stale)} stale lock file(s) in {repository}") <= limit
