"""Where a finished report goes besides standard output, one output a module.

Loaded only where it is set up; none can change a run's result.
One more: a module with an output, and its row in the table of outputs.
"""
