"""What lasts between runs: journal, history, run clock, and the quarantine as it lies there.

Imports `model` and `support`; nothing else opens the journal or reads a manifest.
One more: a table by a migration, and its line in docs/state-folder.md.
"""
