"""Where reports and alerts go besides standard output, one outlet a module."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from miyabi_healing import paths, stopping
from miyabi_healing.config import Alerts, Config

if TYPE_CHECKING:
    from miyabi_healing.outbox import Channel

SECRETS = ("SLACK_WEBHOOK_URL", "MIYABI_HEALING_APPRISE_URLS")


def channels(settings: Config, slack: bool) -> tuple[Channel, ...]:
    """Who is told what has changed: nobody, where nobody asked for it. Raises ConfigError."""
    if not slack and settings.alerts == Alerts() and not any(name in os.environ for name in SECRETS):
        return ()
    from miyabi_healing import outbox

    return outbox.channels(settings.alerts, slack)


def tell(document: dict[str, Any], code: int, settings: Config, to: Sequence[Channel], dry_run: bool) -> int:
    """Tell them; returns the exit status, which only being asked to stop can change. A pass that was cut short is not told."""
    if to and not stopping.received:
        from miyabi_healing import outbox

        with contextlib.suppress(stopping.Asked):
            outbox.tell(document, settings, to, paths.state_folder(), dry_run)
    return 128 + stopping.received if stopping.received else code
