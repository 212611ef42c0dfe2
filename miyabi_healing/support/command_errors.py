"""How starting another program can fail."""

from __future__ import annotations


class ToolError(Exception):
    """A tool is missing, failed to start or ran out of time; the message names it."""


class OutOfTime(ToolError):
    """The time of the healer that asked is over; the message says whose."""
