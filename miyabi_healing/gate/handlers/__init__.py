"""What is known of each kind of step: re-check, apply, undo, what a crash leaves, what it costs.

Changes the host through `gate.primitives` and system calls, on open descriptors.
One more: a module with a handler, and its row in the table of handlers.
"""
