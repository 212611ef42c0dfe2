"""What one run has to tell, in one message, and the channels that it goes through."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from miyabi_healing.report.alerts.alert import WORDS, Alert


@dataclass(frozen=True)
class Message:
    """What one run has to tell, in one message."""

    host: str
    run_id: str
    timestamp: str
    alerts: tuple[Alert, ...]

    @property
    def title(self) -> str:
        """``host: disk_space_critical on / not healed``, or how many things there are to tell."""
        first = self.alerts[0]
        what = (
            f"{first.subject} {WORDS[first.kind]}"
            if len(self.alerts) == 1
            else f"{len(self.alerts)} alerts"
        )
        return f"{self.host}: {what}"

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Message:
        row = json.loads(text)
        told = tuple(Alert(**{**each, "done": tuple(each["done"])}) for each in row.pop("alerts"))
        return cls(**row, alerts=told)


class NotSent(Exception):
    """A message that did not arrive. The text names no address; `hopeless` is whether trying again
    is of no use.
    """

    def __init__(self, reason: str, retry_after: float = 0, hopeless: bool = False) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.hopeless = hopeless


@dataclass(frozen=True)
class Channel:
    """Where messages go. `send` takes a message and how many seconds there are; raises NotSent."""

    name: str
    send: Callable[[Message, float], None]


@dataclass(frozen=True)
class Mail:
    """What there is to send, and to whom: what is queued in a state folder, or `direct`, where
    nothing can be queued.
    """

    to: tuple[Channel, ...]
    state: Path
    direct: Message | None = None
