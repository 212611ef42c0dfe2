"""pytest over the checks: session, plugin, selection, judging. From an issue to an action: healing.

Imports everything but `cli`.
One more reading for checks: a fixture in `fixtures`.
"""
