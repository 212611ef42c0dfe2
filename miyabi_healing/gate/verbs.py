"""What the gate can ask of a step, one implementation per kind of step (in the modules beside this one)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import singledispatch
from pathlib import Path

from miyabi_healing.host import Host
from miyabi_healing.host.witness import Witness
from miyabi_healing.plan import Step
from miyabi_healing.run_clock import Moment


class Refused(Exception):
    """A step found the world changed at the last moment and left it as it was. The message is the reason."""


@dataclass(frozen=True)
class Context:
    """What steps are carried out with. `state` is the state folder, `run_id` names this pass in it.

    `roots` are the folders in which steps may change something, by the configuration; `step` is the step's number in the
    journal, by which what it put into quarantine is found again. `deadline` is when the healer's time is over (time.monotonic).
    `look` is the one look at who uses what that a step is judged by before it is carried out.
    `now` is the moment at which the step began, `sizes` are the bytes that were measured of what it sets aside.
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
        """That look; whoever needs to know what has changed since asks `host.witness` for another."""
        return self.look or self.host.witness()


@dataclass(frozen=True)
class Done:
    """What applying a step did: bytes freed now, measurements for the report, and what undoing would need."""

    freed: int = 0
    message: str = ""
    details: dict[str, object] = field(default_factory=dict)
    undo: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Stake:
    """What of a step's target somebody could be using: `paths`, or, where only those go, the `parts` of them.

    `judged` says that the step has rules of its own for users who are seen; where there are none, any user keeps it.
    """

    paths: tuple[Path, ...] = ()
    parts: tuple[Path, ...] = ()
    judged: bool = False


@singledispatch
def stake(step: Step) -> Stake:
    """What somebody could be using, and what must not be this program's own. Every kind of step has to say."""
    raise TypeError(f"the gate does not know steps of type {type(step).__name__}")


@singledispatch
def recheck(step: Step, context: Context) -> str | None:
    """The reason why a step must not be carried out (any more); None to go on. Changes nothing."""
    raise TypeError(f"the gate does not know steps of type {type(step).__name__}")


@singledispatch
def apply(step: Step, context: Context) -> Done:
    """Carry a step out. Raises Refused where it found the target changed, OSError and the like where it failed."""
    raise TypeError(f"the gate does not know steps of type {type(step).__name__}")
