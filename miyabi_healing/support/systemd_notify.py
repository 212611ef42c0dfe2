"""Telling systemd how a service is doing (sd_notify(3)): a datagram to the socket it names, nothing
where it names none.
"""

from __future__ import annotations

import contextlib
import os
import socket


def notify(*lines: str) -> None:
    """Send ``READY=1``, ``STATUS=…``, ``WATCHDOG=1`` and the like. What cannot be sent is nobody's
    loss.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out,
    ):
        out.connect("\0" + address[1:] if address.startswith("@") else address)
        out.sendall("\n".join(lines).encode())


def watchdog_seconds() -> float | None:
    """How often at least systemd wants to hear from us; None where it does not
    (sd_watchdog_enabled(3)).
    """
    try:
        pid, microseconds = (
            int(os.environ.get("WATCHDOG_PID", os.getpid())),
            int(os.environ["WATCHDOG_USEC"]),
        )
    except (KeyError, ValueError):
        return None
    return microseconds / 1e6 if pid == os.getpid() and microseconds > 0 else None
