"""What steps are carried out with, and what carrying one out came to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from miyabi_healing.host.readings import Host
from miyabi_healing.host.users import Witness
from miyabi_healing.state.run_clock import Moment
from miyabi_healing.support.command_errors import OutOfTime


class Refused(Exception):
    """A step found the world changed at the last moment and left it as it was. The message is the
    reason.
    """


@dataclass(frozen=True)
class Context:
    """What steps are carried out with. `state` is the state folder, `run_id` names this run in it.

    `roots` are the folders in which steps may change something, by the configuration; `step` is the
    step's number in the journal, by which what it put into quarantine is found again. `deadline` is
    when the healer's time is over (time.monotonic). `look` is the one look at who uses what that a
    step is judged by before it is carried out. `now` is the moment at which the step began, `sizes`
    are the bytes that were measured of what it sets aside.
    """

    host: Host
    run_id: str
    state: Path
    roots: tuple[Path, ...] = ()
    step: int = 0
    deadline: float = math.inf
    now: Moment | None = None
    sizes: Mapping[Path, int] = field(default_factory=dict)
    look: Witness | None = field(default=None, compare=False)

    @property
    def witness(self) -> Witness:
        """That look; whoever needs to know what has changed since asks `host.witness` for
        another.
        """
        return self.look or self.host.witness()


@dataclass(frozen=True)
class StepResult:
    """What applying a step did: bytes freed now, measurements for the report, what undoing would
    need, and numbers that count in the action's details. `later` is what the archive that it made
    takes, which is free once the quarantine is emptied; None where it made none. `in_vain` says
    that it was to free something, and freed nothing; `stop` why nothing more of its plan may be
    carried out.
    """

    freed: int = 0
    message: str = ""
    details: dict[str, object] = field(default_factory=dict)
    undo: dict[str, object] = field(default_factory=dict)
    measured: Mapping[str, int] = field(default_factory=dict)
    in_vain: bool = False
    stop: str = ""
    later: int | None = None


@dataclass(frozen=True)
class TargetUse:
    """What of a step's target somebody could be using: `paths`, or, where only those go, the
    `parts` of them.

    `judged` says that the step has rules of its own for users who are seen; where there are none,
    any user keeps it.
    """

    paths: tuple[Path, ...] = ()
    parts: tuple[Path, ...] = ()
    judged: bool = False


def error_text(error: BaseException) -> str:
    """An error in one line: its kind only where its text alone would not be understood."""
    text = " ".join(str(error).split())
    return (
        text
        if isinstance(error, (OSError, Refused, OutOfTime)) and text
        else f"{type(error).__name__}: {text}"
    )
