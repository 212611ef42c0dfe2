"""The data that everything speaks of: issues, plans, steps, results, configuration, exit codes.

Imports nothing of ours and does no I/O.
One more: a frozen dataclass or an enum in the module of its noun.
"""
