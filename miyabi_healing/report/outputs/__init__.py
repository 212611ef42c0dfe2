"""Where a finished report goes besides standard output, one output a module.

Loaded only where it is set up; none can change a run's result.
One more: a module with `send`, and its row in `dispatch._OUTPUTS` with when it is wanted.
"""
