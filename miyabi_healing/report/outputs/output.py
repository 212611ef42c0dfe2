"""What an output is given, and how it says that it could not do its work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from miyabi_healing.model.config import Config
    from miyabi_healing.report.alerts.queue import Mail


Document = dict[str, Any]


class Problem(Exception):
    """Why something could not be told; the message is one line and holds no secret."""


@dataclass(frozen=True)
class Told:
    """What an outlet gets: a report, its exit status, how many seconds the pass took.

    `annotate` is the descriptor that GitHub's annotations go to, 0 where there are none; `mail` are
    the alerts to send.
    """

    document: Document
    code: int
    settings: Config
    dry_run: bool
    seconds: float
    annotate: int = 0
    mail: Mail | None = None
