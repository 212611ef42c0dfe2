"""The command line: one program, whichever way it was started.

Nothing imports it; subcommands are loaded when somebody asks for them.
One more command: a module with a click command, and its row in `main`.
"""
