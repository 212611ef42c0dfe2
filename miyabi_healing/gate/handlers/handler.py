"""What the gate can ask of a step, one implementation per kind of step (in the modules beside this
one).
"""

from __future__ import annotations

from functools import singledispatch

from miyabi_healing.gate.primitives.context import Context, Done, Stake
from miyabi_healing.model.steps import Step


@singledispatch
def stake(step: Step) -> Stake:
    """What somebody could be using, and what must not be this program's own. Every kind of step has
    to say.
    """
    raise TypeError(f"the gate does not know steps of type {type(step).__name__}")


@singledispatch
def recheck(step: Step, context: Context) -> str | None:
    """The reason why a step must not be carried out (any more); None to go on. Changes nothing."""
    raise TypeError(f"the gate does not know steps of type {type(step).__name__}")


@singledispatch
def apply(step: Step, context: Context) -> Done:
    """Carry a step out. Raises Refused where it found the target changed, OSError and the like
    where it failed.
    """
    raise TypeError(f"the gate does not know steps of type {type(step).__name__}")
