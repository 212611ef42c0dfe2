"""Watch mode: a long-lived parent that stays small, and one child a run.

Imports `runner`; only `cli` imports it.
One more way of making a run: beside `prefork`, chosen in `run_process`.
"""
