"""No crashed git blocks a repository."""

import pytest


@pytest.mark.heal("fix_git_locks")
@pytest.mark.limit(600, severity="medium", unit="s")
def test_stale_git_lock(git_locks, measure, note, limit):
    """A repository, or a user's configuration, has no lock file that its holder left behind."""
    old = git_locks.old_locks(limit)
    for each in old.notes:
        note(each)
    age = old.stale[0].age if old.stale else 0
    assert measure(age, f"Found {len(old.stale)} stale lock file(s) in {git_locks}") <= limit
