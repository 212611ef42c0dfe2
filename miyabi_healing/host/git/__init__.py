"""Git repositories as the filesystem shows them: worktrees, locks, and who holds them.

Looks only; git is started as the repository's owner alone.
One more: a module that takes plain values and looks at one thing.
"""
