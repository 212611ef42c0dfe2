"""Alerts to anything else that Apprise knows: mail, Teams, Matrix, ntfy and a hundred more. Needs
the extra ``notify``.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence

from miyabi_healing.report.alerts.alert import FORECASTS, Alert
from miyabi_healing.report.alerts.message import Message, NotSent
from miyabi_healing.support.secrets import Secret


def missing() -> str:
    """That Apprise is not installed; empty where it is."""
    if importlib.util.find_spec("apprise") is None:
        return "alerts: Apprise is not installed; pip install 'miyabi-healing[notify]'"
    return ""


def send(places: Sequence[Secret], message: Message, _seconds: float) -> None:
    """Tell every place; where one of them does not take it, all are told again. Raises NotSent."""
    import apprise

    logging.getLogger("apprise").disabled = True  # it would log addresses
    found = apprise.Apprise()
    for number, place in enumerate(places, 1):
        if not found.add(place.value):
            raise NotSent(f"line {number} of its addresses is none that Apprise knows")
    kind = apprise.NotifyType.FAILURE
    if all(_is_good(each) for each in message.alerts):
        kind = apprise.NotifyType.SUCCESS
    elif all(_is_good(each) or each.kind in FORECASTS for each in message.alerts):
        kind = apprise.NotifyType.INFO  # nothing has failed
    body = "\n\n".join(f"{each.line}\n{each.advice}" for each in message.alerts)
    if not found.notify(
        title=message.title, body=body, notify_type=kind, body_format=apprise.NotifyFormat.TEXT
    ):
        raise NotSent("a place did not take it")


def _is_good(alert: Alert) -> bool:
    return alert.kind in ("healed", "recovered", "passed", "test")
