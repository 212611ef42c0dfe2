"""What an output is, what it is given, and how it says that it could not do its work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from miyabi_healing.model.config import Config
    from miyabi_healing.report.alerts.message import Mail
    from miyabi_healing.report.document_types import Document


class OutputError(Exception):
    """Why an output could not do its work; the message is one line and holds no secret."""


@dataclass(frozen=True)
class OutputRequest:
    """What an output gets: a report, its exit status, how many seconds the run took.

    `annotate` is the descriptor that GitHub's annotations go to, 0 where there are none; `mail` are
    the alerts to send; `healers` gives the names of all healers there are, and raises what reading
    their folders raises.
    """

    document: Document
    code: int
    settings: Config
    dry_run: bool
    seconds: float
    annotate: int = 0
    mail: Mail | None = None
    healers: Callable[[], Iterable[str]] = tuple


class Setup(Protocol):
    """What decides which outputs are wanted; an `OutputRequest` has it as well."""

    @property
    def settings(self) -> Config: ...
    @property
    def dry_run(self) -> bool: ...
    @property
    def annotate(self) -> int: ...
    @property
    def mail(self) -> Mail | None: ...


class Output(Protocol):
    """Where a report goes."""

    @property
    def name(self) -> str:
        """What it is called where it is set up, and where it complains."""

    @property
    def for_all(self) -> bool:
        """Whether it speaks for all checks together, so that a run of a part has nothing for it."""

    def wanted(self, given: Setup) -> bool:
        """Whether it is set up, and has anything to do with such a run."""

    def send(self, given: OutputRequest) -> None:
        """Do its work. Raises OutputError, NoAnswer."""
