"""The exit statuses of the program: a contract."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a run comes to. Ended by a signal it is 128 and the signal's number (bash(1), EXIT
    STATUS).
    """

    HEALTHY = 0
    ISSUES = 1
    USAGE = 2
    UNKNOWN = 3
    STOPPED = 4  # a rollout, by a rule or by somebody: `fleet resume` goes on
    BUSY = 75  # EX_TEMPFAIL of sysexits.h: another run holds the lock, or a request was superseded
