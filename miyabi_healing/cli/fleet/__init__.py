"""Many hosts: ``fleet heal``, ``fleet resume`` and what else is said about rollouts.

Writes reports that somebody asked for by name; everything else is the store's.
One more command: a module with a click command, and its row in `group`.
"""
