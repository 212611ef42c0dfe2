"""pytest over the checks: plugin, fixtures, registry, session, and from an issue to an action.

Imports everything but `cli`.
One more reading for checks: a fixture in `fixtures`.
"""
