"""Alerts that no run has to tell, such as a rollout that was stopped: sent at once."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from miyabi_healing.model import config
from miyabi_healing.report.alerts import queue
from miyabi_healing.report.alerts.message import Channel, Message, NotSent
from miyabi_healing.state import run_lock
from miyabi_healing.state.journal import TooNew


def send_now(
    message: Message, to: Sequence[Channel], settings: config.Config, state: Path
) -> list[str]:
    """Send a message that no run has queued, to each channel within the time that a run has for it.
    Where that fails, it is queued, and the next run here that has alerts sends it.

    Returns what people should know about it.
    """
    problems, failed = [], []
    for channel in to:
        try:
            queue.try_channel(channel, message, settings.alerts.time_limit)
        except NotSent as problem:
            problems.append(f"could not be sent to {channel.name}: {problem}")
            if not problem.hopeless:
                failed.append(channel)
    if failed:
        try:
            with (
                queue.open_alert_journal(state, problems.append) as journal,
                queue.transaction(journal),
            ):
                for channel in failed:
                    queue.queue_message(journal, channel, message, time.time())
        except (run_lock.Busy, OSError, sqlite3.Error, TooNew) as error:
            problems.append(f"it could not be queued either: {error}")
        else:
            problems.append("the next run on this host tries again")
    return problems
