"""A terminal, or a pipe, that is written to past Python's own buffers."""

from __future__ import annotations

import os
import select


def write_all(descriptor: int, data: bytes) -> None:
    """Write the whole, also where another program has made the terminal or the pipe non-blocking.
    Raises OSError.
    """
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


def owns_terminal(descriptor: int) -> bool:
    """Whether we are in the foreground of a terminal, or it has none of its own."""
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        return True
