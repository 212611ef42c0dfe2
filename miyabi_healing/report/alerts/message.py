"""What one pass has to tell, in one message, whatever channel it goes through."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from miyabi_healing.report.alerts import decide
from miyabi_healing.report.alerts.decide import Alert


@dataclass(frozen=True)
class Message:
    """What one pass has to tell, in one message."""

    host: str
    run_id: str
    timestamp: str
    alerts: tuple[Alert, ...]

    @property
    def title(self) -> str:
        """``host: disk_space_critical on / not healed``, or how many things there are to tell."""
        first = self.alerts[0]
        what = (
            f"{first.subject} {decide.WORDS[first.kind]}"
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
