"""What the gate asks about every step's target, whatever its healer has looked at: is it our own,
and could it be in use?
"""

from __future__ import annotations

from miyabi_healing.gate.handlers.table import target_use
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.host.users import words
from miyabi_healing.model.steps import Step
from miyabi_healing.state.own_state import HOLDS_OURS, OwnState


def is_ours(step: Step, context: Context) -> str | None:
    """Why a step must not be carried out: it would touch this program's own files. Raises TypeError
    for an unknown kind.
    """
    at, own = target_use(step), OwnState(context.state, context.host.config)
    for path in at.paths:
        reason = own.objection(path)
        if reason == HOLDS_OURS and at.parts:
            reason = next(filter(None, map(own.objection, at.parts)), None)
        if reason:
            return reason
    return None


def in_use(step: Step, context: Context) -> str | None:
    """Why a step must not be carried out: somebody uses its target, or could without being seen.
    Raises OSError.
    """
    at = target_use(step)
    for path in at.paths:
        if not at.judged and (user := context.witness.user(path)):
            return f"in use {words(user)}"
        if reason := context.witness.unseen(path):
            return f"it could be in use: {reason}"
    return None
