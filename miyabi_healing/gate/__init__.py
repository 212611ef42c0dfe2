"""The only place that changes the host: execute, recover, undo, and the policy that may stop it.

Imports everything below it; nothing but `runner` and `cli` imports it.
One more kind of step: its data in `model.steps`, its handler in `handlers`.
"""
