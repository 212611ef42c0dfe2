"""Why one thing goes or stays, for the ``why`` command: a module for each kind of thing.

Looks only; each asks the same questions as the healer, and invents no rules of its own.
One more: a module with a function from `Question` to `Explanation`, and its row in `kinds`.
"""
